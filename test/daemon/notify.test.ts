// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { Notifier, takeServiceManager } from '../../src/daemon/notify.js';
import { collectingLogger, type LogLine } from '../dataplane/lines.js';

const PID = 4711;
const SOCKET = '/run/systemd/notify';

interface Told {
  readonly notifier: Notifier;
  readonly sent: string[];
  readonly log: LogLine[];
  fail: boolean;
}

function told(socketPath: string | null = SOCKET): Told {
  const sent: string[] = [];
  const log: LogLine[] = [];
  const send = (path: string, state: string): void => {
    if (all.fail) throw new Error('nobody is there');
    if (path !== SOCKET) throw new Error(`sent to ${path}`);
    sent.push(state);
  };
  const notifier = new Notifier({
    socketPath,
    pid: PID,
    send,
    monotonicUs: () => 12_345n,
    logger: collectingLogger(log),
  });
  const all: Told = { notifier, sent, log, fail: false };
  return all;
}

void test('without a service manager nobody is told and nothing is watched', (t) => {
  t.same(takeServiceManager({}, PID), { socketPath: null, watchdogMs: null });
  t.end();
});

for (const socketPath of ['/run/systemd/notify', '@/org/freedesktop/systemd1/notify']) {
  void test(`the service manager listens at ${socketPath}`, (t) => {
    t.same(takeServiceManager({ NOTIFY_SOCKET: socketPath }, PID), {
      socketPath,
      watchdogMs: null,
    });
    t.end();
  });
}

for (const watchdogPid of [{ WATCHDOG_PID: String(PID) }, {}]) {
  void test(`the watchdog with ${JSON.stringify(watchdogPid)} is for this process`, (t) => {
    const env = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '30000000', ...watchdogPid };
    t.equal(takeServiceManager(env, PID).watchdogMs, 30_000);
    t.end();
  });
}

void test('the watchdog of another process is not ours to feed', (t) => {
  const env = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' };
  t.equal(takeServiceManager(env, PID).watchdogMs, null);
  t.end();
});

void test('a watchdog without a socket cannot be fed', (t) => {
  t.equal(takeServiceManager({ WATCHDOG_USEC: '30000000' }, PID).watchdogMs, null);
  t.end();
});

for (const socketPath of ['notify', '@', '/', 'vsock:2:9999', ' /run/x']) {
  void test(`NOTIFY_SOCKET=${JSON.stringify(socketPath)} is refused`, (t) => {
    t.throws(() => takeServiceManager({ NOTIFY_SOCKET: socketPath }, PID), {
      code: 'ERR_NOTIFY',
      message: `begins with / or @, got ${JSON.stringify(socketPath)}`,
    });
    t.end();
  });
}

for (const us of ['', '0', '-1', '1e9', ' 30000000', '999', '86400000001', 'never']) {
  void test(`WATCHDOG_USEC=${JSON.stringify(us)} is refused with its range`, (t) => {
    t.throws(() => takeServiceManager({ NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: us }, PID), {
      code: 'ERR_NOTIFY',
      message: `from 1000 to 86400000000, got ${JSON.stringify(us)}`,
    });
    t.end();
  });
}

void test('the variables are gone before a child could speak for the daemon', (t) => {
  const env = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '1000', WATCHDOG_PID: '1', PATH: '/bin' };
  takeServiceManager(env, PID);
  t.same(env, { PATH: '/bin' });
  t.end();
});

void test('they are gone too when they are refused', (t) => {
  const env: Record<string, string> = { NOTIFY_SOCKET: 'x' };
  t.throws(() => takeServiceManager(env, PID));
  t.same(env, {});
  t.end();
});

void test('each word is one datagram', (t) => {
  const { notifier, sent } = told();
  notifier.ready('fine');
  notifier.status('better');
  notifier.alive();
  notifier.reloading();
  t.same(sent, [
    `READY=1\nMAINPID=${PID}\nSTATUS=fine`,
    'STATUS=better',
    'WATCHDOG=1',
    'RELOADING=1\nMONOTONIC_USEC=12345\nSTATUS=reading the config and the files of TLS anew',
  ]);
  t.end();
});

void test('nothing takes back that the daemon stops', (t) => {
  const { notifier, sent } = told();
  notifier.stopping();
  notifier.ready('fine');
  notifier.alive();
  t.same(sent, ['STOPPING=1\nSTATUS=taking disks offline']);
  t.end();
});

void test('without a socket nothing is sent', (t) => {
  const { notifier, sent } = told(null);
  notifier.ready('fine');
  notifier.stopping();
  t.same(sent, []);
  t.end();
});

void test('a service manager that is away is logged once each time it goes', (t) => {
  const all = told();
  for (const fail of [true, true, false, true]) {
    all.fail = fail;
    all.notifier.alive();
  }
  t.same(
    all.log.map(({ level, message }) => [level, message]),
    [
      ['warn', 'the service manager cannot be told'],
      ['warn', 'the service manager cannot be told'],
    ],
  );
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { NotifySocket } from '../support/notify-socket.js';
import { endProcess, eventually } from '../support/process.js';
import { Stack } from '../support/stack.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

interface T {
  teardown(fn: () => unknown): unknown;
}

interface Service {
  readonly daemon: ChildProcess;
  output: string;
}

async function directory(t: T): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-unit-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

async function start(t: T, dir: string, env: Record<string, string>): Promise<Service> {
  const config = join(dir, 'keyhold.toml');
  const lines = [
    `state_dir = "${dir}/state"`,
    `[nbd]\nsocket = "${dir}/nbd.sock"`,
    `[admin]\nsocket = "${dir}/admin.sock"`,
    '[metrics]\nlisten = ""',
    '[data_plane]\nshards = 2',
  ];
  await writeFile(config, lines.join('\n'));
  const daemon = spawn(process.execPath, [main, 'daemon', '--config', config], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const service: Service = { daemon, output: '' };
  for (const stream of [daemon.stdout, daemon.stderr]) {
    stream.on('data', (chunk: Buffer) => (service.output += chunk.toString()));
  }
  t.teardown(() => endProcess(daemon, 'SIGKILL'));
  return service;
}

async function watched(t: T): Promise<Service & { manager: NotifySocket }> {
  const dir = await directory(t);
  const manager = await NotifySocket.bind(join(dir, 'notify.sock'));
  t.teardown(() => manager.close());
  const env = { NOTIFY_SOCKET: manager.address, WATCHDOG_USEC: '1000000' };
  return { ...(await start(t, dir, env)), manager };
}

void test('a daemon is ready when it says so, and says who it is', async (t) => {
  const { daemon, manager } = await watched(t);
  const ready = await manager.next(/^READY=1$/m);
  t.equal(
    ready,
    `READY=1\nMAINPID=${String(daemon.pid)}\nSTATUS=0 of 0 disks online, 0 of 0 sets granted`,
  );
  t.equal(manager.states[0], ready, 'nothing is said before');
});

void test('its watchdog is fed again and again', async (t) => {
  const { manager } = await watched(t);
  await eventually('it is fed', () => manager.count('WATCHDOG=1') >= 4);
});

void test('SIGHUP is a reload, from its beginning to its end', async (t) => {
  const { daemon, manager } = await watched(t);
  await manager.next(/^READY=1$/m);
  const before = manager.states.length;
  daemon.kill('SIGHUP');
  await manager.next(/^RELOADING=1\nMONOTONIC_USEC=\d+\n/, before);
  await manager.next(/^READY=1$/m, before);
});

void test('SIGTERM ends it, and that is the last thing said', async (t) => {
  const { daemon, manager } = await watched(t);
  await manager.next(/^READY=1$/m);
  const exit = once(daemon, 'exit');
  daemon.kill('SIGTERM');
  await manager.next(/^STOPPING=1$/m);
  t.same(await exit, [0, null]);
  t.match(manager.states.at(-1), /^STOPPING=1$/m);
});

void test('a control plane that hangs is not fed', async (t) => {
  const { daemon, manager } = await watched(t);
  await eventually('it is fed', () => manager.count('WATCHDOG=1') >= 2);
  daemon.kill('SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 200));
  const fed = manager.count('WATCHDOG=1');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  t.equal(manager.count('WATCHDOG=1'), fed);
});

void test('a service manager that went away is no reason not to serve', async (t) => {
  const dir = await directory(t);
  const service = await start(t, dir, { NOTIFY_SOCKET: join(dir, 'gone.sock') });
  await eventually('it is ready', () => service.output.includes('"ready"'));
  await eventually('it is said', () =>
    service.output.includes('the service manager cannot be told'),
  );
});

void test('a watchdog that cannot be is refused at the start', async (t) => {
  const dir = await directory(t);
  const env = { NOTIFY_SOCKET: join(dir, 'n.sock'), WATCHDOG_USEC: 'soon' };
  const service = await start(t, dir, env);
  const [status] = (await once(service.daemon, 'close')) as [number];
  t.equal(status, 2);
  t.match(service.output, '[ERR_NOTIFY]');
});

void test('the status line follows disks and sets', async (t) => {
  const dir = await directory(t);
  const manager = await NotifySocket.bind(join(dir, 'notify.sock'));
  t.teardown(() => manager.close());
  const stack = await Stack.start({ through: ['env', `NOTIFY_SOCKET=${manager.address}`] });
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'disk' });
  await manager.next(/^STATUS=1 of 1 disk online, /);
  await stack.ok('disk', 'detach', 'disk');
  await manager.next(/^STATUS=0 of 1 disk online, /);
});

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { test } from 'tap';
import type { AdminEvent } from '../../src/admin/api.js';
import { endProcess, eventually } from '../support/process.js';
import { FakeAdmin } from './support/fake-admin.js';
import { cli } from './support/run-cli.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

const event = (seq: number, kind: string, rest: object): AdminEvent => ({
  seq,
  time: '2026-01-01T12:00:00.000Z',
  kind,
  ...rest,
});

const EVENTS = [
  event(1, 'disk-state', { disk: 'a', set: 's' }),
  event(2, 'disk-state', { disk: 'b', set: 's' }),
  event(3, 'verdict', { set: 's' }),
  event(4, 'verdict', { set: 'other' }),
  event(5, 'command', { command: 'disk-attach', target: 'a' }),
  event(6, 'command', { command: 'set-check', target: 'a' }),
  event(7, 'daemon-stop', {}),
];

async function serving(
  t: { teardown(fn: () => unknown): unknown },
  events: readonly AdminEvent[],
): Promise<FakeAdmin> {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  fake.events(events);
  return fake;
}

for (const [args, expected] of [
  [[], [1, 2, 3, 4, 5, 6, 7]],
  [
    ['--disk', 'a'],
    [1, 5],
  ],
  [['--disk', 's'], []],
  [
    ['--set', 's'],
    [1, 2, 3],
  ],
  [['--set', 'a'], [6]],
  [['--set', 's', '--disk', 'b'], [2]],
  [
    ['--kind', 'verdict'],
    [3, 4],
  ],
  [['--kind', 'disk'], []],
] as const) {
  void test(`events ${args.join(' ')} are those and no others`, async (t) => {
    const fake = await serving(t, EVENTS);
    const { stdout } = await cli(['events', '--json', ...args, '--socket', fake.socketPath]);
    const lines = stdout.split('\n').filter((line) => line !== '');
    const seqs = lines.map((line) => (JSON.parse(line) as AdminEvent).seq);
    t.strictSame(seqs, expected);
  });
}

void test('--count counts events that are printed, not those that are left out', async (t) => {
  const fake = await serving(t, EVENTS);
  const args = ['events', '--set', 's', '--count', '3', '--socket', fake.socketPath];
  const { stdout } = await cli(args);
  t.strictSame(
    [...stdout.matchAll(/#(\d)/g)].map((match) => match[1]),
    ['1', '2', '3'],
  );
});

void test('events --follow without a daemon at its start is a failure', async (t) => {
  const { status, stderr } = await cli(['events', '--follow', '--socket', '/none/x']);
  t.equal(status, 6);
  t.match(stderr, 'ERR_ADMIN_UNREACHABLE');
});

interface Follower {
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

function follow(t: { teardown(fn: () => unknown): unknown }, socket: string): Follower {
  const child = spawn(process.execPath, [main, 'events', '--follow', '--json', '--socket', socket]);
  t.teardown(() => endProcess(child, 'SIGKILL'));
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return { child, stdout: () => stdout, stderr: () => stderr };
}

void test('events --follow goes on when the daemon is back, and Ctrl-C ends it in order', async (t) => {
  const fake = await serving(t, EVENTS.slice(0, 1));
  const { child, stdout, stderr } = follow(t, fake.socketPath);
  await eventually('the first event', () => stdout().includes('"seq":1'));
  fake.events(EVENTS.slice(2, 3));
  await eventually('an event of the next stream', () => stdout().includes('"seq":3'));
  t.match(stderr(), /broke off.*\n.*following again/);
  for (const line of stdout().trimEnd().split('\n')) t.ok(JSON.parse(line), line);
  await endProcess(child, 'SIGINT');
  t.equal(child.exitCode, 0);
});

void test('Ctrl-C ends events --follow while the daemon is away', async (t) => {
  const fake = await FakeAdmin.start();
  fake.events(EVENTS);
  const { child, stderr } = follow(t, fake.socketPath);
  await eventually('the end of the stream', () => stderr().includes('broke off'));
  await fake.stop();
  await endProcess(child, 'SIGINT');
  t.equal(child.exitCode, 0);
});

void test('an answer that is no stream of events ends events --follow with an error', async (t) => {
  const fake = await serving(t, EVENTS);
  const { child, stderr } = follow(t, fake.socketPath);
  await eventually('the end of the stream', () => stderr().includes('broke off'));
  fake.fail('GET /v1/events', { kind: 'forbidden', code: 'ERR_ADMIN_FORBIDDEN', message: 'no' });
  await eventually('its end', () => child.exitCode !== null);
  t.equal(child.exitCode, 7);
});

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { endProcess, eventually, run } from '../support/process.js';
import { FakeAdmin } from './support/fake-admin.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;
const supervise = new URL('./fixtures/supervise.mjs', import.meta.url).pathname;

type T = { teardown(fn: () => unknown): unknown };

async function directory(t: T): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-cli-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function keyhold(...args: string[]): ReturnType<typeof run> {
  return run(process.execPath, [main, ...args], { env: { NO_COLOR: '' } });
}

/** The first output of a process, as far as `pattern` needs it. */
async function printed(child: ChildProcess, pattern: RegExp): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await eventually(`output ${String(pattern)}`, () => pattern.test(text));
  return text;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

void test('the program exits with the code of the failure', async (t) => {
  const { status, stdout, stderr } = await keyhold('disk', 'list', '--socket', '/none/x');
  t.equal(status, 6);
  t.equal(stdout, '');
  t.match(stderr, /^keyhold: error: .*\/none\/x.* \[ERR_ADMIN_UNREACHABLE\]\nhint: /);
});

void test('nothing is coloured in a pipe', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const { status, stdout } = await keyhold('disk', 'list', '--socket', fake.socketPath);
  t.equal(status, 0);
  t.notMatch(stdout, '\u001b');
});

void test('a reader that goes away is no error', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const command = `"${process.execPath}" "${main}" help; echo "status $?" >&2`;
  const { stderr } = await run('bash', ['-c', `{ ${command}; } | true`]);
  t.equal(stderr, 'status 0\n');
});

void test('events end quietly when their reader goes away', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const events = Array.from({ length: 5000 }, (_, seq) => ({
    seq,
    time: '2026-01-01T00:00:00.000Z',
    kind: 'test',
  }));
  fake.events(events);
  const command = `"${process.execPath}" "${main}" events --socket "${fake.socketPath}"`;
  const { stdout, stderr } = await run('bash', ['-c', `${command} | head -n 1`]);
  t.equal(stdout, '2026-01-01T00:00:00.000Z #0 test\n');
  t.equal(stderr, '');
});

void test('children do not outlive a supervisor that was killed', async (t) => {
  const dir = await directory(t);
  const dev = spawn(process.execPath, [supervise, dir], { stdio: ['ignore', 'pipe', 'pipe'] });
  await printed(dev, /^ready$/m);
  const log = await readFile(join(dir, 'order.log'), 'utf8');
  const pids = [...log.matchAll(/started (\d+)/g)].map((match) => Number(match[1]));
  t.equal(pids.length, 2);
  await endProcess(dev, 'SIGKILL');
  await eventually('both children are gone', () => !pids.some(isAlive));
  t.match(await readFile(join(dir, 'order.log'), 'utf8'), /daemon stdin/);
  t.match(await readFile(join(dir, 'order.log'), 'utf8'), /vault stdin/);
});

void test('a new dev waits for the children of one that was killed', async (t) => {
  const dir = await directory(t);
  const first = spawn(process.execPath, [supervise, dir], { stdio: ['ignore', 'pipe', 'pipe'] });
  await printed(first, /^ready$/m);
  await endProcess(first, 'SIGKILL');
  const second = spawn(process.execPath, [supervise, dir], { stdio: ['ignore', 'pipe', 'pipe'] });
  await printed(second, /^ready$/m);
  await endProcess(second, 'SIGTERM');
  t.equal(second.exitCode, 0);
});

void test('vault serve prints one ready line and stops on SIGTERM', async (t) => {
  const dir = await directory(t);
  const vault = spawn(process.execPath, [main, 'vault', 'serve', '--state', dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ready = JSON.parse(await printed(vault, /\n/)) as Record<string, unknown>;
  t.match(ready, { ready: true, url: /^https:\/\/127\.0\.0\.1:\d+$/ });
  t.equal(ready['controlSocket'], join(dir, 'control.sock'));
  await endProcess(vault, 'SIGTERM');
  t.equal(vault.exitCode, 0);
});

void test('vault serve --stop-on-stdin-end stops when its input ends', async (t) => {
  const dir = await directory(t);
  const args = [main, 'vault', 'serve', '--state', dir, '--stop-on-stdin-end'];
  const vault = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  await printed(vault, /\n/);
  vault.stdin.end();
  await once(vault, 'exit');
  t.equal(vault.exitCode, 0);
});

void test('vault serve refuses an address beyond loopback', async (t) => {
  const args = ['vault', 'serve', '--state', await directory(t), '--listen', '0.0.0.0:0'];
  const { status, stderr } = await keyhold(...args);
  t.equal(status, 2);
  t.match(stderr, /0\.0\.0\.0.*\[ERR_DEVVAULT_NOT_LOOPBACK\]/);
});

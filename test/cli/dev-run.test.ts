// SPDX-License-Identifier: Apache-2.0
import { EventEmitter } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Status } from '../../src/admin/api.js';
import { codeOf } from '../../src/base/errors.js';
import { lockDirectory } from '../../src/cli/dev/lock.js';
import { runDev } from '../../src/cli/dev/run-dev.js';
import { devPaths } from '../../src/cli/dev/state-directory.js';
import { eventually } from '../support/process.js';

const child = new URL('./fixtures/fake-child.mjs', import.meta.url).pathname;

interface Flags {
  readonly vault?: string[];
  readonly daemon?: string[];
  readonly demoDisk?: boolean;
  readonly startMsMax?: number;
  readonly createMsMax?: number;
  readonly stopMsMax?: number;
}

class Dev {
  readonly dir: string;
  readonly signals = new EventEmitter();
  readonly notes: string[] = [];
  readonly ready: Promise<Status>;
  readonly exit: Promise<number>;

  constructor(dir: string, flags: Flags) {
    this.dir = dir;
    const run = (role: string, extra: string[] = []): { command: string; args: string[] } => ({
      command: process.execPath,
      args: [child, role, dir, ...extra],
    });
    let onReady: (status: Status) => void = () => undefined;
    const ready = new Promise<Status>((resolve) => {
      onReady = resolve;
    });
    this.exit = runDev({
      paths: devPaths(dir),
      demoDisk: flags.demoDisk ?? true,
      vaultCommand: run('vault', flags.vault),
      daemonCommand: run('daemon', flags.daemon),
      signals: this.signals,
      note: (line) => this.notes.push(line),
      onReady,
      startMsMax: flags.startMsMax ?? 20_000,
      createMsMax: flags.createMsMax ?? 20_000,
      stopMsMax: flags.stopMsMax ?? 5000,
    });
    // A start that fails must fail the test, not leave it waiting.
    this.ready = Promise.race([ready, this.exit.then(() => ready)]);
    this.ready.catch(() => undefined);
  }

  /** What the children wrote about their ends. */
  async order(): Promise<string[]> {
    return (await readFile(join(this.dir, 'order.log'), 'utf8')).trimEnd().split('\n');
  }

  async pids(): Promise<number[]> {
    const order = await this.order();
    return order.flatMap((line) => (/started (\d+)/.exec(line) ?? []).slice(1).map(Number));
  }
}

type T = { teardown(fn: () => unknown): unknown };

async function directory(t: T): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-dev-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

async function start(t: T, flags: Flags = {}): Promise<Dev> {
  return new Dev(await directory(t), flags);
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it did not reject');
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

void test('a first start makes key, set and disk, and attaches it', async (t) => {
  const dev = await start(t);
  await dev.ready;
  const requests = (await dev.order()).filter((line) => line.includes('POST'));
  t.strictSame(requests, [
    'vault POST /keys',
    'daemon POST /v1/sets',
    'daemon POST /v1/disks',
    'daemon POST /v1/disks/demo/attach',
  ]);
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
});

void test('--no-demo-disk makes key and set only', async (t) => {
  const dev = await start(t, { demoDisk: false });
  await dev.ready;
  const requests = (await dev.order()).filter((line) => line.includes('POST'));
  t.strictSame(requests, ['vault POST /keys', 'daemon POST /v1/sets']);
  dev.signals.emit('SIGTERM');
  t.equal(await dev.exit, 0);
});

void test('a signal stops the daemon first and then the vault', async (t) => {
  const dev = await start(t);
  await dev.ready;
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
  t.strictSame((await dev.order()).slice(-2), ['daemon SIGTERM', 'vault SIGTERM']);
  for (const pid of await dev.pids()) t.notOk(isAlive(pid));
});

void test('a child that does not stop in time is killed', async (t) => {
  const dev = await start(t, { daemon: ['--ignore-sigterm'], stopMsMax: 200 });
  await dev.ready;
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
  for (const pid of await dev.pids()) t.notOk(isAlive(pid));
  t.strictSame((await dev.order()).slice(-2), ['daemon SIGTERM', 'vault SIGTERM']);
});

void test('a second Ctrl-C kills at once', async (t) => {
  const dev = await start(t, { daemon: ['--ignore-sigterm'], stopMsMax: 60_000 });
  await dev.ready;
  dev.signals.emit('SIGINT');
  await new Promise((resolve) => setTimeout(resolve, 700));
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 130);
  for (const pid of await dev.pids()) t.notOk(isAlive(pid));
});

void test('one key press that npm passes on a second time is one', async (t) => {
  const dev = await start(t);
  await dev.ready;
  dev.signals.emit('SIGINT');
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
  t.strictSame((await dev.order()).slice(-2), ['daemon SIGTERM', 'vault SIGTERM']);
});

void test('a daemon that dies ends the vault too, with an error that shows its log', async (t) => {
  const dev = await start(t, { daemon: ['--die'] });
  const error = await rejection(dev.exit);
  t.equal(codeOf(error), 'ERR_CLI_DEV_CHILD');
  t.match(error.message, /daemon.*exit status 3.*daemon\.log/);
  t.ok(dev.notes.some((line) => line.includes('the reason of the death')));
  t.equal((await dev.order()).at(-1), 'vault SIGTERM');
  for (const pid of await dev.pids()) t.notOk(isAlive(pid));
});

void test('a daemon that dies after ready ends everything with an error', async (t) => {
  const dev = await start(t, { daemon: ['--die-later'] });
  await dev.ready;
  t.equal(codeOf(await rejection(dev.exit)), 'ERR_CLI_DEV_CHILD');
  t.equal((await dev.order()).at(-1), 'vault SIGTERM');
});

void test('a vault that dies on the way up is an error, and no daemon is started', async (t) => {
  const dev = await start(t, { vault: ['--die'] });
  const error = await rejection(dev.exit);
  t.equal(codeOf(error), 'ERR_CLI_DEV_CHILD');
  t.match(error.message, /vault/);
  t.notOk((await dev.order()).some((line) => line.startsWith('daemon')));
});

void test('a program that cannot be started is an error, not a hang', async (t) => {
  const dir = await directory(t);
  const nothing = { command: '/nonexistent/program', args: [] };
  const exit = runDev({
    paths: devPaths(dir),
    demoDisk: true,
    vaultCommand: nothing,
    daemonCommand: nothing,
    signals: new EventEmitter(),
    note: () => undefined,
    onReady: () => undefined,
  });
  t.match((await rejection(exit)).message, /vault.*ENOENT/);
});

void test('a daemon that never answers is an error within the bound', async (t) => {
  const dev = await start(t, { daemon: ['--mute'], startMsMax: 700 });
  const error = await rejection(dev.exit);
  t.equal(codeOf(error), 'ERR_CLI_DEV_TIMEOUT');
  t.match(error.message, /daemon.*700 ms/);
  for (const pid of await dev.pids()) t.notOk(isAlive(pid));
});

void test('a signal during the start ends it cleanly', async (t) => {
  const dev = await start(t, { daemon: ['--mute'] });
  await eventually('daemon started', async () =>
    (await dev.order().catch(() => [])).some((line) => line.startsWith('daemon started')),
  );
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
  for (const pid of await dev.pids()) t.notOk(isAlive(pid));
});

void test('with its key disabled the disk is reported and waited for', async (t) => {
  const dev = await start(t, { daemon: ['--denied'] });
  await eventually('a note about the disk', () =>
    dev.notes.some((line) => line === 'disk demo is offline (key-disabled): denied'),
  );
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
});

void test('a creation that gets no answer is tried again, with a note', async (t) => {
  const dev = await start(t, { daemon: ['--no-answer=2'] });
  await dev.ready;
  const requests = (await dev.order()).filter((line) => line.includes('POST'));
  t.strictSame(requests, [
    'vault POST /keys',
    'daemon POST /v1/sets',
    'daemon POST /v1/sets',
    'daemon POST /v1/sets',
    'daemon POST /v1/disks',
    'daemon POST /v1/disks/demo/attach',
  ]);
  const note = 'set demo is not there yet, trying again: the vault took 5 s';
  t.strictSame(
    dev.notes.filter((line) => line.includes('again')),
    [note, note],
  );
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
});

void test('what was created although the answer came too late is not created twice', async (t) => {
  const dev = await start(t, { daemon: ['--late-answer=2'] });
  await dev.ready;
  const requests = (await dev.order()).filter((line) => line.includes('POST'));
  t.strictSame(requests, [
    'vault POST /keys',
    'daemon POST /v1/sets',
    'daemon POST /v1/disks',
    'daemon POST /v1/disks/demo/attach',
  ]);
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
});

void test('a creation that never gets an answer is an error within the bound', async (t) => {
  const dev = await start(t, { daemon: ['--no-answer=1000'], createMsMax: 1500 });
  const error = await rejection(dev.exit);
  t.match(error, { kind: 'unavailable', message: 'the vault took 5 s' });
  const requests = (await dev.order()).filter((line) => line.includes('POST /v1/sets'));
  t.ok(requests.length >= 2, `${requests.length} attempts`);
  for (const pid of await dev.pids()) t.notOk(isAlive(pid));
});

void test('a signal between two attempts ends everything cleanly', async (t) => {
  const dev = await start(t, { daemon: ['--no-answer=1000'] });
  await eventually('a second attempt is due', () =>
    dev.notes.some((line) => line.includes('trying again')),
  );
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
});

void test('a second dev on the same directory is refused and names the first', async (t) => {
  const dev = await start(t);
  await dev.ready;
  const error = await rejection(new Dev(`${dev.dir}/.`, {}).exit);
  t.equal(codeOf(error), 'ERR_CLI_DEV_RUNNING');
  t.match(error.message, `pid ${String(process.pid)}`);
  dev.signals.emit('SIGINT');
  t.equal(await dev.exit, 0);
});

void test('the directory can be used again after a stop, with the same config', async (t) => {
  const first = await start(t);
  await first.ready;
  const config = await readFile(join(first.dir, 'keyhold.toml'), 'utf8');
  first.signals.emit('SIGINT');
  await first.exit;
  const second = new Dev(first.dir, {});
  await second.ready;
  second.signals.emit('SIGINT');
  t.equal(await second.exit, 0);
  t.equal(await readFile(join(first.dir, 'keyhold.toml'), 'utf8'), config);
});

void test('a lock is free again when it is released', async (t) => {
  const dir = await directory(t);
  await (await lockDirectory(dir)).release();
  await (await lockDirectory(dir)).release();
  t.pass();
});

void test('the directory is closed to others', async (t) => {
  const dev = await start(t);
  await dev.ready;
  t.equal((await stat(dev.dir)).mode & 0o777, 0o700);
  t.equal((await stat(join(dev.dir, 'keyhold.toml'))).mode & 0o777, 0o600);
  dev.signals.emit('SIGINT');
  await dev.exit;
});

void test('a directory too deep for socket paths is refused with both lengths', (t) => {
  try {
    devPaths(`/tmp/${'x'.repeat(100)}`);
    t.fail('it was taken');
  } catch (error) {
    t.equal(codeOf(error), 'ERR_CLI_STATE_DIRECTORY');
    t.match((error as Error).message, /1\d\d bytes, at most 107 fit/);
  }
  t.end();
});

void test('a state directory that is a file is refused', async (t) => {
  const { exit } = new Dev('/proc/version', {});
  t.match(await rejection(exit), { code: 'ERR_CLI_STATE_DIRECTORY' });
});

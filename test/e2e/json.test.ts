// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { JSON_SHAPES } from '../../src/cli/json/shapes.js';
import { endProcess, eventually } from '../support/process.js';
import { Stack } from '../support/stack.js';

/* The output of every command of a real system, as docs/JSON.md says that it is. */

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

type T = Test;

const covered = new Map<string, Set<number>>();

/**
 * One of the command's shapes fits, and says all: what it does not know it would leave out. With
 * `index` that very one.
 */
function check(t: T, command: string, value: unknown, index = 0): void {
  const shape = JSON_SHAPES[command]?.[index];
  if (shape === undefined) throw new Error(`no shape ${String(index)} of ${command}`);
  const parsed = shape.schema.safeParse(value);
  t.ok(parsed.success, `${command}: ${parsed.error?.message ?? ''}`);
  t.strictSame(parsed.data, value, `${command} has nothing that is not documented`);
  covered.set(command, (covered.get(command) ?? new Set()).add(index));
}

/** The first object of a process that prints one a line. */
async function firstLineOf(t: T, ...args: string[]): Promise<unknown> {
  const child = spawn(process.execPath, ['--no-experimental-fetch', main, ...args, '--json'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => endProcess(child, 'SIGTERM'));
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await Promise.race([eventually(args[0] ?? '', () => text.includes('\n')), once(child, 'exit')]);
  return JSON.parse(text.split('\n')[0] ?? '');
}

async function directory(t: T): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-json-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

void test('the output of every command has its documented shape', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const dir = await directory(t);
  /** Runs it, whatever it exits with: a denied key has a shape too. */
  const say = async (
    command: string,
    rest: readonly string[] = [],
    index = 0,
  ): Promise<unknown> => {
    const { stdout, stderr } = await stack.cli(...command.split(' '), ...rest, '--json');
    if (stdout === '') throw new Error(`${command} ${rest.join(' ')}: ${stderr}`);
    const value: unknown = JSON.parse(stdout);
    check(t, command, value, index);
    return value;
  };
  await t.test('of the vault', async () => {
    await say('vault key create', ['k']);
    await say('vault key create', ['k2']);
    await say('vault list');
    await say('vault show', ['k']);
    await say('vault status');
    await say('vault trouble', ['latency', '--latency', '1ms', '--count', '1']);
    await say('vault trouble', ['none']);
    await say('vault deny', ['--operation', 'encrypt']);
    await say('vault allow');
    await say('vault firewall', ['open']);
    await say('vault application', ['enabled']);
    await say('vault log', ['--limit', '20']);
  });

  await t.test('of sets and disks', async () => {
    const url = await stack.keyUrl('k');
    await say('set create', ['s', '--key', url]);
    await say('set create', ['other', '--key', await stack.keyUrl('k2')]);
    await say('disk create', ['d', '--set', 's', '--size', '1M']);
    await say('disk create', ['gone', '--set', 's', '--size', '1M']);
    await say('disk attach', ['d']);
    await say('disk list');
    await say('disk show', ['d']);
    await say('disk allow', ['d', '--add', 'uid=0']);
    await say('disk restart', ['d']);
    await say('disk move', ['d', '--set', 'other']);
    await say('disk detach', ['d']);
    await say('disk export-key', ['d', ...['--file', join(stack.dir, 'd.key'), '--confirm', 'd']]);
    await say('disk erase', ['gone', '--confirm', 'gone']);
    await say('disk delete', ['gone']);
    await say('set list');
    await say('set show', ['s']);
    await say('set update', ['s', '--probe-interval', '2s']);
    await say('set check', ['s']);
    await say('set impact', ['s']);
    await say('vault rotate', ['k']);
    await say('set rotate', ['s']);
    await say('set assign-key', ['s', url]);
    await say('set drill', ['other', '--live', '--timeout', '20s']);
  });

  await t.test('of the daemon', async (t) => {
    const follower = firstLineOf(t, 'events', '--follow', '--socket', stack.adminSocket);
    await say('status');
    await say('status', ['--connections'], 1);
    const frame = await say('top', ['--once', '--interval', '100ms']);
    t.match(frame, { shards: [{ alive: true, load: Number }] }, 'a real shard has a load');
    await say('doctor', ['s']);
    await say('reload');
    await say('audit verify');
    await say('audit export');
    const file = join(dir, 'export.json');
    await say('audit export', ['--output', file], 1);
    await say('audit verify', [file], 1);
    await say('platform-key init', [join(dir, 'platform.key')]);
    await say('help');
    await say('help', ['disk', 'create']);
    await say('help', ['exit-codes'], 1);
    await say('completion', ['fish']);
    check(t, 'events', await follower); // the commands here are events
    for (const line of (await readFile(join(stack.dir, 'daemon.log'), 'utf8')).split('\n')) {
      if (line.startsWith('{')) check(t, 'daemon', JSON.parse(line));
    }
  });

  await t.test('of what denies and destroys', async () => {
    await say('vault disable', ['k', '--version', 'all']);
    await say('set check', ['s']);
    await eventually('the set is denied', async () => {
      return (await stack.admin.showSet('s')).access === 'denied';
    });
    await say('set purge', ['s', '--confirm', 's']);
    await say('set delete', ['s']);
    await say('vault enable', ['k']);
    await say('vault delete', ['k']);
    await say('vault recover', ['k']);
    await say('vault delete', ['k']);
    await say('vault expire-tokens'); // last: the next call to the vault fails once
    await say('vault recovery-level', ['Purgeable']);
    await say('vault purge', ['k']);
  });

  await t.test('of what runs in the foreground', async (t) => {
    check(t, 'vault serve', await firstLineOf(t, 'vault', 'serve', '--state', join(dir, 'vault')));
    const dev = ['dev', '--no-demo-disk', '--metrics-port', '0', '--state', join(dir, 'dev')];
    check(t, 'dev', await firstLineOf(t, ...dev));
  });

  for (const [command, shapes] of Object.entries(JSON_SHAPES)) {
    t.equal(covered.get(command)?.size, shapes.length, `${command} was seen in all its shapes`);
  }
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { run } from '../support/process.js';
import { countersAt } from './support/canned.js';
import { FakeAdmin } from './support/fake-admin.js';

/* The real program on a real pseudo terminal. */

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;
const pty = new URL('../support/pty.py', import.meta.url).pathname;

const ENTER = '\u001b[?1049h';
const LEAVE = '\u001b[?1049l';
const SHOW_CURSOR = '\u001b[?25h';
const FOOTER = 'q quit';
const PATIENCE_SECONDS = 60;

interface Seen {
  readonly output: string;
  readonly missing: string | null;
  readonly status: number;
  readonly restored: boolean;
}

type Step = { keys: string } | { size: [number, number] } | { signal: number };

async function onTerminal(
  size: { columns: number; rows: number },
  steps: ReadonlyArray<readonly [string, Step]>,
  args: readonly string[],
): Promise<Seen> {
  const timed = steps.map(([text, what]) => [PATIENCE_SECONDS, text, what]);
  const { stdout, stderr } = await run(
    'python3',
    [
      ...[pty, String(size.columns), String(size.rows), JSON.stringify(timed)],
      ...[process.execPath, main, ...args],
    ],
    { env: { TERM: 'xterm-256color', NO_COLOR: '' } },
  );
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as Seen;
}

async function startDaemon(
  t: { teardown(fn: () => unknown): unknown },
  disks: number,
): Promise<FakeAdmin> {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const look = countersAt(1);
  const [disk] = look.disks;
  if (disk === undefined) throw new Error('no disk');
  const names = Array.from({ length: disks }, (_, index) => `disk-${String(index)}`);
  fake.counters({ ...look, disks: names.map((name) => ({ ...disk, name })) });
  return fake;
}

/** The pictures of a run: the rows that each puts on the screen, without colours. */
function pictures(output: string): string[][] {
  const [, ...drawn] = output.split('\u001b[H');
  return drawn.map((text) =>
    (text.split('\u001b[J')[0] ?? '').replace(/\u001b\[[0-9;]*[mK]/g, '').split(/\r+\n/),
  );
}

const SIZE = { columns: 72, rows: 18 };

void test('top fits the terminal, and q gives it back as it was', async (t) => {
  const fake = await startDaemon(t, 1000);
  const args = ['top', '--socket', fake.socketPath];
  const { output, missing, status, restored } = await onTerminal(
    SIZE,
    [
      [FOOTER, { keys: 's' }],
      ['sorted by disk', { keys: 'q' }],
    ],
    args,
  );
  t.equal(missing, null, output);
  t.equal(status, 0);
  t.ok(restored, 'modes of the terminal');
  t.ok(output.startsWith(ENTER), 'alternate screen');
  t.match(output.slice(-40), LEAVE);
  t.ok(output.lastIndexOf(SHOW_CURSOR) > output.lastIndexOf('\u001b[?25l'));
  const drawn = pictures(output);
  t.ok(drawn.length >= 2);
  for (const lines of drawn) {
    t.equal(lines.length, SIZE.rows);
    for (const line of lines) t.ok(Array.from(line).length <= SIZE.columns, line);
  }
});

void test('top follows a change of the size', async (t) => {
  const fake = await startDaemon(t, 1000);
  const { output, missing } = await onTerminal(
    SIZE,
    [
      [FOOTER, { size: [110, 40] }],
      ['1-34 of 1000', { keys: 'q' }],
    ],
    ['top', '--socket', fake.socketPath],
  );
  t.equal(missing, null, output);
  const last = pictures(output).at(-1) ?? [];
  t.equal(last.length, 40);
});

for (const [name, number] of [
  ['SIGTERM', 15],
  ['SIGHUP', 1],
  ['SIGQUIT', 3],
] as const) {
  void test(`${name} gives the terminal back and ends top as it ends any program`, async (t) => {
    const fake = await startDaemon(t, 3);
    const { output, missing, status, restored } = await onTerminal(
      SIZE,
      [[FOOTER, { signal: number }]],
      ['top', '--socket', fake.socketPath],
    );
    t.equal(missing, null, output);
    t.equal(status, -number);
    t.ok(restored);
    t.match(output.slice(-40), LEAVE);
  });
}

void test('Ctrl-C and SIGINT end top as q does', async (t) => {
  const fake = await startDaemon(t, 3);
  for (const step of [{ keys: '\u0003' }, { signal: 2 }]) {
    const seen = await onTerminal(SIZE, [[FOOTER, step]], ['top', '--socket', fake.socketPath]);
    t.match(seen, { missing: null, status: 0, restored: true }, seen.output);
    t.match(seen.output.slice(-40), LEAVE);
  }
});

void test('a daemon whose answer is no answer of ours gives the terminal back, with the error', async (t) => {
  const fake = await startDaemon(t, 3);
  const wrong = { parse: () => undefined };
  const seen = onTerminal(SIZE, [[FOOTER, { keys: 'x' }]], ['top', '--socket', fake.socketPath]);
  while (fake.seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  fake.answer('GET /v1/counters', { disks: 'none' }, wrong);
  const { output, status, restored } = await seen;
  t.equal(status, 1);
  t.ok(restored);
  t.ok(output.indexOf('ERR_ADMIN_RESPONSE') > output.lastIndexOf(LEAVE), 'after it is back');
});

void test('top says when the daemon does not answer, and goes on', async (t) => {
  const fake = await startDaemon(t, 3);
  const args = ['top', '--interval', '100ms', '--socket', fake.socketPath];
  const seen = onTerminal(SIZE, [['no answer, trying again', { keys: 'q' }]], args);
  while (fake.seen.length < 3) await new Promise((resolve) => setTimeout(resolve, 50));
  await fake.stop();
  t.match(await seen, { missing: null, status: 0, restored: true });
});

void test('top draws no screen with --once', async (t) => {
  const fake = await startDaemon(t, 2);
  const args = ['top', '--once', '--socket', fake.socketPath];
  const { output, status } = await onTerminal(SIZE, [], args);
  t.equal(status, 0);
  t.notMatch(output, ENTER);
  t.match(output, 'disk-1');
});

void test('a table fits the terminal, and --no-color keeps it plain', async (t) => {
  const fake = await startDaemon(t, 2);
  const list = ['disk', 'list', '--socket', fake.socketPath];
  const { output } = await onTerminal(SIZE, [], list);
  t.match(output, '\u001b[32monline');
  const rows = output
    .replace(/\u001b\[[0-9;]*m/g, '')
    .trimEnd()
    .split(/\r+\n/);
  for (const row of rows) t.ok(Array.from(row).length <= SIZE.columns, row);
  t.notMatch((await onTerminal(SIZE, [], [...list, '--no-color'])).output, '\u001b');
});

// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { test } from 'tap';
import type { Counters } from '../../src/admin/api-counters.js';
import { advance, HISTORY_LENGTH_MAX, quantileOf, type TopModel } from '../../src/cli/top/model.js';
import { drawScreen, formatTime, sparkline } from '../../src/cli/top/screen.js';
import { FIRST_VIEW, press, SORT_COLUMNS, sortDisks, splitKeys } from '../../src/cli/top/view.js';
import { countersAt } from './support/canned.js';
import { FakeAdmin } from './support/fake-admin.js';
import { cli } from './support/run-cli.js';

const SIZE = { columns: 100, rows: 24, color: false };

function modelOf(...looks: Counters[]): TopModel {
  const [first, ...others] = looks;
  if (first === undefined) throw new Error('no look');
  return others.reduce(advance, advance(undefined, first));
}

/** So many disks, of which the nth has read n KiB a second. */
function many(count: number, seconds: number): Counters {
  const look = countersAt(seconds);
  const [busy] = look.disks;
  if (busy === undefined) throw new Error('no disk');
  const disks = Array.from({ length: count }, (_, index) => ({
    ...busy,
    name: `disk-${String(index).padStart(4, '0')}`,
    counters: {
      read: { requests: seconds, bytes: 1024 * index * seconds },
      write: { requests: 0, bytes: 0 },
      otherRequests: 0,
      latency: [seconds, 0, 0, 0],
    },
  }));
  return { ...look, disks };
}

const visible = (line: string): string => line.replace(/\u001b\[[0-9;]*m/g, '');

void test('rates are counters by the clock of the daemon, not by ours', (t) => {
  const { frame } = modelOf(countersAt(0), countersAt(4));
  t.equal(frame.intervalSeconds, 4);
  t.match(frame.disks[0], {
    readBytesPerSecond: 2 ** 20,
    writeBytesPerSecond: 4096,
    requestsPerSecond: 258,
  });
  t.equal(frame.total.readBytesPerSecond, 2 ** 20);
  t.equal(frame.shards[0]?.load, 0.5);
  t.end();
});

void test('the first look has no rates and no load', (t) => {
  const { frame, totalHistory } = modelOf(countersAt(5));
  t.equal(frame.total.readBytesPerSecond, 0);
  t.equal(frame.total.p50Seconds, null);
  t.equal(frame.shards[0]?.load, null);
  t.strictSame(totalHistory, []);
  t.end();
});

void test('a disk that was opened anew has no negative rates', (t) => {
  const before = countersAt(9);
  const after = { ...countersAt(1), bootSeconds: before.bootSeconds + 1 };
  const { frame } = modelOf(before, after);
  t.equal(frame.disks[0]?.readBytesPerSecond, 8 * 2 ** 20, 'all that it counted since');
  t.ok((frame.disks[0]?.requestsPerSecond ?? -1) >= 0);
  t.end();
});

void test('a look of the same instant divides nothing by zero', (t) => {
  const { frame } = modelOf(countersAt(1), countersAt(1));
  t.equal(frame.total.readBytesPerSecond, 0);
  t.equal(frame.total.p99Seconds, null);
  t.end();
});

void test('a disk that is gone leaves no history behind', (t) => {
  const gone = { ...countersAt(2), disks: [] };
  t.equal(modelOf(countersAt(0), countersAt(1), gone).histories.size, 0);
  t.end();
});

void test('a history is bounded', (t) => {
  const looks = Array.from({ length: HISTORY_LENGTH_MAX + 20 }, (_, index) => countersAt(index));
  t.equal(modelOf(...looks).totalHistory.length, HISTORY_LENGTH_MAX);
  t.end();
});

void test('a quantile lies within the bucket that holds it', (t) => {
  const bounds = [1, 2, 4];
  t.equal(quantileOf([0, 0, 0, 0], bounds, 0.5), null);
  t.equal(quantileOf([10, 0, 0, 0], bounds, 0.5), 0.5);
  t.equal(quantileOf([0, 10, 0, 0], bounds, 0.5), 1.5);
  t.equal(quantileOf([0, 0, 0, 10], bounds, 0.99), 4, 'beyond the last bound nothing is known');
  t.end();
});

void test('no quantile is below a smaller one, or beyond the bounds', (t) => {
  const bounds = [0.001, 0.01, 0.1];
  fc.assert(
    fc.property(fc.array(fc.nat(1000), { minLength: 4, maxLength: 4 }), (counts) => {
      const [p50, p99] = [quantileOf(counts, bounds, 0.5), quantileOf(counts, bounds, 0.99)];
      if (p50 === null || p99 === null) return counts.every((count) => count === 0);
      return p50 >= 0 && p50 <= p99 && p99 <= 0.1;
    }),
  );
  t.end();
});

void test('a screen never has more lines or columns than the terminal', (t) => {
  const models = [0, 1, 7, 1000].map((count) => modelOf(many(count, 0), many(count, 1)));
  fc.assert(
    fc.property(
      fc.record({
        model: fc.constantFrom(...models),
        columns: fc.integer({ min: 1, max: 300 }),
        rows: fc.integer({ min: 1, max: 100 }),
        sort: fc.constantFrom(...SORT_COLUMNS),
        offset: fc.nat(2000),
        color: fc.boolean(),
        trouble: fc.constantFrom(undefined, 'cannot reach \u001b[2J the daemon'.repeat(5)),
      }),
      ({ model, columns, rows, color, trouble, ...view }) => {
        const size = { columns, rows, color };
        const lines = drawScreen(model, { ...FIRST_VIEW, ...view }, size, trouble);
        return (
          lines.length === rows &&
          lines.every((line) => Array.from(visible(line)).length <= columns) &&
          !lines.some((line) => line.includes('\u001b[2J'))
        );
      },
    ),
  );
  t.end();
});

void test('of a thousand disks as many are shown as there are rows, the busiest first', (t) => {
  const lines = drawScreen(modelOf(many(1000, 0), many(1000, 1)), FIRST_VIEW, SIZE);
  const disks = lines.filter((line) => /^disk-\d{4} /.test(line));
  t.equal(disks.length, 18);
  t.match(disks[0], /^disk-0999 /);
  t.match(lines.at(-1), '1-18 of 1000 sorted by throughput');
  t.end();
});

void test('scrolling to the end shows the last row, and no empty ones', (t) => {
  const model = modelOf(many(1000, 0), many(1000, 1));
  const view = press(FIRST_VIEW, 'G', { rows: 1000, shown: 18 });
  if (typeof view === 'string') throw new Error(view);
  const lines = drawScreen(model, view, SIZE);
  t.match(lines.at(-1), '983-1000 of 1000');
  t.match(lines.at(-2), /^disk-0000 /);
  t.end();
});

void test('a larger terminal shows more although one had scrolled', (t) => {
  const view = { ...FIRST_VIEW, offset: 15 };
  const lines = drawScreen(modelOf(many(20, 0), many(20, 1)), view, { ...SIZE, rows: 40 });
  t.equal(lines.filter((line) => line.startsWith('disk-')).length, 20);
  t.end();
});

void test('sorting is stable: what is equal stands by name, however it came', (t) => {
  const { frame } = modelOf(many(50, 0), many(50, 0));
  fc.assert(
    fc.property(
      fc.shuffledSubarray([...frame.disks], { minLength: 50 }),
      fc.constantFrom(...SORT_COLUMNS),
      (disks, sort) => {
        const names = sortDisks(disks, { sort, reverse: false }).map(({ name }) => name);
        return names.every((name, index) => index === 0 || (names[index - 1] ?? '') < name);
      },
    ),
  );
  t.end();
});

void test('a lease that ends soon stands before one that lasts, and before none', (t) => {
  const [disk] = modelOf(countersAt(0)).frame.disks;
  if (disk === undefined) throw new Error('no disk');
  const disks = [null, 900, 3].map((leaseSecondsLeft, index) => ({
    ...disk,
    name: String(index),
    leaseSecondsLeft,
  }));
  const sorted = sortDisks(disks, { sort: 'lease', reverse: false });
  t.strictSame(
    sorted.map(({ leaseSecondsLeft }) => leaseSecondsLeft),
    [3, 900, null],
  );
  t.end();
});

void test('each key does what the help says, and any other nothing', (t) => {
  const window = { rows: 100, shown: 10 };
  const after = (keys: string[]) =>
    keys.reduce<ReturnType<typeof press>>(
      (view, key) => (typeof view === 'string' ? view : press(view, key, window)),
      FIRST_VIEW,
    );
  for (const key of ['q', 'Q', '\u0003', '\u0004']) t.equal(after([key]), 'quit');
  t.equal(after(['\u001a']), 'suspend');
  t.match(after(['s']), { sort: 'disk' });
  t.match(after(['s', 'S']), { sort: 'throughput' });
  t.match(after(['\u001b[D']), { sort: 'lease' });
  t.match(after(['r']), { reverse: true });
  t.match(after(['p']), { paused: true });
  t.match(after([' ', ' ']), { paused: false });
  t.match(after(['\u001b[B', '\u001b[B', '\u001b[A']), { offset: 1 });
  t.match(after(['\u001b[A']), { offset: 0 });
  t.match(after(['\u001b[6~']), { offset: 10 });
  t.match(after(['G', '\u001b[B']), { offset: 90 });
  t.match(after(['x', '\u001b[Z', '\u001b', '1']), FIRST_VIEW);
  t.end();
});

void test('keys that came in one read are told apart', (t) => {
  t.strictSame(splitKeys('q\u001b[Ar\u001b[6~ä'), ['q', '\u001b[A', 'r', '\u001b[6~', 'ä']);
  t.strictSame(splitKeys(''), []);
  t.end();
});

void test('a sparkline shows what is not nothing, however little, and nothing as a blank', (t) => {
  t.equal(sparkline([0, 1, 500, 1000], 10), ' ▁▄█');
  t.equal(sparkline([0, 0], 10), '  ');
  t.equal(sparkline([], 10), '');
  t.equal(sparkline([9, 1, 2], 2), '▄█');
  t.end();
});

void test('a time is short at any length', (t) => {
  const times = [null, 0.000_087, 0.001_23, 0.25, 2.5, 10];
  t.strictSame(times.map(formatTime), ['-', '87µs', '1.2ms', '250ms', '2.5s', '10s']);
  t.end();
});

void test('in a pipe a frame has every disk, whole and without colours', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const { status, stdout } = await cli(['top', '--count', '2', '--socket', fake.socketPath]);
  t.equal(status, 0);
  t.notMatch(stdout, '\u001b');
  const frames = stdout.trimEnd().split('\n\n');
  t.equal(frames.length, 2);
  t.match(frames[1], /^demo +online +1 MiB +4 KiB +258 +64µs +\d\d\dµs +3 +14m13s/m);
  t.match(frames[1], 'offline (key-disabled)');
  t.match(frames[1], 'shards  0 ▄  50%  1 dead');
});

void test('--json prints one object a line for each frame, and the rates in it', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const { stdout } = await cli(['top', '--once', '--json', '--socket', fake.socketPath]);
  const lines = stdout.trimEnd().split('\n');
  t.equal(lines.length, 1);
  t.match(JSON.parse(lines[0] ?? ''), {
    intervalSeconds: 1,
    disks: [{ name: 'demo', readBytesPerSecond: 2 ** 20 }, { name: 'db01' }],
  });
});

void test('top refuses what makes no sense', async (t) => {
  const wrong = [
    ['--interval', '1ms'],
    ['--interval', 'soon'],
    ['--count', '0'],
    ['--once', '--count', '2'],
  ];
  for (const args of wrong) t.equal((await cli(['top', ...args])).status, 2, args.join(' '));
});

void test('top without a daemon fails as every command does', async (t) => {
  const { status, stderr } = await cli(['top', '--once', '--socket', '/none/x']);
  t.equal(status, 6);
  t.match(stderr, 'ERR_ADMIN_UNREACHABLE');
});

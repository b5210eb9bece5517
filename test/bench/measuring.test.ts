// SPDX-License-Identifier: Apache-2.0
import { PassThrough } from 'node:stream';
import { test } from 'tap';
import { parseStat, treeSeconds } from '../../bench/cpu.js';
import { parseFio } from '../../bench/fio.js';
import { parseOptions } from '../../bench/options.js';
import { renderPlot } from '../../bench/plot.js';
import { createProgress } from '../../bench/progress.js';
import { median, rotate } from '../../bench/statistics.js';

const stat = (pid: number, command: string, parent: number, ticks: string): string =>
  `${pid} (${command}) S ${parent} 1 1 0 -1 4194304 100 0 0 0 ${ticks} 20 0 1 0 100`;

void test('CPU time of a process is its own and that of its ended children', (t) => {
  const found = parseStat(stat(7, 'a) R 1 (b', 3, '100 50 20 30'));
  t.strictSame(found, { pid: 7, parent: 3, cpuSeconds: 2 });
  t.end();
});

void test('CPU time of a tree is that of all descendants and of nothing else', (t) => {
  const processes = [
    stat(10, 'root', 1, '100 0 0 0'),
    stat(11, 'child', 10, '100 0 0 0'),
    stat(12, 'grandchild', 11, '100 0 0 0'),
    stat(13, 'stranger', 1, '900 0 0 0'),
  ].map(parseStat);
  t.equal(treeSeconds(processes, 10), 3);
  t.equal(treeSeconds(processes, 99), 0);
  t.end();
});

const side = (ios: number, p50: number) => ({
  total_ios: ios,
  io_bytes: ios * 4096,
  iops: ios / 2,
  bw_bytes: ios * 2048,
  clat_ns: { percentile: { '50.000000': p50, '99.000000': 2000, '99.900000': 3000 } },
});

const fioOutput = (error: number): string =>
  `note: both iodepth >= 1\n${JSON.stringify({
    jobs: [
      {
        error,
        read: side(70, 1000),
        write: side(30, 5000),
        usr_cpu: 20,
        sys_cpu: 30,
        job_runtime: 8000,
      },
    ],
  })}`;

void test('a sample of fio sums both directions, and takes latencies of the greater one', (t) => {
  t.strictSame(parseFio(fioOutput(0)), {
    value: 50,
    operations: 100,
    bytes: 409_600,
    clientCpuSeconds: 4,
    latencyUs: { p50: 1, p99: 2, p999: 3 },
  });
  t.end();
});

void test('a run of fio with an error, or without a job, is no sample', (t) => {
  t.throws(() => parseFio(fioOutput(5)), { message: 'fio: expected error 0, got 5' });
  t.throws(() => parseFio('{"jobs": []}'), { message: /got no job/ });
  t.end();
});

void test('a median is the middle, and of nothing no number', (t) => {
  t.equal(median([30, 1, 2]), 2);
  t.equal(median([4, 1, 2, 30]), 3);
  t.ok(Number.isNaN(median([])));
  t.end();
});

void test('in each round another one comes first, and none is lost', (t) => {
  const firsts = [0, 1, 2, 3].map((round) => rotate(['a', 'b', 'c'], round)[0]);
  t.strictSame(firsts, ['a', 'b', 'c', 'a']);
  t.strictSame(rotate(['a', 'b', 'c'], 2), ['c', 'a', 'b']);
  t.strictSame(rotate([], 3), []);
  t.end();
});

void test('options that make no sense are refused with both sides', (t) => {
  const refused = (...argv: string[]) => t.throws(() => parseOptions(argv));
  refused('--rounds', '0');
  refused('--rounds', '1.5');
  refused('--seconds', 'many');
  refused('--only', '(');
  refused('--quik');
  t.throws(() => parseOptions(['--store', 'nfs']), {
    message: '--store: expected tmpfs, ext4 or both, got nfs',
  });
  t.end();
});

void test('a quick run is one round on tmpfs, and what is said comes before that', (t) => {
  t.match(parseOptions(['--quick']), { rounds: 1, stores: ['tmpfs'] });
  t.match(parseOptions([]), { rounds: 5, stores: ['tmpfs', 'ext4'] });
  t.match(parseOptions(['--quick', '--rounds', '3', '--store', 'ext4']), {
    rounds: 3,
    stores: ['ext4'],
  });
  t.end();
});

void test('progress without a terminal is a line per 5 %', (t) => {
  const stream = new PassThrough();
  const progress = createProgress(200, new AbortController().signal, stream);
  for (let i = 0; i < 200; i += 1) progress.step(`step ${i}`);
  progress.end();
  const lines = String(stream.read()).trim().split('\n');
  t.equal(lines.length, 21);
  t.equal(lines.at(-1), '100 %  step 199');
  t.end();
});

void test('an interrupted run takes no further step', (t) => {
  const controller = new AbortController();
  const progress = createProgress(10, controller.signal, new PassThrough());
  progress.step('one');
  controller.abort(new Error('interrupted by SIGINT'));
  t.throws(() => progress.step('two'), { message: 'interrupted by SIGINT' });
  t.end();
});

void test('a plot has a line of its own for each label, within its size', (t) => {
  const bars = ['one', 'two <3>', 'three'].map((label, index) => {
    return { label, kind: 'plain' as const, median: 10 ** (index + 3), min: 1, max: 2e5 };
  });
  const svg = renderPlot('title', [
    { title: 'a', unit: 'IOPS', bars },
    { title: 'b', unit: 'MB/s', bars },
  ]);
  const height = Number(/height="(\d+)"/.exec(svg)?.[1]);
  const labels = [...svg.matchAll(/<text x="142" y="(\d+)"/g)].map((match) => Number(match[1]));
  t.equal(labels.length, 6);
  labels.reduce((above, y) => {
    t.ok(y - above >= 16, 'labels do not touch');
    return y;
  }, 0);
  t.ok(Math.max(...labels) < height);
  t.match(svg, 'two &lt;3>');
  t.end();
});

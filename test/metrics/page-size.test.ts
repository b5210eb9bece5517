// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { test } from 'tap';
import { COMMANDS, LATENCY_BUCKETS_SECONDS } from '../../src/dataplane/addon.js';
import type { DiskSample, SetSample } from '../../src/metrics/sources.js';
import { DISK, metricsOf, SET, stats } from './samples.js';

// docs/METRICS.md promises these; a metric that is added by disk has to be worth its share of them.
const DISKS = 10_000;
const SETS = 100;
const IDLE_LINES_MAX = 12;
const LINES_MAX = 47;
const SET_LINES_MAX = 180;
const OTHER_LINES_MAX = 250;
const IDLE_BYTES_MAX = 1024;
const BYTES_MAX = 5 * 1024;
const SET_BYTES_MAX = 20 * 1024;

const disks = (rest: Partial<DiskSample>): DiskSample[] =>
  Array.from({ length: DISKS }, (_, index) => ({
    ...DISK,
    name: `a-disk-with-a-long-name-${String(index)}`,
    set: `set-${String(index % SETS)}`,
    ...rest,
  }));
const sets: SetSample[] = Array.from({ length: SETS }, (_, index) => ({
  ...SET,
  name: `set-${String(index)}`,
}));
/** Every disk has answered every command: nothing is more. */
const page = await metricsOf(disks({}), sets).scrape();
const idle = await metricsOf(disks({ stats: { ...stats, commands: {} } }), sets).scrape();

const samplesOf = (text: string): string[] => text.split('\n').filter((line) => /^\w/.test(line));
const bytesOf = (lines: readonly string[]): number =>
  lines.reduce((sum, line) => sum + line.length + 1, 0);
const aboutDisks = (text: string): string[] =>
  samplesOf(text).filter((line) => line.includes('disk='));

void test(`${String(DISKS)} idle disks have at most ${String(IDLE_LINES_MAX)} series each`, (t) => {
  const lines = aboutDisks(idle);
  t.ok(lines.length <= DISKS * IDLE_LINES_MAX, `${String(lines.length / DISKS)} lines a disk`);
  t.ok(bytesOf(lines) <= DISKS * IDLE_BYTES_MAX, `${String(bytesOf(lines) / DISKS)} bytes a disk`);
  t.end();
});

void test(`disks that do everything have at most ${String(LINES_MAX)} series each`, (t) => {
  const lines = aboutDisks(page);
  t.equal(lines.length, DISKS * LINES_MAX);
  t.ok(bytesOf(lines) <= DISKS * BYTES_MAX, `${String(bytesOf(lines) / DISKS)} bytes a disk`);
  t.end();
});

void test('what is by set does not grow with its disks', async (t) => {
  const bySet = (text: string): string[] =>
    samplesOf(text).filter((line) => line.includes('set=') && !line.includes('disk='));
  const lines = bySet(page);
  t.ok(lines.length <= SETS * SET_LINES_MAX, `${String(lines.length / SETS)} lines a set`);
  t.ok(bytesOf(lines) <= SETS * SET_BYTES_MAX, `${String(bytesOf(lines) / SETS)} bytes a set`);
  const fewer = await metricsOf(disks({}).slice(0, SETS), sets).scrape();
  t.equal(bySet(fewer).length, lines.length);
});

void test('nothing else grows with disks or sets', (t) => {
  const others = samplesOf(page).filter((line) => !/\b(disk|set)=/.test(line));
  t.ok(others.length <= OTHER_LINES_MAX, `${String(others.length)} lines`);
  t.end();
});

void test('docs/METRICS.md says how many series a disk and a set have', async (t) => {
  const text = await readFile(new URL('../../docs/METRICS.md', import.meta.url), 'utf8');
  const ofCommand = (LINES_MAX - IDLE_LINES_MAX) / COMMANDS.length;
  const expected = [
    `A disk has ${String(IDLE_LINES_MAX)} series, and ${String(ofCommand)} more for each command`,
    `${String(LINES_MAX)} at most`,
    `${String(LATENCY_BUCKETS_SECONDS.length + 3)} series of each command`,
  ];
  for (const sentence of expected) t.ok(text.includes(sentence), sentence);
});

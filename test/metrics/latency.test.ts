// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { LATENCY_BUCKETS_SECONDS, type NativeDiskStats } from '../../src/dataplane/addon.js';
import type { DiskSample } from '../../src/metrics/sources.js';
import { command, DISK, metricsOf, samplesOf, stats } from './samples.js';

const NAME = 'keyhold_nbd_request_duration_seconds';

/** A disk that has answered reads alone, `factor` times as many as another. */
function reads(factor: number, disk: Partial<DiskSample> = {}): DiskSample {
  const commands: NativeDiskStats['commands'] = { read: command(factor) };
  return { ...DISK, stats: { ...stats, commands }, ...disk };
}

/** Requests of one of the `reads` with factor 1. */
const COUNT = command(1).latencyBuckets.reduce((sum, one) => sum + one, 0);

/** The count of reads in each set after each of these scrapes. */
async function countsAfter(...scrapes: DiskSample[][]): Promise<Record<string, number>[]> {
  const disks: DiskSample[] = [];
  const metrics = metricsOf(disks, []);
  const counts: Record<string, number>[] = [];
  for (const scrape of scrapes) {
    disks.splice(0, disks.length, ...scrape);
    const samples = Object.entries(await samplesOf(metrics));
    counts.push(
      Object.fromEntries(
        samples.flatMap(([name, value]) => {
          const set = new RegExp(`^${NAME}_count\\{set=(\\w+),command=read\\}`).exec(name)?.[1];
          return set === undefined ? [] : [[set, value / COUNT]];
        }),
      ),
    );
  }
  return counts;
}

void test('latency buckets become cumulative with sum and count', async (t) => {
  const samples = await samplesOf(metricsOf([DISK], []));
  const counts = stats.commands.write?.latencyBuckets ?? [];
  let total = 0;
  for (const [index, bound] of [...LATENCY_BUCKETS_SECONDS, '+Inf'].entries()) {
    total += counts[index] ?? 0;
    t.equal(samples[`${NAME}_bucket{set=s1,command=write,le=${bound}}`], total);
  }
  t.equal(samples[`${NAME}_count{set=s1,command=write}`], total);
  t.equal(samples[`${NAME}_sum{set=s1,command=write}`], 1);
});

void test('disks of a set are added up, those of another are not', async (t) => {
  const disks = [reads(1), reads(2, { name: 'd2' }), reads(4, { name: 'd3', set: 's2' })];
  t.same(await countsAfter(disks), [{ s1: 3, s2: 4 }]);
});

void test('a second scrape without requests in between shows the same', async (t) => {
  t.same(await countsAfter([reads(2)], [reads(2)]), [{ s1: 2 }, { s1: 2 }]);
});

void test('a disk that is closed takes nothing back', async (t) => {
  const closed = reads(0, { stats: null });
  t.same(await countsAfter([reads(2)], [closed], []), [{ s1: 2 }, { s1: 2 }, { s1: 2 }]);
});

void test('a disk that was closed and is open again counts on', async (t) => {
  const closed = reads(0, { stats: null });
  t.same((await countsAfter([reads(2)], [closed], [reads(3)])).at(-1), { s1: 5 });
});

void test('a disk that was closed and opened between two scrapes counts on', async (t) => {
  t.same((await countsAfter([reads(3)], [reads(1)])).at(-1), { s1: 4 });
});

void test('a disk that moves leaves its past to the set that it had', async (t) => {
  const moved = reads(5, { set: 's2' });
  t.same((await countsAfter([reads(2)], [moved])).at(-1), { s1: 2, s2: 3 });
});

void test('no histogram is by disk', async (t) => {
  const names = Object.keys(await samplesOf(metricsOf([DISK], [])));
  t.same(
    names.filter((name) => /disk=/.test(name) && /_bucket\{/.test(name)),
    [],
  );
});

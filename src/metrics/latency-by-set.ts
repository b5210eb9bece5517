// SPDX-License-Identifier: Apache-2.0
import { COMMANDS, LATENCY_BUCKETS_SECONDS, type CommandName } from '../dataplane/addon.js';
import { histogramSamples, type Sample, type SampledMetricOptions } from './sampled-metric.js';
import type { DiskSample } from './sources.js';

const BUCKETS = LATENCY_BUCKETS_SECONDS.length + 1;

/** Counts of a histogram's buckets, not cumulative, and behind them the sum of seconds. */
type Counts = Float64Array;

/**
 * The histogram of request times, by set and command: by disk it would be 154 lines for each of ten
 * thousand disks. Disks are closed and move to other sets, and a counter must not fall, so what is
 * added up is how much each disk's own counters grew since the last scrape.
 */
export class LatencyBySet implements SampledMetricOptions {
  readonly name = 'keyhold_nbd_request_duration_seconds';
  readonly help = 'Time from the last byte of a request to its reply.';
  readonly type = 'histogram';
  readonly #totals = new Map<string, Map<CommandName, Counts>>();
  /** Of each open disk, what its counters were when they were looked at last. */
  #last = new Map<string, Map<CommandName, Counts>>();

  /** Passes disks on; when the last one has gone by, `read` is about all of them. */
  *watch(disks: Iterable<DiskSample>): Generator<DiskSample> {
    const seen = new Map<string, Map<CommandName, Counts>>();
    for (const disk of disks) {
      if (disk.stats !== null) seen.set(disk.name, this.#add(disk.name, disk.set, disk.stats));
      yield disk;
    }
    this.#last = seen;
  }

  readonly read = (): Sample[] =>
    [...this.#totals].flatMap(([set, commands]) =>
      [...commands].flatMap(([command, counts]) =>
        histogramSamples(
          this.name,
          { set, command },
          {
            bounds: LATENCY_BUCKETS_SECONDS,
            counts: [...counts.subarray(0, BUCKETS)],
            sum: counts[BUCKETS] ?? 0,
          },
        ),
      ),
    );

  #add(
    name: string,
    set: string,
    { commands }: NonNullable<DiskSample['stats']>,
  ): Map<CommandName, Counts> {
    const before = this.#last.get(name);
    const now = new Map<CommandName, Counts>();
    for (const command of COMMANDS) {
      const stats = commands[command];
      if (stats === undefined) continue;
      const counts = Float64Array.of(...stats.latencyBuckets, stats.latencySumSeconds);
      now.set(command, counts);
      addGrowth(this.#totalOf(set, command), counts, before?.get(command));
    }
    return now;
  }

  #totalOf(set: string, command: CommandName): Counts {
    const commands = this.#totals.get(set) ?? new Map<CommandName, Counts>();
    this.#totals.set(set, commands);
    const counts = commands.get(command) ?? new Float64Array(BUCKETS + 1);
    commands.set(command, counts);
    return counts;
  }
}

/** Counters that fell are those of a disk that was closed and opened again: they began at zero. */
function addGrowth(total: Counts, now: Counts, before: Counts | undefined): void {
  const fell = before?.some((count, index) => count > (now[index] ?? 0)) ?? false;
  now.forEach((count, index) => {
    total[index] = (total[index] ?? 0) + count - (fell ? 0 : (before?.[index] ?? 0));
  });
}

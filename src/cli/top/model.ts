// SPDX-License-Identifier: Apache-2.0
import type { Counters, DiskCounters } from '../../admin/api-counters.js';

/*
 * What `top` knows: rates between two looks, by the daemon's own clock, and the recent past. Pure:
 * counters in, a new model out.
 */

/** Of the sparklines: a minute at the usual pace. */
export const HISTORY_LENGTH_MAX = 60;

export interface Rates {
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
  /** Requests of any command. */
  readonly requestsPerSecond: number;
  /** Of reads and writes since the last look; null when there were none. */
  readonly p50Seconds: number | null;
  readonly p99Seconds: number | null;
  readonly inFlight: number;
}

export interface TopDisk extends Rates, Omit<DiskCounters, 'counters' | 'inFlight'> {}

export interface TopShard {
  readonly index: number;
  readonly alive: boolean;
  /** Share of one processor, 0 to 1; null where it is not known. */
  readonly load: number | null;
}

/** What one look shows, and what `--json` prints. */
export interface TopFrame {
  readonly bootSeconds: number;
  readonly uptimeSeconds: number;
  /** What the rates are over; 0 on the first look, whose rates are all 0. */
  readonly intervalSeconds: number;
  readonly connections: number;
  readonly total: Rates;
  readonly shards: readonly TopShard[];
  readonly disks: readonly TopDisk[];
}

export interface TopModel {
  readonly counters: Counters;
  readonly frame: TopFrame;
  /** Bytes a second, read and written, oldest first; of all disks together, and of each. */
  readonly totalHistory: readonly number[];
  readonly histories: ReadonlyMap<string, readonly number[]>;
}

/** The next model; `before` is undefined on the first look. */
export function advance(before: TopModel | undefined, counters: Counters): TopModel {
  const frame = frameOf(before?.counters, counters);
  // What was gone for a while or came anew begins with an empty past; no rates, no entry.
  const isFirst = frame.intervalSeconds === 0;
  const grow = (past: readonly number[] | undefined, rates: Rates): readonly number[] =>
    isFirst ? (past ?? []) : [...(past ?? []), throughputOf(rates)].slice(-HISTORY_LENGTH_MAX);
  return {
    counters,
    frame,
    totalHistory: grow(before?.totalHistory, frame.total),
    histories: new Map(
      frame.disks.map((disk) => [disk.name, grow(before?.histories.get(disk.name), disk)]),
    ),
  };
}

export function throughputOf({ readBytesPerSecond, writeBytesPerSecond }: Rates): number {
  return readBytesPerSecond + writeBytesPerSecond;
}

function frameOf(before: Counters | undefined, after: Counters): TopFrame {
  const elapsed = before === undefined ? 0 : after.bootSeconds - before.bootSeconds;
  const intervalSeconds = Math.max(0, elapsed);
  const bounds = after.latencyBoundsSeconds;
  const earlier = new Map(before?.disks.map((disk) => [disk.name, disk]));
  const passed = after.disks.map((disk) => between(earlier.get(disk.name), disk));
  const disks = after.disks.map((disk, index) => ({
    ...withoutCounters(disk),
    ...ratesOf(passed[index] ?? NOTHING, { intervalSeconds, bounds, inFlight: disk.inFlight }),
  }));
  const inFlight = disks.reduce((sum, disk) => sum + disk.inFlight, 0);
  return {
    bootSeconds: after.bootSeconds,
    uptimeSeconds: after.uptimeSeconds,
    intervalSeconds,
    connections: after.connections,
    total: ratesOf(passed.reduce(addUp, NOTHING), { intervalSeconds, bounds, inFlight }),
    shards: after.shards.map(({ index, alive, cpuSeconds }) => ({
      index,
      alive,
      load: loadOf(before?.shards[index]?.cpuSeconds, cpuSeconds, intervalSeconds),
    })),
    disks,
  };
}

function withoutCounters(disk: DiskCounters): Omit<DiskCounters, 'counters'> {
  const { name, set, state, reason, revoked, leaseSecondsLeft, clients, inFlight, parked } = disk;
  return { name, set, state, reason, revoked, leaseSecondsLeft, clients, inFlight, parked };
}

/** What passed between two looks. */
interface Passed {
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly requests: number;
  readonly latency: readonly number[];
}

const NOTHING: Passed = { readBytes: 0, writeBytes: 0, requests: 0, latency: [] };

function passedOf({ counters }: DiskCounters): Passed {
  if (counters === null) return NOTHING;
  const { read, write, otherRequests, latency } = counters;
  const requests = read.requests + write.requests + otherRequests;
  return { readBytes: read.bytes, writeBytes: write.bytes, requests, latency };
}

/**
 * A disk that was opened anew counts from zero: then all that it has counted is what passed. The
 * same for one that was not there before, since it cannot have been busy for long.
 */
function between(before: DiskCounters | undefined, after: DiskCounters): Passed {
  const now = passedOf(after);
  const then = before === undefined ? NOTHING : passedOf(before);
  const isNew =
    now.requests < then.requests ||
    now.readBytes < then.readBytes ||
    now.writeBytes < then.writeBytes;
  if (isNew) return now;
  return {
    readBytes: now.readBytes - then.readBytes,
    writeBytes: now.writeBytes - then.writeBytes,
    requests: now.requests - then.requests,
    latency: now.latency.map((count, index) => Math.max(0, count - (then.latency[index] ?? 0))),
  };
}

function addUp(a: Passed, b: Passed): Passed {
  const longer = a.latency.length > b.latency.length ? a.latency : b.latency;
  return {
    readBytes: a.readBytes + b.readBytes,
    writeBytes: a.writeBytes + b.writeBytes,
    requests: a.requests + b.requests,
    latency: longer.map((_, index) => (a.latency[index] ?? 0) + (b.latency[index] ?? 0)),
  };
}

function ratesOf(
  { readBytes, writeBytes, requests, latency }: Passed,
  over: { intervalSeconds: number; bounds: readonly number[]; inFlight: number },
): Rates {
  const { intervalSeconds, bounds, inFlight } = over;
  const rate = (amount: number): number => (intervalSeconds > 0 ? amount / intervalSeconds : 0);
  const counts = intervalSeconds > 0 ? latency : [];
  return {
    readBytesPerSecond: rate(readBytes),
    writeBytesPerSecond: rate(writeBytes),
    requestsPerSecond: rate(requests),
    p50Seconds: quantileOf(counts, bounds, 0.5),
    p99Seconds: quantileOf(counts, bounds, 0.99),
    inFlight,
  };
}

/**
 * Within its bucket a time is taken to be anywhere with equal chance, as Prometheus does; beyond
 * the last bound it is that bound, since nothing more is known.
 */
export function quantileOf(
  counts: readonly number[],
  bounds: readonly number[],
  quantile: number,
): number | null {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const wanted = quantile * total;
  let below = 0;
  for (const [index, count] of counts.entries()) {
    if (count > 0 && below + count >= wanted) {
      const from = bounds[index - 1] ?? 0;
      const to = bounds[index] ?? from;
      return from + ((to - from) * (wanted - below)) / count;
    }
    below += count;
  }
  return bounds.at(-1) ?? null;
}

function loadOf(before: number | undefined, after: number, intervalSeconds: number): number | null {
  if (before === undefined || intervalSeconds === 0) return null;
  // A daemon that was started again has counted less than the one before it.
  const spent = after < before ? after : after - before;
  return Math.min(1, spent / intervalSeconds);
}

// SPDX-License-Identifier: Apache-2.0
import type { Counters, DiskCounters } from '../admin/api-counters.js';
import type { Clock } from '../base/clock.js';
import {
  LATENCY_BUCKETS_SECONDS,
  type NativeCommandStats,
  type NativeDiskStats,
} from '../dataplane/addon.js';
import type { DataPlane } from '../dataplane/plane.js';
import type { DiskView } from '../disks/view.js';

/** Counters of every disk in one look, from memory and native counters; no I/O on any store. */
export function readCounters(options: {
  views: Iterable<DiskView>;
  plane: Pick<DataPlane, 'disk' | 'shards' | 'shardCpuSeconds' | 'connections'>;
  clock: Clock;
  startedAtMs: number;
}): Counters {
  const { views, plane, clock, startedAtMs } = options;
  const cpuSeconds = plane.shardCpuSeconds();
  return {
    bootSeconds: clock.bootMs() / 1000,
    uptimeSeconds: Math.max(0, (clock.nowMs() - startedAtMs) / 1000),
    connections: plane.connections().length,
    latencyBoundsSeconds: LATENCY_BUCKETS_SECONDS,
    shards: plane.shards().map(({ index, alive }) => ({
      index,
      alive,
      cpuSeconds: cpuSeconds[index] ?? 0,
    })),
    disks: Array.from(views, (view) => diskCounters(view, plane.disk(view.name)?.stats() ?? null)),
  };
}

function diskCounters(view: DiskView, stats: NativeDiskStats | null): DiskCounters {
  const { name, set, state, reason, revoked, leaseSecondsLeft, clients } = view;
  return {
    ...{ name, set, state, reason, revoked, leaseSecondsLeft, clients },
    inFlight: stats?.inFlight ?? 0,
    parked: stats?.parked ?? 0,
    counters: stats === null ? null : flowsOf(stats),
  };
}

function flowsOf({ commands }: NativeDiskStats): NonNullable<DiskCounters['counters']> {
  const { read, write, ...others } = commands;
  return {
    read: { requests: requestsOf(read), bytes: read?.bytes ?? 0 },
    write: { requests: requestsOf(write), bytes: write?.bytes ?? 0 },
    otherRequests: Object.values(others).reduce((sum, stats) => sum + requestsOf(stats), 0),
    latency: addUp(read?.latencyBuckets ?? [], write?.latencyBuckets ?? []),
  };
}

function requestsOf(stats: NativeCommandStats | undefined): number {
  if (stats === undefined) return 0;
  return stats.requestsOk + stats.requestsError + stats.requestsShutdown;
}

function addUp(a: readonly number[], b: readonly number[]): number[] {
  const longer = a.length > b.length ? a : b;
  return longer.map((_, index) => (a[index] ?? 0) + (b[index] ?? 0));
}

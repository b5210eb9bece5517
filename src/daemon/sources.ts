// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import type { DataPlane } from '../dataplane/plane.js';
import type { DiskService } from '../disks/disk-service.js';
import type { DiskView } from '../disks/view.js';
import type { DiskSample, MetricsSources, SetSample } from '../metrics/sources.js';
import type { SetService } from '../sets/set-service.js';
import { secondsLeft } from '../sets/view.js';
import type { VaultBudget } from '../vault/budget.js';

/** What a scrape reads, straight from memory and native counters. */
export function createMetricsSources(options: {
  plane: DataPlane;
  sets: SetService;
  disks: DiskService;
  clock: Clock;
  budget: VaultBudget;
}): MetricsSources {
  const { plane, sets, disks, clock, budget } = options;
  return {
    *disks() {
      for (const view of disks.eachView()) yield sampleOf(view, plane);
    },
    sets: () =>
      sets.list().map((set): SetSample => ({
        name: set.name,
        access: set.access.kind,
        alarm: set.alarm !== undefined,
        leaseSecondsLeft: secondsLeft(set),
        keys: set.keyStatus().map(({ key, verdict }) => ({
          version: key.keyVersion,
          lastProbeMs:
            verdict === undefined ? null : clock.nowMs() - (clock.bootMs() - verdict.startedBootMs),
          verdict: verdict?.kind ?? null,
        })),
      })),
    connections: () => ({
      total: plane.connections().length,
      negotiating: plane.negotiatingCount,
    }),
    vaults: () => budget.samples(),
    shards: () => {
      const shards = plane.shards();
      return {
        total: shards.length,
        alive: shards.filter(({ alive }) => alive).length,
        restarts: shards.reduce((sum, { restarts }) => sum + restarts, 0),
      };
    },
  };
}

function sampleOf(view: DiskView, plane: DataPlane): DiskSample {
  const { name, set, sizeBytes, state, reason, revoked } = view;
  const stats = plane.disk(name)?.stats() ?? null;
  return { name, set, sizeBytes, state, reason, revoked, stats };
}

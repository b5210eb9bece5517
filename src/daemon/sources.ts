// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import type { DataPlane } from '../dataplane/plane.js';
import type { DiskService } from '../disks/disk-service.js';
import type { DiskView } from '../disks/view.js';
import type { DiskSample, MetricsSources, SetSample } from '../metrics/sources.js';
import type { SetService } from '../sets/set-service.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { SetView } from '../sets/view.js';
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
    sets: () => sets.views().map((view) => sampleOfSet(view, sets.get(view.name), clock)),
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
        cpuSeconds: plane.shardCpuSeconds(),
      };
    },
  };
}

function sampleOfSet(view: SetView, set: EncryptionSet, clock: Clock): SetSample {
  const wallMs = (bootMs: number): number => clock.nowMs() - (clock.bootMs() - bootMs);
  return {
    name: view.name,
    access: view.access,
    alarm: view.alarm,
    leaseSeconds: set.hasLease ? view.leaseSeconds : null,
    leaseSecondsLeft: view.leaseSecondsLeft,
    availabilityInUse: view.grantedBy === 'availability',
    rotationFailing: view.rotationTrouble !== null,
    revocationDeadlineSeconds: view.revocation?.deadlineSeconds ?? null,
    revocationMaxSeconds: view.revocation?.maxSeconds ?? null,
    keys: set.keyStatus().map(({ key, verdict }) => ({
      version: key.keyVersion,
      lastProbeMs: verdict === undefined ? null : wallMs(verdict.startedBootMs),
      verdict: verdict?.kind ?? null,
      expiresMs: key.expiresAt === null ? null : Date.parse(key.expiresAt),
    })),
  };
}

function sampleOf(view: DiskView, plane: DataPlane): DiskSample {
  const { name, set, sizeBytes, state, reason, revoked } = view;
  const stats = plane.disk(name)?.stats() ?? null;
  return { name, set, sizeBytes, state, reason, revoked, stats };
}

// SPDX-License-Identifier: Apache-2.0
import {
  LATENCY_BUCKETS_SECONDS,
  type NativeCommandStats,
  type NativeDiskStats,
} from '../../src/dataplane/addon.js';
import { Metrics } from '../../src/metrics/metrics.js';
import type { DiskSample, MetricsSources, SetSample } from '../../src/metrics/sources.js';
import { parseExposition } from './exposition.js';

export const command = (factor: number): NativeCommandStats => ({
  requestsOk: 10 * factor,
  requestsError: 2 * factor,
  requestsShutdown: factor,
  bytes: 4096 * factor,
  latencySumSeconds: 0.5 * factor,
  latencyBuckets: [...LATENCY_BUCKETS_SECONDS, 0].map((_, index) => (index % 3) * factor),
});

export const stats: NativeDiskStats = {
  commands: {
    read: command(1),
    write: command(2),
    flush: command(3),
    trim: command(0),
    write_zeroes: command(5),
    cache: command(6),
    block_status: command(7),
  },
  inFlight: 4,
  parked: 1,
  connections: 2,
  keyPresent: true,
  encryptedBytes: 2 ** 52 + 1,
  decryptedBytes: 7,
};

export const DISK: DiskSample = {
  name: 'd1',
  set: 's1',
  sizeBytes: 2 ** 30,
  state: 'online',
  reason: null,
  revoked: true,
  stats,
};

export const SET: SetSample = {
  name: 's1',
  access: 'granted',
  alarm: false,
  leaseSeconds: 900,
  leaseSecondsLeft: 12.5,
  availabilityInUse: true,
  rotationFailing: false,
  revocationDeadlineSeconds: 11,
  revocationMaxSeconds: 0.25,
  keys: [
    {
      version: 'v1',
      lastProbeMs: 1_767_225_600_123,
      verdict: 'PROOF',
      expiresMs: 1_800_000_000_500,
    },
  ],
};

export function metricsOf(
  disks: DiskSample[],
  sets: SetSample[],
  rest: Partial<MetricsSources> = {},
): Metrics {
  return new Metrics({
    version: '0.1.0',
    sources: {
      disks: () => disks,
      sets: () => sets,
      connections: () => ({ total: 3, negotiating: 1 }),
      vaults: () => [{ vault: 'v.example', probeTokens: 200, bulkTokens: -5, throttled: 3 }],
      shards: () => ({ total: 2, alive: 1, restarts: 5, cpuSeconds: [1.5, 0.25] }),
      ...rest,
    },
  });
}

/** Every sample of keyhold as `name{label=value,…}` → value. */
export async function samplesOf(metrics: Metrics): Promise<Record<string, number>> {
  const families = parseExposition(await metrics.scrape());
  return Object.fromEntries(
    [...families.values()].flatMap(({ samples }) =>
      samples.map(({ name, labels, value }) => {
        const text = Object.entries(labels).map(([label, one]) => `${label}=${one}`);
        return [`${name}{${text.join(',')}}`, value];
      }),
    ),
  );
}

// SPDX-License-Identifier: Apache-2.0
import type { Registry } from 'prom-client';
import {
  COMMANDS,
  LATENCY_BUCKETS_SECONDS,
  type NativeCommandStats,
  type NativeDiskStats,
} from '../dataplane/addon.js';
import {
  histogramSamples,
  registerSampledMetric,
  stateSamples,
  type Labels,
  type Sample,
  type SampledMetricOptions,
} from './sampled-metric.js';
import type { DiskSample } from './sources.js';

const STATES = ['offline', 'online', 'suspended'];

/** Everything about disks, read from native counters at the scrape. */
export function registerDiskMetrics(registry: Registry, disks: () => readonly DiskSample[]): void {
  const all = [...stateMetrics(disks), ...gaugeMetrics(disks), ...trafficMetrics(disks)];
  for (const metric of all) registerSampledMetric(registry, metric);
}

function stateMetrics(disks: () => readonly DiskSample[]): SampledMetricOptions[] {
  return [
    {
      name: 'keyhold_disk_info',
      help: 'Always 1; says which encryption set a disk belongs to.',
      type: 'gauge',
      read: () => disks().map(({ name, set }) => ({ labels: { disk: name, set }, value: 1 })),
    },
    {
      name: 'keyhold_disk_state',
      help: '1 for the state that the disk is in, 0 for the others.',
      type: 'gauge',
      read: () =>
        disks().flatMap((disk) => stateSamples(labelsOf(disk), 'state', STATES, disk.state)),
    },
    {
      name: 'keyhold_disk_offline_reason',
      help: '1 with the reason why the disk is offline; absent while it is not.',
      type: 'gauge',
      read: () =>
        disks().flatMap((disk) =>
          disk.reason === null
            ? []
            : [{ labels: { disk: disk.name, reason: disk.reason }, value: 1 }],
        ),
    },
  ];
}

function gaugeMetrics(disks: () => readonly DiskSample[]): SampledMetricOptions[] {
  const gauge = (
    name: string,
    help: string,
    value: (disk: DiskSample) => number,
  ): SampledMetricOptions => ({
    name,
    help,
    type: 'gauge',
    read: () => disks().map((disk) => ({ labels: labelsOf(disk), value: value(disk) })),
  });
  return [
    gauge('keyhold_disk_size_bytes', 'Size of the disk.', (disk) => disk.sizeBytes),
    gauge(
      'keyhold_disk_revoked',
      '1 while the disk serves on although its key was revoked (mode restart).',
      (disk) => Number(disk.revoked),
    ),
    gauge('keyhold_disk_key_present', "1 while the disk's key stands in memory.", (disk) =>
      Number(disk.stats?.keyPresent ?? false),
    ),
    gauge(
      'keyhold_disk_in_flight',
      'Requests that the disk works on.',
      (disk) => disk.stats?.inFlight ?? 0,
    ),
    gauge(
      'keyhold_disk_parked',
      'Requests that wait while the disk is suspended.',
      (disk) => disk.stats?.parked ?? 0,
    ),
    gauge(
      'keyhold_disk_connections',
      'NBD connections in transmission to the disk.',
      (disk) => disk.stats?.connections ?? 0,
    ),
  ];
}

function trafficMetrics(disks: () => readonly DiskSample[]): SampledMetricOptions[] {
  const perCommand =
    (samples: (labels: Labels, stats: NativeCommandStats) => readonly Sample[]) => () =>
      withStats(disks()).flatMap(([disk, stats]) =>
        COMMANDS.flatMap((command) =>
          samples({ disk: disk.name, command }, stats.commands[command]),
        ),
      );
  const duration = 'keyhold_nbd_request_duration_seconds';
  return [
    {
      name: 'keyhold_nbd_requests_total',
      help: 'Requests answered: ok, error, or shutdown (the disk was or went offline).',
      type: 'counter',
      read: perCommand((labels, stats) => [
        { labels: { ...labels, result: 'ok' }, value: stats.requestsOk },
        { labels: { ...labels, result: 'error' }, value: stats.requestsError },
        { labels: { ...labels, result: 'shutdown' }, value: stats.requestsShutdown },
      ]),
    },
    {
      name: 'keyhold_nbd_bytes_total',
      help: 'Bytes that successful requests covered.',
      type: 'counter',
      read: perCommand((labels, stats) => [{ labels, value: stats.bytes }]),
    },
    {
      name: duration,
      help: 'Time from the last byte of a request to its reply.',
      type: 'histogram',
      read: perCommand((labels, stats) =>
        histogramSamples(duration, labels, {
          bounds: LATENCY_BUCKETS_SECONDS,
          counts: stats.latencyBuckets,
          sum: stats.latencySumSeconds,
        }),
      ),
    },
    {
      name: 'keyhold_cipher_bytes_total',
      help: 'Bytes that passed the cipher, including what partial sectors add.',
      type: 'counter',
      read: () =>
        withStats(disks()).flatMap(([{ name: disk }, stats]) => [
          { labels: { disk, direction: 'encrypt' }, value: stats.encryptedBytes },
          { labels: { disk, direction: 'decrypt' }, value: stats.decryptedBytes },
        ]),
    },
  ];
}

function withStats(disks: readonly DiskSample[]): [DiskSample, NativeDiskStats][] {
  return disks.flatMap((disk) => (disk.stats === null ? [] : [[disk, disk.stats]]));
}

function labelsOf(disk: DiskSample): Labels {
  return { disk: disk.name };
}

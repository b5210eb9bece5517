// SPDX-License-Identifier: Apache-2.0
import {
  COMMANDS,
  LATENCY_BUCKETS_SECONDS,
  type NativeCommandStats,
  type NativeDiskStats,
} from '../dataplane/addon.js';
import { histogramSamples, stateSamples, type Labels, type Sample } from './sampled-metric.js';
import type { DiskSample } from './sources.js';

const STATES = ['offline', 'online', 'suspended'];

/** A metric with samples of every disk, read from native counters at the scrape. */
export interface DiskMetric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly read: (disk: DiskSample) => readonly Sample[];
}

/** Everything about disks. */
export const DISK_METRICS: readonly DiskMetric[] = [
  ...stateMetrics(),
  ...gaugeMetrics(),
  ...trafficMetrics(),
];

function stateMetrics(): DiskMetric[] {
  return [
    {
      name: 'keyhold_disk_info',
      help: 'Always 1; says which encryption set a disk belongs to.',
      type: 'gauge',
      read: ({ name, set }) => [{ labels: { disk: name, set }, value: 1 }],
    },
    {
      name: 'keyhold_disk_state',
      help: '1 for the state that the disk is in, 0 for the others.',
      type: 'gauge',
      read: (disk) => stateSamples(labelsOf(disk), 'state', STATES, disk.state),
    },
    {
      name: 'keyhold_disk_offline_reason',
      help: '1 with the reason why the disk is offline; absent while it is not.',
      type: 'gauge',
      read: ({ name: disk, reason }) =>
        reason === null ? [] : [{ labels: { disk, reason }, value: 1 }],
    },
  ];
}

function gaugeMetrics(): DiskMetric[] {
  const gauge = (name: string, help: string, value: (disk: DiskSample) => number): DiskMetric => ({
    name,
    help,
    type: 'gauge',
    read: (disk) => [{ labels: labelsOf(disk), value: value(disk) }],
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

function trafficMetrics(): DiskMetric[] {
  // A command that a disk was never asked for has no series: of ten thousand disks most are idle,
  // and their zeros would be most of the page.
  const perCommand =
    (samples: (labels: Labels, stats: NativeCommandStats) => readonly Sample[]) =>
    ({ name: disk, stats }: DiskSample): Sample[] =>
      COMMANDS.flatMap((command) => {
        const counters = stats?.commands[command];
        return counters === undefined ? [] : samples({ disk, command }, counters);
      });
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
      read: ({ name: disk, stats }) => (stats === null ? [] : cipherSamples(disk, stats)),
    },
  ];
}

function cipherSamples(
  disk: string,
  { encryptedBytes, decryptedBytes }: NativeDiskStats,
): Sample[] {
  return [
    { labels: { disk, direction: 'encrypt' }, value: encryptedBytes },
    { labels: { disk, direction: 'decrypt' }, value: decryptedBytes },
  ];
}

function labelsOf(disk: DiskSample): Labels {
  return { disk: disk.name };
}

// SPDX-License-Identifier: Apache-2.0
import { COMMANDS, type NativeCommandStats } from '../dataplane/addon.js';
import { escapeLabel } from './disk-page.js';
import type { DiskSample } from './sources.js';

const STATES = ['offline', 'online', 'suspended'];

/** Prints a line about a disk: labels but `disk`, as they stand on the page, and the value. */
export type PrintLine = (labels: string, value: number) => void;

/** A metric with lines about every disk, read from native counters at the scrape. */
export interface DiskMetric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly print: (disk: DiskSample, line: PrintLine) => void;
}

/** Everything about disks. */
export const DISK_METRICS: readonly DiskMetric[] = [
  ...stateMetrics(),
  ...gaugeMetrics(),
  ...trafficMetrics(),
];

function stateMetrics(): DiskMetric[] {
  const states = STATES.map((state) => [state, `,state="${state}"`] as const);
  return [
    {
      name: 'keyhold_disk_info',
      help: 'Always 1; says which encryption set a disk belongs to.',
      type: 'gauge',
      print: ({ set }, line) => line(`,set="${escapeLabel(set)}"`, 1),
    },
    {
      name: 'keyhold_disk_state',
      help: '1 for the state that the disk is in, 0 for the others.',
      type: 'gauge',
      print: (disk, line) => {
        for (const [state, labels] of states) line(labels, Number(state === disk.state));
      },
    },
    {
      name: 'keyhold_disk_offline_reason',
      help: '1 with the reason why the disk is offline; absent while it is not.',
      type: 'gauge',
      print: ({ reason }, line) => {
        if (reason !== null) line(`,reason="${escapeLabel(reason)}"`, 1);
      },
    },
  ];
}

function gaugeMetrics(): DiskMetric[] {
  const gauge = (name: string, help: string, value: (disk: DiskSample) => number): DiskMetric => ({
    name,
    help,
    type: 'gauge',
    print: (disk, line) => line('', value(disk)),
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
  const commands = COMMANDS.map((command) => [command, `,command="${command}"`] as const);
  const perCommand =
    (print: (labels: string, stats: NativeCommandStats, line: PrintLine) => void) =>
    ({ stats }: DiskSample, line: PrintLine): void => {
      if (stats === null) return;
      for (const [command, labels] of commands) {
        const counters = stats.commands[command];
        if (counters !== undefined) print(labels, counters, line);
      }
    };
  return [
    {
      name: 'keyhold_nbd_requests_total',
      help: 'Requests answered: ok, error, or shutdown (the disk was or went offline).',
      type: 'counter',
      print: perCommand((labels, stats, line) => {
        line(`${labels},result="ok"`, stats.requestsOk);
        line(`${labels},result="error"`, stats.requestsError);
        line(`${labels},result="shutdown"`, stats.requestsShutdown);
      }),
    },
    {
      name: 'keyhold_nbd_bytes_total',
      help: 'Bytes that successful requests covered.',
      type: 'counter',
      print: perCommand((labels, stats, line) => line(labels, stats.bytes)),
    },
    {
      name: 'keyhold_nbd_request_seconds_total',
      help: 'Time that answered requests took, added up; their histogram is per set.',
      type: 'counter',
      print: perCommand((labels, stats, line) => line(labels, stats.latencySumSeconds)),
    },
    {
      name: 'keyhold_cipher_bytes_total',
      help: 'Bytes that passed the cipher, including what partial sectors add.',
      type: 'counter',
      print: ({ stats }, line) => {
        if (stats === null) return;
        line(',direction="encrypt"', stats.encryptedBytes);
        line(',direction="decrypt"', stats.decryptedBytes);
      },
    },
  ];
}

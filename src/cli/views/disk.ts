// SPDX-License-Identifier: Apache-2.0
import type { DiskDetail, DiskView } from '../../admin/api.js';
import { assertNever } from '../../base/errors.js';
import { formatSize } from '../../base/units.js';
import type { CliIo } from '../io.js';
import { type Column, formatFields, formatTable } from '../table.js';
import { type Paint, paint, plain } from '../text.js';
import { formatClients } from './connection.js';
import { formatAge, formatLease, formatSince } from './time.js';

export type DiskState = DiskView['state'];

/** As much of a disk as says how it is. */
export interface StatedDisk {
  readonly state: DiskState;
  readonly reason: string | null;
  readonly revoked: boolean;
}

/** `online`, `online, revoked`, `offline (key-disabled)`: state, reason and mark in one. */
export function stateOf(disk: StatedDisk): string {
  const reason = disk.reason === null ? '' : ` (${disk.reason})`;
  return `${disk.state}${reason}${disk.revoked ? ', revoked' : ''}`;
}

/** Green is as it should be, red wants somebody. */
export function paintOf(disk: StatedDisk): Paint | undefined {
  switch (disk.state) {
    case 'online':
      return disk.revoked ? 'yellow' : 'green';
    case 'suspended':
      return 'yellow';
    case 'offline':
      // What an operator asked for is no alarm.
      return disk.reason === 'never-attached' || disk.reason === 'detached' ? undefined : 'red';
    default:
      return assertNever(disk.state, 'disk state');
  }
}

export function formatDiskList(io: CliIo, disks: readonly DiskView[]): string {
  if (disks.length === 0) return 'no disks; keyhold disk create NAME --set SET --size SIZE\n';
  const columns: ReadonlyArray<Column<DiskView>> = [
    { title: 'NAME', value: (disk) => disk.name, widthMin: 12 },
    { title: 'STATE', value: stateOf, paint: paintOf },
    { title: 'SINCE', value: (disk) => formatAge(disk.since, io.nowMs()), align: 'right' },
    { title: 'SIZE', value: (disk) => formatSize(disk.sizeBytes), align: 'right' },
    { title: 'SET', value: (disk) => disk.set, widthMin: 8 },
    { title: 'CLIENTS', value: (disk) => String(disk.clients), align: 'right' },
    { title: 'STORE', value: (disk) => disk.store, widthMin: 12, cut: 'start' },
  ];
  return formatTable(io.stdout, columns, disks);
}

/** What an operator does about an offline disk; nothing where it heals by itself. */
function nextStep(disk: DiskView): string | undefined {
  if (disk.state !== 'offline' || disk.reason === null) return undefined;
  const attach = `keyhold disk attach ${plain(disk.name)}`;
  switch (disk.reason) {
    case 'never-attached':
    case 'detached':
      return attach;
    case 'store-error':
    case 'integrity':
      return `find out why, then ${attach}`;
    case 'fenced':
    case 'erased':
      return undefined;
    case 'key-disabled':
    case 'key-deleted':
    case 'key-expired':
    case 'access-denied':
    case 'identity-denied':
    case 'lease-expired':
      // A lease stands, and the disk is offline all the same: its set holds disks for an operator.
      if (disk.leaseSecondsLeft !== null && disk.leaseSecondsLeft > 0) return attach;
      return `heals once the vault grants access; to probe now: keyhold set check ${plain(disk.set)}`;
    default:
      return assertNever(disk.reason, 'reason');
  }
}

/** What an empty allow list means. */
export const OPEN_TO_MACHINE = 'this machine: unix sockets and loopback TCP';

export function formatDisk(io: CliIo, disk: DiskDetail): string {
  const traits = [
    `${disk.sectorSizeBytes}-byte sectors`,
    disk.dmCrypt ? 'dm-crypt compatible' : 'thin',
    ...(disk.double ? ['encrypted twice'] : []),
    ...(disk.readOnly ? ['read-only'] : []),
    ...(disk.rotational ? ['rotational'] : []),
    ...(disk.direct ? ['direct i/o'] : []),
  ];
  const [rule = OPEN_TO_MACHINE, ...rules] = disk.allow;
  const fields = formatFields([
    ['state', paint(io.stdout, stateOf(disk), paintOf(disk))],
    ['since', formatSince(disk.since, io.nowMs())],
    ['message', disk.message === null ? undefined : plain(disk.message)],
    ['key version', plain(disk.keyVersion ?? 'none')],
    ['vault request', disk.vaultRequestId === null ? undefined : plain(disk.vaultRequestId)],
    ['lease left', formatLease(disk.leaseSecondsLeft)],
    ['description', disk.description === '' ? undefined : plain(disk.description)],
    ['set', plain(disk.set)],
    ['size', `${formatSize(disk.sizeBytes)} (${disk.sizeBytes} bytes), ${traits.join(', ')}`],
    ['store', plain(disk.store)],
    ['wanted', disk.attached ? 'attached' : 'detached'],
    ['open to', plain(rule)],
    ...rules.map((other) => ['', `or ${plain(other)}`] as const),
    ['clients', String(disk.clients)],
    ['uuid', plain(disk.uuid)],
    ['next', nextStep(disk)],
  ]);
  return `disk ${plain(disk.name)}\n${fields}${formatClients(io, disk.connections)}`;
}

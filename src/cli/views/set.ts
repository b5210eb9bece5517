// SPDX-License-Identifier: Apache-2.0
import type { CheckResult, SetKeyView, SetView } from '../../admin/api.js';
import { assertNever } from '../../base/errors.js';
import { formatDuration } from '../../base/units.js';
import type { CliIo } from '../io.js';
import { type Column, formatFields, formatTable } from '../table.js';
import { type Paint, paint, plain } from '../text.js';
import { formatLease, formatSince } from './time.js';

type Access = SetView['access'];

function paintOf(access: Access): Paint | undefined {
  switch (access) {
    case 'granted':
      return 'green';
    case 'denied':
      return 'red';
    case 'lapsed':
      return 'yellow';
    case 'unknown':
      return undefined;
    default:
      return assertNever(access, 'access');
  }
}

function accessOf(set: { access: Access; alarm: boolean }): string {
  return set.alarm ? `${set.access}, alarm` : set.access;
}

export function formatSetList(io: CliIo, sets: readonly SetView[]): string {
  if (sets.length === 0) return 'no sets; keyhold set create NAME --key URL\n';
  const columns: ReadonlyArray<Column<SetView>> = [
    { title: 'NAME', value: (set) => set.name, widthMin: 12 },
    { title: 'ACCESS', value: accessOf, paint: (set) => paintOf(set.access) },
    { title: 'LEASE', value: (set) => formatLease(set.leaseSecondsLeft), align: 'right' },
    { title: 'ON REVOKE', value: (set) => set.mode },
    { title: 'DISKS', value: (set) => String(set.disks.length), align: 'right' },
    { title: 'IDENTITY', value: (set) => set.identity, widthMin: 8 },
    {
      title: 'KEY',
      value: (set) => set.keys.map((key) => key.id).join(' '),
      widthMin: 20,
      cut: 'start',
    },
  ];
  return formatTable(io.stdout, columns, sets);
}

export function formatSet(io: CliIo, set: SetView): string {
  const seconds = (value: number): string => formatDuration(value * 1000);
  const fields = formatFields([
    ['access', paint(io.stdout, accessOf(set), paintOf(set.access))],
    ['lease left', formatLease(set.leaseSecondsLeft)],
    ['on revoke', set.mode],
    ['on heal', set.holdOnHeal ? 'disks wait for an operator' : 'disks come back by themselves'],
    ['identity', plain(set.identity)],
    ['probe interval', seconds(set.probeIntervalSeconds)],
    ['lease', seconds(set.leaseSeconds)],
    ['suspend timeout', seconds(set.suspendTimeoutSeconds)],
    ['disks', set.disks.length === 0 ? 'none' : plain(set.disks.join(', '))],
    ['id', plain(set.id)],
  ]);
  return `set ${plain(set.name)}\n${fields}${formatKeys(io, set.keys)}`;
}

export function formatCheck(io: CliIo, result: CheckResult): string {
  const access = paint(io.stdout, accessOf(result), paintOf(result.access));
  const lease = formatLease(result.leaseSecondsLeft);
  return `set ${plain(result.set)}: ${access}, lease left ${lease}\n${formatKeys(io, result.keys)}`;
}

function formatKeys(io: CliIo, keys: readonly SetKeyView[]): string {
  return keys
    .map((key) => {
      const fields = formatFields([
        ['verdict', plain(key.verdict ?? 'never probed')],
        ['since', key.since === null ? undefined : formatSince(key.since, io.nowMs())],
        [
          'error',
          key.error === null ? undefined : plain(`${key.error.code}: ${key.error.message}`),
        ],
        ['vault request', plain(key.error?.requestId ?? '') || undefined],
      ]);
      return `key ${plain(key.id)}\n${fields}`;
    })
    .join('');
}

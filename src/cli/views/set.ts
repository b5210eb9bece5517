// SPDX-License-Identifier: Apache-2.0
import type { CheckResult, SetKeyView, SetView } from '../../admin/api-sets.js';
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
      value: (set) => set.keys.map((key) => key.id).join(' ') || 'platform key',
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
    ['granted by', set.grantedBy === 'availability' ? 'the availability key' : undefined],
    ...set.warnings.map((text): [string, string] => [
      'warning',
      paint(io.stdout, plain(text), 'yellow'),
    ]),
    ['purged', set.purge === null ? undefined : (set.purge.finishedAt ?? 'not finished yet')],
    [
      'drill',
      set.drill === null ? undefined : `${set.drill.scenario}, simulated until ${set.drill.endsAt}`,
    ],
    ['lease left', formatLease(set.leaseSecondsLeft)],
    ['on revoke', set.mode],
    ['revoked when', set.keys.length > 1 ? `${set.revokeWhen} key is denied` : undefined],
    ['on heal', set.holdOnHeal ? 'disks wait for an operator' : 'disks come back by themselves'],
    ['on expiry', set.onExpiry],
    ['identity', plain(set.identity)],
    ['probe interval', seconds(set.probeIntervalSeconds)],
    ['lease', seconds(set.leaseSeconds)],
    ['suspend timeout', seconds(set.suspendTimeoutSeconds)],
    ['rotation interval', seconds(set.rotationIntervalSeconds)],
    ['rotation', troubleOf(set)],
    ['revocation', deadlineOf(set)],
    ['double encryption', set.double ? 'yes' : undefined],
    ['platform key', set.platformKey ?? undefined],
    ['availability key', set.availabilityKey ?? undefined],
    ['disks', set.disks.length === 0 ? 'none' : plain(set.disks.join(', '))],
    ...set.unreadable.map(({ disk, error }): [string, string] => [
      'unreadable header',
      plain(`${disk}: ${error}`),
    ]),
    ['id', plain(set.id)],
  ]);
  return `set ${plain(set.name)}\n${fields}${formatKeys(io, set.keys)}${formatRetired(io, set)}`;
}

function troubleOf({ rotationTrouble: trouble }: SetView): string | undefined {
  if (trouble === null) return undefined;
  const { code, message, since, attempts } = trouble;
  return plain(`failing since ${since}, ${String(attempts)} attempts: ${code}: ${message}`);
}

function deadlineOf({ revocation }: SetView): string | undefined {
  if (revocation === null) return undefined;
  const { deadlineSeconds, lastSeconds, maxSeconds } = revocation;
  const deadline = `within ${formatDuration(deadlineSeconds * 1000)}`;
  if (lastSeconds === null || maxSeconds === null) return `${deadline}; none measured yet`;
  const [last, max] = [lastSeconds, maxSeconds].map((value) => `${(value * 1000).toFixed(1)} ms`);
  return `${deadline}; last probe to wipe ${last}, longest ${max}`;
}

function formatRetired(io: CliIo, set: SetView): string {
  return set.retired
    .map(({ id, retiredAt, dependents, safeToDisable }) => {
      const fields = formatFields([
        ['retired', formatSince(retiredAt, io.nowMs())],
        ['disks depending', dependents === null ? undefined : String(dependents.length)],
        ['safe to disable', safeOf(io, safeToDisable)],
      ]);
      return `key ${plain(id)}\n${fields}`;
    })
    .join('');
}

function safeOf(io: CliIo, safe: boolean | null): string | undefined {
  if (safe === null) return undefined;
  return safe ? paint(io.stdout, 'yes', 'green') : paint(io.stdout, 'no', 'yellow');
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
        ['role', key.role === 'current' ? undefined : key.role],
        ['verdict', plain(key.verdict ?? 'never probed')],
        ['since', key.since === null ? undefined : formatSince(key.since, io.nowMs())],
        [
          'error',
          key.error === null ? undefined : plain(`${key.error.code}: ${key.error.message}`),
        ],
        ['vault request', plain(key.error?.requestId ?? '') || undefined],
        ['expires', key.expiresAt ?? undefined],
        ['disks depending', key.dependents === null ? undefined : String(key.dependents.length)],
        ['safe to disable', safeOf(io, key.safeToDisable)],
      ]);
      return `key ${plain(key.id)}\n${fields}`;
    })
    .join('');
}

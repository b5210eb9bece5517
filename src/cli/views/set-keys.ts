// SPDX-License-Identifier: Apache-2.0
import type { Impact, PurgeReceipt } from '../../admin/api-sets.js';
import { assertNever } from '../../base/errors.js';
import { formatDuration } from '../../base/units.js';
import type { CliIo } from '../io.js';
import { type Column, formatFields, formatTable } from '../table.js';
import { type Paint, plain } from '../text.js';

type DiskImpact = Impact['disks'][number];

const OUTCOMES: Readonly<Record<DiskImpact['outcome'], string>> = {
  'goes-offline': 'goes offline',
  suspends: 'suspends',
  revoked: 'revoked, serves until its next restart',
  'serves-on': 'serves on',
  'stays-offline': 'is offline, and stays so',
};

function paintOf(outcome: DiskImpact['outcome']): Paint | undefined {
  switch (outcome) {
    case 'goes-offline':
      return 'red';
    case 'suspends':
    case 'revoked':
      return 'yellow';
    case 'serves-on':
      return 'green';
    case 'stays-offline':
      return undefined;
    default:
      return assertNever(outcome, 'outcome');
  }
}

export function formatImpact(io: CliIo, impact: Impact): string {
  const head = formatFields([
    ['if', scenarioOf(impact)],
    ['then', plain(impact.why)],
  ]);
  if (impact.disks.length === 0) return `set ${plain(impact.set)}\n${head}no disks\n`;
  const columns: ReadonlyArray<Column<DiskImpact>> = [
    { title: 'DISK', value: ({ disk }) => disk, widthMin: 8 },
    { title: 'NOW', value: ({ state }) => state },
    {
      title: 'OUTCOME',
      value: ({ outcome }) => OUTCOMES[outcome],
      paint: ({ outcome }) => paintOf(outcome),
    },
    {
      title: 'WITHIN',
      value: ({ withinSeconds: s }) => (s === null ? '' : formatDuration(Math.round(s * 1000))),
      align: 'right',
    },
    { title: 'CLIENTS', value: ({ clients }) => clients.join(', ') || 'none', widthMin: 8 },
  ];
  return `set ${plain(impact.set)}\n${head}${formatTable(io.stdout, columns, impact.disks)}`;
}

function scenarioOf({ scenario, kids }: Impact): string {
  const keys = plain(kids.join(' and ')) || 'no key';
  switch (scenario) {
    case 'disable':
      return `${keys} were disabled`;
    case 'delete':
      return `${keys} were deleted`;
    case 'outage':
      return `the vault of ${keys} gave no answer`;
    default:
      return assertNever(scenario, 'scenario');
  }
}

export function formatPurge(set: string, receipt: PurgeReceipt): string {
  const failed = receipt.failed.map(({ disk, message }) => `${disk}: ${message}`).join('; ');
  const fields = formatFields([
    ['wrapped set keys destroyed', plain(receipt.kids.join(', ')) || 'none'],
    ['availability key destroyed', receipt.availabilityKey ? 'yes' : undefined],
    ['disks erased', plain(receipt.erased.join(', ')) || 'none'],
    ['not erased yet', plain(failed) || undefined],
    ['finished', receipt.finishedAt ?? 'not yet: it goes on by itself'],
  ]);
  return `set ${plain(set)} purged\n${fields}`;
}

// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { Status } from '../../admin/api.js';
import { addCommand, type CliContext, connect, isJson, print, printJson } from '../context.js';
import type { CliIo } from '../io.js';
import { formatFields } from '../table.js';
import { paint, plain } from '../text.js';
import { formatSince, formatSpan } from '../views/time.js';

export function addStatusCommand(program: Command, context: CliContext): void {
  addCommand(program, 'status', 'show the daemon: counts, addresses, alarms').action(
    async (_options: object, command: Command) => {
      const status = await (await connect(context, command)).status();
      if (isJson(command)) printJson(context, status);
      else print(context, formatStatus(context.io, status));
    },
  );
}

function formatStatus(io: CliIo, status: Status): string {
  const { disks, sets, shards } = status;
  const alive = shards.filter((shard) => shard.alive).length;
  const restarts = shards.reduce((sum, shard) => sum + shard.restarts, 0);
  const fields = formatFields([
    ['daemon', `keyhold ${plain(status.version)}, pid ${status.pid}`],
    ['up', formatSpan(status.uptimeSeconds * 1000)],
    ['disks', counts(disks.total, disks)],
    ['sets', counts(sets.total, sets)],
    ['connections', String(status.connections)],
    ['shards', `${alive} of ${shards.length} alive, restarts: ${restarts}`],
    ['cipher', plain(status.xtsKernel)],
    ['nbd', plain(status.nbd.join(', '))],
    ['metrics', plain(status.metrics ?? 'off')],
    ['admin', plain(status.adminSocket)],
  ]);
  const alarms = status.alarms.map(({ name, message, since }) => {
    const title = paint(io.stdout, `alarm ${plain(name)}`, 'red');
    return `${title}: ${plain(message)}, since ${formatSince(since, io.nowMs())}\n`;
  });
  return fields + alarms.join('');
}

/** `3: 2 online, 1 offline`: what is zero is left out. */
function counts(total: number, byState: Readonly<Record<string, number>>): string {
  const parts = Object.entries(byState)
    .filter(([state, count]) => state !== 'total' && count > 0)
    .map(([state, count]) => `${count} ${state}`);
  return parts.length === 0 ? String(total) : `${total}: ${parts.join(', ')}`;
}

// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { Status } from '../../admin/api.js';
import type { AdminClient } from '../../admin/client.js';
import { addCommand, type CliContext, connect, isJson, print, printJson } from '../context.js';
import type { CliIo } from '../io.js';
import { formatFields } from '../table.js';
import { paint, plain } from '../text.js';
import { formatConnectionRates, withRates } from '../views/connection.js';
import { formatSince, formatSpan } from '../views/time.js';

/** Rates are what passed between two looks this far apart. */
const RATE_INTERVAL_MS = 1000;

export function addStatusCommand(program: Command, context: CliContext): void {
  addCommand(program, 'status', 'show the daemon: counts, addresses, alarms')
    .addOption(new Option('--connections', 'show NBD connections, watched for a second, instead'))
    .action(async (options: { connections?: true }, command: Command) => {
      const client = await connect(context, command);
      if (options.connections === true) {
        await showConnections(context, command, client);
        return;
      }
      const status = await client.status();
      if (isJson(command)) printJson(context, status);
      else print(context, formatStatus(context.io, status));
    });
}

/** As JSON one look: a script has the counters, and its own interval. */
async function showConnections(
  context: CliContext,
  command: Command,
  client: AdminClient,
): Promise<void> {
  const before = await client.listConnections();
  if (isJson(command)) {
    printJson(context, { connections: before });
    return;
  }
  if (before.length > 0) await context.io.wait(RATE_INTERVAL_MS);
  const connections = before.length > 0 ? await client.listConnections() : before;
  print(context, formatConnectionRates(context.io, withRates(before, connections)));
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
    ['engine', `${plain(status.engine.name)}: ${plain(status.engine.why)}`],
    ['nbd', plain(status.nbd.join(', '))],
    ['metrics', plain(status.metrics ?? 'off')],
    ['admin', plain(status.adminSocket)],
    ['platform key', status.platformKey ?? undefined],
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

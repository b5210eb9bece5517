// SPDX-License-Identifier: Apache-2.0
import type { ConnectionView } from '../../admin/api.js';
import { formatSize } from '../../base/units.js';
import type { CliIo } from '../io.js';
import { type Column, formatTable } from '../table.js';
import { formatSpan } from './time.js';

/** What passed over a connection in a second. */
interface Rates {
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly requests: number;
}

interface WatchedConnection {
  readonly connection: ConnectionView;
  readonly rates: Rates;
}

/**
 * Rates between two looks, by the daemon's own clock. A connection that came in between is counted
 * from its beginning.
 */
export function withRates(
  before: readonly ConnectionView[],
  after: readonly ConnectionView[],
): WatchedConnection[] {
  const earlier = new Map(before.map((connection) => [connection.id, connection]));
  return after.map((connection) => {
    const start = earlier.get(connection.id) ?? BEGINNING;
    const elapsedSeconds = connection.ageSeconds - start.ageSeconds;
    const rate = (counter: keyof Rates): number =>
      elapsedSeconds > 0 ? (connection[counter] - start[counter]) / elapsedSeconds : 0;
    const rates = {
      bytesIn: rate('bytesIn'),
      bytesOut: rate('bytesOut'),
      requests: rate('requests'),
    };
    return { connection, rates };
  });
}

const BEGINNING = { ageSeconds: 0, bytesIn: 0, bytesOut: 0, requests: 0 };

/** Every connection with its rates; the totals only where the terminal has room for them. */
export function formatConnectionRates(io: CliIo, watched: readonly WatchedConnection[]): string {
  if (watched.length === 0) return 'no connections\n';
  const bytes = (counter: 'bytesIn' | 'bytesOut') => (row: WatchedConnection) =>
    formatSize(Math.round(row.rates[counter]));
  const columns: ReadonlyArray<Column<WatchedConnection>> = [
    ...columnsOf<WatchedConnection>(io, { of: ({ connection }) => connection, disk: true }),
    { title: 'IN/S', value: bytes('bytesIn'), align: 'right' },
    { title: 'OUT/S', value: bytes('bytesOut'), align: 'right' },
    { title: 'REQ/S', value: ({ rates }) => formatRate(rates.requests), align: 'right' },
  ];
  return formatTable(io.stdout, columns, watched);
}

/** The clients of one disk, below what else is shown of it. */
export function formatClients(io: CliIo, connections: readonly ConnectionView[]): string {
  if (connections.length === 0) return '';
  const columns = columnsOf<ConnectionView>(io, { of: (connection) => connection, disk: false });
  return formatTable(io.stdout, columns, connections);
}

function columnsOf<Row>(
  io: CliIo,
  { of, disk }: { of: (row: Row) => ConnectionView; disk: boolean },
): ReadonlyArray<Column<Row>> {
  const diskColumn: Column<Row> = {
    title: 'DISK',
    value: (row) => of(row).disk ?? '(negotiating)',
    widthMin: 8,
  };
  return [
    { title: 'PEER', value: (row) => formatPeer(of(row)), widthMin: 16 },
    { title: 'TLS', value: (row) => formatTls(io, of(row)) },
    ...(disk ? [diskColumn] : []),
    { title: 'FLIGHT', value: (row) => String(of(row).inFlight), align: 'right' },
    { title: 'AGE', value: (row) => formatSpan(of(row).ageSeconds * 1000), align: 'right' },
    { title: 'IN', value: (row) => formatSize(of(row).bytesIn), align: 'right', optional: true },
    { title: 'OUT', value: (row) => formatSize(of(row).bytesOut), align: 'right', optional: true },
    { title: 'REQUESTS', value: (row) => String(of(row).requests), align: 'right', optional: true },
  ];
}

/** In the words of rules: who, and from where. */
function formatPeer({ address, tls }: ConnectionView): string {
  const where =
    address.kind === 'unix'
      ? `uid=${address.uid} pid=${address.pid} gid=${address.gid}`
      : address.address.includes(':')
        ? `[${address.address}]:${address.port}`
        : `${address.address}:${address.port}`;
  const subject = tls?.certificate?.subject;
  const psk = tls?.pskIdentity ?? undefined;
  if (subject !== undefined) return `${where} ${subject}`;
  return psk === undefined ? where : `${where} psk=${psk}`;
}

/** `1.3 TLS_AES_256_GCM_SHA384`; on a terminal the version alone, since peers need the room. */
function formatTls({ stdout }: CliIo, { tls }: ConnectionView): string {
  if (tls === null) return '-';
  const version = tls.version.replace(/^TLSv/, '');
  return stdout.columns === undefined ? `${version} ${tls.cipher}` : version;
}

function formatRate(perSecond: number): string {
  return perSecond >= 10 ? String(Math.round(perSecond)) : String(Math.round(perSecond * 10) / 10);
}

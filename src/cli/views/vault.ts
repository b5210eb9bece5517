// SPDX-License-Identifier: Apache-2.0
import type { KeyInfo, KeyVersionInfo, VaultStatus } from '../../devvault/control-schemas.js';
import type { RequestLogEntry } from '../../devvault/request-log.js';
import type { CliIo } from '../io.js';
import { type Column, formatFields, formatTable } from '../table.js';
import { paint, plain } from '../text.js';

function stateOf(key: { enabled: boolean; deleted?: boolean }): string {
  if (key.deleted === true) return 'deleted';
  return key.enabled ? 'enabled' : 'disabled';
}

function kindOf(version: KeyVersionInfo | undefined): string {
  if (version === undefined) return '';
  return version.sizeBits === undefined ? version.kty : `${version.kty} ${version.sizeBits}`;
}

export function formatKeyList(io: CliIo, keys: readonly KeyInfo[]): string {
  if (keys.length === 0) return 'no keys; keyhold vault key create NAME\n';
  const columns: ReadonlyArray<Column<KeyInfo>> = [
    { title: 'NAME', value: (key) => key.name, widthMin: 12 },
    {
      title: 'STATE',
      value: stateOf,
      paint: (key) => (stateOf(key) === 'enabled' ? 'green' : 'red'),
    },
    { title: 'KIND', value: (key) => kindOf(key.versions.at(-1)) },
    { title: 'VERSIONS', value: (key) => String(key.versions.length), align: 'right' },
    { title: 'URL', value: (key) => key.id, widthMin: 20, cut: 'start' },
  ];
  return formatTable(io.stdout, columns, keys);
}

export function formatKey(io: CliIo, key: KeyInfo): string {
  const state = stateOf(key);
  const purge = key.scheduledPurgeDate;
  const fields = formatFields([
    ['state', paint(io.stdout, state, state === 'enabled' ? 'green' : 'red')],
    ['url', plain(key.id)],
    ['purged on', purge === undefined ? undefined : formatSeconds(purge)],
  ]);
  const columns: ReadonlyArray<Column<KeyVersionInfo>> = [
    { title: 'VERSION', value: (version) => version.version },
    { title: 'STATE', value: stateOf },
    { title: 'KIND', value: kindOf },
    { title: 'CREATED', value: (version) => formatSeconds(version.created) },
    {
      title: 'EXPIRES',
      value: ({ expires }) => (expires === undefined ? 'never' : formatSeconds(expires)),
    },
    { title: 'OPERATIONS', value: (version) => version.ops.join(','), widthMin: 10 },
  ];
  return `key ${plain(key.name)}\n${fields}${formatTable(io.stdout, columns, key.versions)}`;
}

/** One line after a command that changed a key. */
export function formatKeyLine(key: KeyInfo): string {
  return `key ${plain(key.name)}: ${stateOf(key)}, newest version ${plain(key.kid)}\n`;
}

export function formatVaultStatus(status: VaultStatus): string {
  const { principals } = status.access;
  const own = principals[status.clientId];
  return formatFields([
    ['url', plain(status.url)],
    ['pid', String(status.pid)],
    ['tenant', status.tenantId],
    ['client', status.clientId],
    ['application', status.application],
    ['permissions', permissionsOf(own)],
    ['recovery level', status.recoveryLevel],
    ['firewall', status.firewall],
    ['keys', String(status.keys)],
    [
      'trouble',
      status.troubles
        .map(({ kind, operation, key, struck }) => {
          const target = key === undefined ? operation : `${operation} of ${key}`;
          return `${kind} on ${target} (struck ${struck} times)`;
        })
        .join(', ') || 'none',
    ],
  ]);
}

/** The rights that Keyhold needs, by name; the others matter only to the vault's own commands. */
const NEEDED = ['get', 'wrapKey', 'unwrapKey'];

function permissionsOf(own: readonly string[] | undefined): string {
  if (own === undefined || own.length === 0) return 'none';
  const held = NEEDED.filter((permission) => own.includes(permission));
  const missing = NEEDED.filter((permission) => !own.includes(permission));
  const others = own.length - held.length;
  return [
    ...held,
    ...(others === 0 ? [] : [`and ${others} more`]),
    ...(missing.length === 0 ? [] : [`(not ${missing.join(', ')})`]),
  ].join(' ');
}

export function formatLog(io: CliIo, entries: readonly RequestLogEntry[]): string {
  const columns: ReadonlyArray<Column<RequestLogEntry>> = [
    { title: 'TIME', value: (entry) => entry.time },
    { title: 'OPERATION', value: (entry) => entry.operation },
    {
      title: 'STATUS',
      value: (entry) => [entry.status ?? 'none', entry.code ?? ''].join(' ').trim(),
    },
    { title: 'MS', value: (entry) => String(Math.round(entry.durationMs)), align: 'right' },
    { title: 'REQUEST ID', value: (entry) => entry.requestId },
    { title: 'TROUBLE', value: (entry) => entry.trouble ?? '' },
    { title: 'PATH', value: (entry) => entry.path, widthMin: 10, cut: 'start' },
  ];
  return formatTable(io.stdout, columns, entries);
}

function formatSeconds(secondsSinceEpoch: number): string {
  return new Date(secondsSinceEpoch * 1000).toISOString();
}

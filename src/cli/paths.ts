// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

type Env = Readonly<Record<string, string | undefined>>;

/** Where the packaged service listens. */
export const SERVICE_ADMIN_SOCKET = '/run/keyhold/admin.sock';

/** Where `keyhold dev` keeps its state unless --state says otherwise. */
export function defaultDevDirectory(env: Env): string {
  const cache = env['XDG_CACHE_HOME'];
  // The XDG specification says to ignore relative paths.
  const base = cache?.startsWith('/') === true ? cache : join(env['HOME'] ?? homedir(), '.cache');
  return join(base, 'keyhold');
}

export interface SocketLookup {
  readonly env: Env;
  /** Value of --socket. */
  readonly socket?: string | undefined;
  /** Value of --vault-socket. */
  readonly vaultSocket?: string | undefined;
  readonly exists?: (path: string) => boolean;
}

/** --socket, KEYHOLD_SOCKET, the service's socket, that of `keyhold dev`: the first there is. */
export function findAdminSocket(lookup: SocketLookup): string {
  const named = namedAdminSocket(lookup);
  if (named !== undefined) return named;
  const exists = lookup.exists ?? existsSync;
  const dev = join(defaultDevDirectory(lookup.env), 'admin.sock');
  return !exists(SERVICE_ADMIN_SOCKET) && exists(dev) ? dev : SERVICE_ADMIN_SOCKET;
}

/**
 * --vault-socket, KEYHOLD_VAULT_SOCKET, the vault beside the named admin socket, the vault of
 * `keyhold dev`: the first there is.
 */
export function findVaultSocket(lookup: SocketLookup): string {
  const named = lookup.vaultSocket ?? nonEmpty(lookup.env['KEYHOLD_VAULT_SOCKET']);
  if (named !== undefined) return resolve(named);
  const admin = namedAdminSocket(lookup);
  const exists = lookup.exists ?? existsSync;
  if (admin !== undefined) {
    const beside = join(dirname(admin), 'vault', 'control.sock');
    if (exists(beside)) return beside;
  }
  return join(defaultDevDirectory(lookup.env), 'vault', 'control.sock');
}

function namedAdminSocket(lookup: SocketLookup): string | undefined {
  const named = lookup.socket ?? nonEmpty(lookup.env['KEYHOLD_SOCKET']);
  return named === undefined ? undefined : resolve(named);
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

/** `nbd+unix:///demo?socket=/run/keyhold/nbd.sock`, as libnbd and qemu read it. */
export function nbdUnixUri(disk: string, socketPath: string): string {
  // A slash may stand in a query; libnbd and the NBD URI specification show it unescaped.
  const socket = socketPath.split('/').map(encodeURIComponent).join('/');
  return `nbd+unix:///${encodeURIComponent(disk)}?socket=${socket}`;
}

/**
 * The URI of a disk for one address of `status.nbd` (`unix:/path` or `host:port`); undefined for a
 * wildcard, which is no address that a client could use.
 */
export function nbdUri(disk: string, address: string): string | undefined {
  if (address.startsWith('unix:')) return nbdUnixUri(disk, address.slice('unix:'.length));
  if (/^(?:0\.0\.0\.0|\[?::\]?|\*):\d+$/.test(address)) return undefined;
  return `nbd://${address}/${encodeURIComponent(disk)}`;
}

/** Quotes for a POSIX shell what would not stand for itself. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { formatAddress, isLoopback } from '../config/address.js';
import type { FilledConfig } from '../config/config.js';
import type { ListeningAddress } from '../dataplane/addon.js';
import { codes } from './errors.js';

/** The first descriptor after standard error: SD_LISTEN_FDS_START of sd_listen_fds(3). */
const FIRST_FD = 3;
/** More than the config can name (16 addresses, two sockets); a larger number is a mistake. */
const SOCKETS_MAX = 32;

const VARIABLES = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES'] as const;

/** FileDescriptorName= of our own socket units, and what systemd calls a unit's sockets itself. */
const NBD_NAMES: ReadonlySet<string> = new Set(['nbd', 'keyhold-nbd.socket']);
const ADMIN_NAMES: ReadonlySet<string> = new Set(['admin', 'keyhold-admin.socket']);

/** A descriptor that the service manager passed. */
export interface InheritedFd {
  readonly fd: number;
  /** Empty when it was given none. */
  readonly name: string;
}

/** A listening socket that the daemon uses instead of binding its own. */
export interface InheritedSocket {
  readonly fd: number;
  readonly address: ListeningAddress;
}

export interface InheritedSockets {
  readonly nbd: readonly InheritedSocket[];
  readonly admin: InheritedSocket | null;
}

/**
 * The descriptors that the service manager passed to this process (sd_listen_fds(3)); none when the
 * variables are for another one. Takes the variables out of `env`, so that no child believes that
 * they are for it. Throws ERR_ACTIVATION.
 */
export function takeInheritedFds(env: NodeJS.ProcessEnv, pid: number): InheritedFd[] {
  const [forPid, count, names] = VARIABLES.map((name) => env[name]);
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- three fixed names
  for (const name of VARIABLES) delete env[name];
  if (forPid !== String(pid) || count === undefined) return [];
  if (!/^\d{1,3}$/.test(count) || Number(count) > SOCKETS_MAX) {
    throw activationError(
      `LISTEN_FDS: expected a whole number from 0 to ${SOCKETS_MAX}, got ${JSON.stringify(count)}`,
    );
  }
  const nameList = names === undefined || Number(count) === 0 ? [] : names.split(':');
  if (nameList.length > 0 && nameList.length !== Number(count)) {
    throw activationError(
      `LISTEN_FDNAMES: expected ${count} names, as LISTEN_FDS says, got ${nameList.length}`,
    );
  }
  return Array.from({ length: Number(count) }, (_, index) => ({
    fd: FIRST_FD + index,
    name: nameList[index] ?? '',
  }));
}

/**
 * Checks every descriptor and decides what it is for: by its name (`nbd`, `admin`, or the name of
 * our socket unit), else by what it is bound to: the config's admin path is the admin API, anything
 * else is for NBD clients. Throws ERR_ACTIVATION, which names the descriptor.
 */
export function claimSockets(
  inherited: readonly InheritedFd[],
  options: { config: FilledConfig; claim: (fd: number) => ListeningAddress },
): InheritedSockets {
  const { config, claim } = options;
  const nbd: InheritedSocket[] = [];
  let admin: InheritedSocket | null = null;
  for (const { fd, name } of inherited) {
    const socket: InheritedSocket = { fd, address: claim(fd) };
    if (!isForAdmin(name, socket.address, config)) {
      assertMayServe(socket, config);
      nbd.push(socket);
      continue;
    }
    if (admin !== null) {
      throw activationError(`fd ${fd} is a second admin socket: fd ${admin.fd} is one already`, fd);
    }
    // Only a unix socket tells who is calling.
    if (socket.address.kind !== 'unix') {
      const where = socketText(socket.address);
      throw activationError(`fd ${fd}, admin: expected a unix socket, got TCP ${where}`, fd);
    }
    admin = socket;
  }
  return { nbd, admin };
}

/** As `keyhold status` shows an address. */
export function socketText(address: ListeningAddress): string {
  return address.kind === 'unix' ? `unix:${address.path}` : formatAddress(address);
}

function isForAdmin(name: string, address: ListeningAddress, config: FilledConfig): boolean {
  if (ADMIN_NAMES.has(name)) return true;
  if (NBD_NAMES.has(name)) return false;
  return address.kind === 'unix' && address.path === config.admin.socket;
}

/** The rule of `[nbd] listen`, for sockets that somebody else bound. */
function assertMayServe({ fd, address }: InheritedSocket, config: FilledConfig): void {
  if (address.kind === 'unix' || isLoopback(address)) return;
  const { tls } = config.nbd;
  if (tls === 'require') return;
  throw activationError(
    `fd ${fd}, nbd: expected a unix socket or a loopback address, got ${formatAddress(address)}: ` +
      `beyond loopback NBD needs tls = "require", and nbd.tls is ${tls}`,
    fd,
  );
}

function activationError(detail: string, fd?: number): KeyholdError {
  return new KeyholdError(codes.ERR_ACTIVATION, `using the service manager's sockets: ${detail}`, {
    fields: fd === undefined ? {} : { fd },
  });
}

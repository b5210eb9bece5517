// SPDX-License-Identifier: Apache-2.0
import { chownSync } from 'node:fs';
import { lstat, unlink } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';

/** sockaddr_un.sun_path is 108 bytes with its terminating zero. */
const PATH_BYTES_MAX = 107;
/** The probe of a stale socket is local: an answer takes microseconds. */
const PROBE_TIMEOUT_MS = 2000;

/**
 * Makes `server` listen on a unix socket that owner and group may open. A socket that nobody
 * serves any more is replaced; one that is served, or a file that is no socket, is left alone and
 * refused.
 */
export async function listenOnUnixSocket(
  server: Server,
  options: { path: string; gid: number | undefined },
): Promise<void> {
  const { path, gid } = options;
  const pathBytes = Buffer.byteLength(path);
  if (pathBytes > PATH_BYTES_MAX) {
    throw socketError(path, `expected a path of at most ${PATH_BYTES_MAX} bytes, got ${pathBytes}`);
  }
  await removeStaleSocket(path);
  await bind(server, path);
  if (gid === undefined) return;
  try {
    chownSync(path, -1, gid);
  } catch (error) {
    // A daemon that is neither root nor in the group cannot give the socket to it. Then only its
    // own user and root can connect, which is safe, so the daemon starts all the same.
    if (codeOf(error) !== 'EPERM') throw socketError(path, messageOf(error), error);
  }
}

/**
 * Makes `server` accept on a listening socket that the process inherited. Who may open its file was
 * decided by whoever bound it, and the file stays when the server closes.
 */
export function listenOnFd(server: Server, fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', (error) => {
      const detail = `${codeOf(error) ?? ''} ${error.message}`.trim();
      reject(socketError(`fd ${fd}`, detail, error));
    });
    server.listen({ fd }, () => resolve());
  });
}

function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', (error) => {
      reject(socketError(path, `${codeOf(error) ?? ''} ${error.message}`.trim(), error));
    });
    // The mode must hold from the first instant: chmod afterwards leaves a gap in which anybody
    // connects. listen() binds before it returns, so the umask changes for this call only.
    const umask = process.umask(0o117);
    try {
      server.listen({ path }, () => resolve());
    } finally {
      process.umask(umask);
    }
  });
}

async function removeStaleSocket(path: string): Promise<void> {
  try {
    const found = await lstat(path);
    if (!found.isSocket()) throw socketError(path, 'the file exists and is not a socket');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') {
      await assertDirectory(path);
      return;
    }
    throw error instanceof KeyholdError ? error : socketError(path, messageOf(error), error);
  }
  if (await isServed(path)) throw socketError(path, 'another process serves it');
  await unlink(path);
}

/** Asked here because bind() would say EACCES: libuv reports a missing directory that way. */
async function assertDirectory(path: string): Promise<void> {
  const directory = dirname(path);
  try {
    await lstat(directory);
  } catch (error) {
    throw socketError(path, `directory ${directory}: ${codeOf(error) ?? messageOf(error)}`, error);
  }
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.setTimeout(PROBE_TIMEOUT_MS, () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    // Only a refusal says that nobody listens; in doubt (EACCES, EAGAIN) somebody may.
    probe.once('error', (error) => {
      const errno = codeOf(error);
      resolve(errno !== 'ECONNREFUSED' && errno !== 'ENOENT');
    });
  });
}

function socketError(path: string, detail: string, cause?: unknown): KeyholdError {
  return new KeyholdError(
    codes.ERR_ADMIN_SOCKET,
    `cannot serve the admin API on socket ${path}: ${detail}`,
    { fields: { socket: path }, cause },
  );
}

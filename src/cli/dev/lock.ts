// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { codeOf, KeyholdError } from '../../base/errors.js';
import { codes } from '../errors.js';

export interface DirectoryLock {
  release(): Promise<void>;
}

/** How long the owner of a lock has to say who it is; milliseconds. */
const OWNER_ANSWER_MS_MAX = 1000;

/**
 * Locks a directory for this process. The lock is a listening socket in the kernel's abstract
 * namespace, named after the directory's real path: it cannot be left behind stale, since the
 * kernel drops it with the process however that ends, and two takers cannot race as they do over a
 * pid file. It answers with its owner's pid.
 */
export async function lockDirectory(path: string): Promise<DirectoryLock> {
  const digest = createHash('sha256')
    .update(await realpath(path))
    .digest('hex');
  const name = `\0keyhold-dev-${digest}`;
  const server = createServer((socket) => {
    socket.on('error', () => undefined); // the asker went away
    socket.end(String(process.pid));
  });
  try {
    await listen(server, name);
  } catch (error) {
    if (codeOf(error) !== 'EADDRINUSE') throw error;
    const owner = await askOwner(name);
    throw new KeyholdError(
      codes.ERR_CLI_DEV_RUNNING,
      `cannot start on ${path}: expected no other keyhold dev, ` +
        `found one with pid ${owner ?? 'unknown'}`,
      { fields: { path, pid: owner }, cause: error },
    );
  }
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

function listen(server: Server, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(name, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

function askOwner(name: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(name);
    socket.setTimeout(OWNER_ANSWER_MS_MAX, () => socket.destroy());
    socket.on('data', (chunk) => (answer += chunk.toString()));
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => resolve(/^\d+$/.test(answer) ? Number(answer) : undefined));
  });
}

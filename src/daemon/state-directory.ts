// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { makeDirectory } from '../base/make-directory.js';
import { codes } from './errors.js';

/**
 * Everything below it is the daemon's: wrapped keys are no secret, but nobody else may change them.
 */
const DIRECTORY_MODE = 0o700;

export interface StateLock {
  release(): Promise<void>;
}

/**
 * Makes the state directory and takes its lock: an abstract unix socket named after the directory's
 * real path. The kernel frees the name when the process dies, however it dies, so no lock is ever
 * stale. (Two network namespaces could each take it; stores have locks of their own.)
 */
export async function openStateDirectory(path: string): Promise<StateLock> {
  try {
    for (const part of ['', 'sets', 'disks', 'stores', 'audit']) {
      await makeDirectory(part === '' ? path : `${path}/${part}`, { mode: DIRECTORY_MODE });
    }
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_STATE_DIR,
      `setting up state directory ${path}: ${messageOf(error)}`,
      { fields: { path, errno: codeOf(error) }, cause: error },
    );
  }
  const digest = createHash('sha256')
    .update(await realpath(path))
    .digest('hex');
  const server = createServer((socket) => socket.destroy());
  await listen(server, `\0keyhold-state-${digest}`, path);
  server.unref();
  return {
    release: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
      }),
  };
}

function listen(server: Server, name: string, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        codeOf(error) === 'EADDRINUSE'
          ? new KeyholdError(
              codes.ERR_STATE_LOCKED,
              `locking state directory ${path}: another daemon holds it`,
              { fields: { path } },
            )
          : error,
      );
    });
    server.listen(name, resolve);
  });
}

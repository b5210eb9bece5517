// SPDX-License-Identifier: Apache-2.0
import { chmod, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { KeyholdError, messageOf } from '../../base/errors.js';
import { makeDirectory } from '../../base/make-directory.js';
import { codes } from '../errors.js';

/** sizeof(sun_path) is 108, and the path ends with a zero byte (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

/** Everything that `keyhold dev` keeps, all of it under one directory. */
export interface DevPaths {
  readonly directory: string;
  readonly config: string;
  readonly nbdSocket: string;
  readonly adminSocket: string;
  /** State of the daemon. */
  readonly daemonState: string;
  readonly daemonLog: string;
  /** State of the embedded vault, with its private keys. */
  readonly vaultState: string;
  readonly vaultSocket: string;
  readonly vaultLog: string;
}

/** Names the files of a state directory; refuses a directory whose sockets could not be bound. */
export function devPaths(stateDirectory: string): DevPaths {
  const directory = resolve(stateDirectory);
  const vaultState = join(directory, 'vault');
  const paths: DevPaths = {
    directory,
    config: join(directory, 'keyhold.toml'),
    nbdSocket: join(directory, 'nbd.sock'),
    adminSocket: join(directory, 'admin.sock'),
    daemonState: join(directory, 'state'),
    daemonLog: join(directory, 'daemon.log'),
    vaultState,
    vaultSocket: join(vaultState, 'control.sock'),
    vaultLog: join(directory, 'vault.log'),
  };
  for (const path of [paths.nbdSocket, paths.adminSocket, paths.vaultSocket]) {
    const lengthBytes = Buffer.byteLength(path);
    if (lengthBytes > SOCKET_PATH_BYTES_MAX) {
      throw new KeyholdError(
        codes.ERR_CLI_STATE_DIRECTORY,
        `cannot use state directory: the path of socket ${path} has ${lengthBytes} bytes, ` +
          `at most ${SOCKET_PATH_BYTES_MAX} fit`,
        { fields: { path, actual: lengthBytes, expected: SOCKET_PATH_BYTES_MAX } },
      );
    }
  }
  return paths;
}

/** Makes the directory, for its owner only: it holds a vault's private keys. */
export async function createStateDirectory(paths: DevPaths): Promise<void> {
  try {
    await makeDirectory(paths.directory, { mode: 0o700 });
    const { uid, mode } = await stat(paths.directory);
    if (uid !== process.getuid?.()) {
      throw new KeyholdError(
        codes.ERR_CLI_STATE_DIRECTORY,
        `cannot use state directory ${paths.directory}: ` +
          `expected owner ${process.getuid?.() ?? 'unknown'}, found ${uid}`,
        { fields: { path: paths.directory, actual: uid } },
      );
    }
    if ((mode & 0o077) !== 0) await chmod(paths.directory, 0o700);
    await makeDirectory(paths.vaultState, { mode: 0o700 });
    await makeDirectory(paths.daemonState, { mode: 0o700 });
  } catch (error) {
    if (error instanceof KeyholdError) throw error;
    throw new KeyholdError(
      codes.ERR_CLI_STATE_DIRECTORY,
      `cannot make state directory ${paths.directory}: ${messageOf(error)}`,
      { fields: { path: paths.directory }, cause: error },
    );
  }
}

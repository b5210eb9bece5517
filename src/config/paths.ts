// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';

const PATH_BYTES_MAX = 4095;
/** sockaddr_un.sun_path is 108 bytes with its terminating zero. */
const SOCKET_PATH_BYTES_MAX = 107;

export function isUsablePath(path: string): boolean {
  return path.startsWith('/') && !path.includes('\0') && Buffer.byteLength(path) <= PATH_BYTES_MAX;
}

/** Relative paths are refused: what they mean hangs on where the daemon was started. */
export const absolutePath = z
  .string()
  .refine(isUsablePath, `expected an absolute path of at most ${PATH_BYTES_MAX} bytes`);

/** The empty string stands for "none". */
export const absolutePathOrEmpty = z
  .string()
  .refine((path) => path === '' || isUsablePath(path), 'expected an absolute path or nothing');

export const socketPath = absolutePath.refine(
  (path) => Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX,
  `expected a socket path of at most ${SOCKET_PATH_BYTES_MAX} bytes`,
);

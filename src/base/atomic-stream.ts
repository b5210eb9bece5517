// SPDX-License-Identifier: Apache-2.0
import { open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from './atomic-file.js';

/**
 * As writeFileAtomic, of data that comes in pieces and need not fit memory. `inspect` sees each
 * piece before it is written. If the call fails the old file is untouched and nothing is left.
 */
export async function writeStreamAtomic(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  options: { mode: number; inspect?: (piece: Uint8Array) => void },
): Promise<void> {
  const temporaryPath = `${path}.tmp`;
  // Not what a file that somebody put there permits, nor where a link leads.
  await unlink(temporaryPath).catch(() => undefined);
  const file = await open(temporaryPath, 'wx', options.mode);
  try {
    try {
      for await (const piece of pieces) {
        options.inspect?.(piece);
        await file.writeFile(piece);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporaryPath, path);
  } catch (error) {
    await unlink(temporaryPath).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
}

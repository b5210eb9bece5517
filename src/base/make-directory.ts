// SPDX-License-Identifier: Apache-2.0
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from './errors.js';

/**
 * Makes a directory and those above it that are missing; one that exists stays as it is. Not
 * mkdir's own `recursive`: where a file system answers ENOENT although the parent exists (/proc
 * does), Node's loop never ends, and holds a thread of the pool that even an exit waits for.
 */
export async function makeDirectory(path: string, options: { mode: number }): Promise<void> {
  try {
    await mkdir(path, options);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'EEXIST' && (await isDirectory(path))) return;
    const parent = dirname(path);
    if (code !== 'ENOENT' || parent === path || (await isDirectory(parent))) throw error;
    await makeDirectory(parent, options);
    await makeDirectory(path, options);
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}

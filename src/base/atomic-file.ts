// SPDX-License-Identifier: Apache-2.0
import { open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Replaces the file at `path` all-or-nothing: temporary file in the same directory → fsync → rename
 * → fsync of the directory. If the call fails the old file is untouched. One writer per path.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: { mode: number },
): Promise<void> {
  const temporaryPath = `${path}.tmp`;
  const file = await open(temporaryPath, 'w', options.mode);
  try {
    await file.writeFile(data);
    await file.sync();
  } catch (error) {
    await file.close();
    await unlink(temporaryPath);
    throw error;
  }
  await file.close();
  await rename(temporaryPath, path);
  await syncDirectory(dirname(path));
}

/** Removes a file so that the removal survives power loss. */
export async function unlinkDurable(path: string): Promise<void> {
  await unlink(path);
  await syncDirectory(dirname(path));
}

/** Overwrites a file in place with zeros, makes that durable, and removes it. */
export async function shredFile(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const { size } = await file.stat();
    await file.write(new Uint8Array(size), 0, size, 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await unlinkDurable(path);
}

/**
 * Directories that are being synced, and the sync that follows: whoever comes meanwhile shares it,
 * since the one under way may have begun before their rename. A thousand records written at once
 * would otherwise sync their one directory a thousand times.
 */
const underWay = new Map<string, { readonly now: Promise<void>; next?: Promise<void> }>();

/** Makes renames, creations and removals in a directory durable that precede the call. */
export function syncDirectory(path: string): Promise<void> {
  const before = underWay.get(path);
  if (before === undefined) return beginSync(path);
  before.next ??= before.now.then(
    () => beginSync(path),
    () => beginSync(path),
  );
  return before.next;
}

function beginSync(path: string): Promise<void> {
  const now = syncNow(path);
  const sync: { readonly now: Promise<void>; next?: Promise<void> } = { now };
  underWay.set(path, sync);
  const end = (): void => {
    if (sync.next === undefined) underWay.delete(path);
  };
  now.then(end, end);
  return now;
}

async function syncNow(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

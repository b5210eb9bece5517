// SPDX-License-Identifier: Apache-2.0
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, statfs, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '../base/atomic-file.js';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { formatSize } from '../base/units.js';
import { codes } from './errors.js';
import type { DiskRecord } from './record.js';

const NO_SPACE_ERRNOS = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Creates the store of a new disk: header area up to `dataOffsetBytes` and `sizeBytes` of data,
 * sparse, with the header written by `writeHeader`. Takes a path where nothing is, or an empty
 * regular file. If the call fails, nothing is left where nothing was, and an empty file is empty
 * again.
 */
export async function createStoreFile(request: {
  disk: string;
  path: string;
  sizeBytes: number;
  dataOffsetBytes: number;
  writeHeader: (file: FileHandle) => Promise<void>;
}): Promise<{ remove: () => Promise<void> }> {
  const { path, sizeBytes, dataOffsetBytes, writeHeader } = request;
  const what = `creating store ${path} of disk ${request.disk}`;
  const { file, existed } = await openNew(what, path);
  const remove = async (): Promise<void> => undo(path, existed);
  try {
    await file.truncate(dataOffsetBytes + sizeBytes);
    await writeHeader(file);
    await file.sync();
    await file.close();
    await syncDirectory(dirname(path));
    return { remove };
  } catch (error) {
    await file.close().catch(() => undefined);
    await remove();
    if (error instanceof KeyholdError) throw error;
    throw await createError(what, error, {
      path,
      storeBytes: dataOffsetBytes + sizeBytes,
    });
  }
}

/**
 * Removes a store so that the removal survives power loss; one that is gone already is no error.
 */
async function removeStoreFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
  await syncDirectory(dirname(path));
}

/** The same for a disk that is being deleted. Throws ERR_STORE_DELETE; the disk then remains. */
export async function deleteStoreOf({ name, store }: DiskRecord): Promise<void> {
  try {
    await removeStoreFile(store.path);
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_STORE_DELETE,
      `deleting store ${store.path} of disk ${name}: ${messageOf(error)}`,
      { fields: { disk: name, path: store.path }, cause: error },
    );
  }
}

async function openNew(
  what: string,
  path: string,
): Promise<{ file: FileHandle; existed: boolean }> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    return { file: await open(path, O_RDWR | O_CREAT | O_EXCL, 0o600), existed: false };
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw createErrorFor(what, error);
  }
  const stats = await lstat(path);
  if (!stats.isFile()) {
    throw new KeyholdError(
      codes.ERR_STORE_KIND,
      `${what}: found something that is no regular file, expected nothing or an empty file`,
      { fields: { path } },
    );
  }
  if (stats.size > 0) {
    throw new KeyholdError(
      codes.ERR_STORE_EXISTS,
      `${what}: found a file of ${stats.size} bytes, expected nothing or an empty file`,
      { fields: { path, sizeBytes: stats.size } },
    );
  }
  try {
    return { file: await open(path, O_RDWR | O_NOFOLLOW), existed: true };
  } catch (error) {
    throw createErrorFor(what, error);
  }
}

async function undo(path: string, existed: boolean): Promise<void> {
  if (!existed) return removeStoreFile(path);
  const file = await open(path, 'r+');
  try {
    await file.truncate(0);
  } finally {
    await file.close();
  }
}

async function createError(
  what: string,
  error: unknown,
  { path, storeBytes }: { path: string; storeBytes: number },
): Promise<KeyholdError> {
  const errno = codeOf(error) ?? '';
  if (!NO_SPACE_ERRNOS.has(errno)) return createErrorFor(what, error);
  const freeBytes = await statfs(dirname(path)).then(
    (stats) => stats.bavail * stats.bsize,
    () => undefined,
  );
  const free = freeBytes === undefined ? '' : `, ${formatSize(freeBytes)} are free`;
  return new KeyholdError(
    codes.ERR_STORE_NO_SPACE,
    `${what}: ${errno}: ${storeBytes} bytes (sparse) wanted${free}`,
    {
      fields: { path, errno, wantedBytes: storeBytes, freeBytes },
      cause: error,
    },
  );
}

function createErrorFor(what: string, error: unknown): KeyholdError {
  return new KeyholdError(codes.ERR_STORE_CREATE, `${what}: ${messageOf(error)}`, {
    fields: { errno: codeOf(error) },
    cause: error,
  });
}

// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, open } from 'node:fs/promises';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { encodeDekAad } from '../luks2/dek-aad.js';
import {
  type DecodedHeaderPair,
  decodeHeaderPair,
  encodeHeaderPair,
} from '../luks2/header-pair.js';
import {
  DATA_OFFSET_BYTES,
  HEADER_BYTES,
  PRIMARY_OFFSET_BYTES,
  SALT_BYTES,
  SECONDARY_OFFSET_BYTES,
} from '../luks2/layout.js';
import type { HeaderMetadata } from '../luks2/metadata.js';
import type { DekDigest, SealedDek } from '../sets/ports.js';
import { codes } from './errors.js';
import type { DiskPlane } from './ports.js';
import type { DiskRecord } from './record.js';

const ERASE_STEP_BYTES = 1024 * 1024;

/** The sealed DEK with all that unlocking needs besides the set key. Nothing of it is secret. */
export interface HeaderDek {
  readonly sealed: SealedDek;
  readonly aad: Uint8Array;
  readonly digest: DekDigest;
}

export function dekOf({ token, digest }: HeaderMetadata): HeaderDek {
  return {
    sealed: token.sealedDek,
    digest,
    aad: encodeDekAad({
      diskUuid: token.diskUuid,
      setId: token.set.id,
      setKeyGeneration: token.setKeyGeneration,
      dekGeneration: token.dekGeneration,
    }),
  };
}

export interface HeaderRepair {
  readonly copy: 'primary' | 'secondary';
  readonly fault: string;
  /** False for a read-only disk: the fault is reported only. */
  readonly repaired: boolean;
}

/**
 * Reads and writes the two header copies at the beginning of a store, through the page cache, also
 * of a store whose data goes past it (O_DIRECT). The two do not meet: data begins 16 MiB in, a
 * multiple of every page size, so no page holds bytes of both, and the kernel drops or writes back
 * cached pages only in the range of a direct transfer. What is written here is in the store when
 * `sync` returns. A device that is read from elsewhere (blkid, another host) is too.
 */
export class HeaderStore {
  readonly #random: Random;
  readonly #discard: DiskPlane['discardRange'];

  constructor(options: { random: Random; discardRange: DiskPlane['discardRange'] }) {
    this.#random = options.random;
    this.#discard = options.discardRange;
  }

  /**
   * Reads the header, repairs a damaged copy unless the disk is read-only, and checks that it is
   * the header of this disk and set. Throws ERR_STORE_READ, ERR_LUKS2_… or ERR_HEADER_MISMATCH.
   */
  async load(
    record: DiskRecord,
    set: { id: string; setKeyGeneration: number },
  ): Promise<{ dek: HeaderDek; repair: HeaderRepair | undefined }> {
    const what = `reading the header of disk ${record.name} in ${record.store.path}`;
    const file = await openStore(what, record.store.path, record.readOnly ? 'r' : 'r+');
    try {
      const header = await readPair(what, file);
      assertBelongs(what, header.metadata, record, set);
      const dek = dekOf(header.metadata);
      return { dek, repair: await this.#repair(what, { file, header, record }) };
    } finally {
      await file.close();
    }
  }

  /** What the header says, whoever's it is. Throws ERR_STORE_READ or ERR_LUKS2_…. */
  async read(record: DiskRecord): Promise<HeaderMetadata> {
    const what = `reading the header of disk ${record.name} in ${record.store.path}`;
    const file = await openStore(what, record.store.path, 'r');
    try {
      return (await readPair(what, file)).metadata;
    } finally {
      await file.close();
    }
  }

  /**
   * Writes the header that `edit` makes of the present one, which must be that of the disk, and
   * reads it back. Also for read-only disks: what is edited is how the key is kept, not the data.
   */
  async update(
    record: DiskRecord,
    edit: (metadata: HeaderMetadata) => HeaderMetadata,
  ): Promise<HeaderMetadata> {
    const what = `updating the header of disk ${record.name} in ${record.store.path}`;
    const file = await openStore(what, record.store.path, 'r+');
    try {
      const { metadata, seqid } = await readPair(what, file);
      assertSame(what, 'disk uuid', metadata.token.diskUuid, record.uuid);
      try {
        await this.write(file, edit(metadata), seqid + 1);
      } catch (error) {
        if (error instanceof KeyholdError) throw error;
        throw readError(what, error);
      }
      return (await readPair(what, file)).metadata;
    } finally {
      await file.close();
    }
  }

  /**
   * Overwrites everything before the data with zeros, durably: both header copies and the area
   * behind them. Not the data, which nobody can read any more. Returns whether the space could be
   * discarded, so that a drive may forget its blocks too.
   */
  async erase(record: DiskRecord): Promise<boolean> {
    const what = `erasing the header of disk ${record.name} in ${record.store.path}`;
    const file = await openStore(what, record.store.path, 'r+');
    try {
      const zeros = new Uint8Array(ERASE_STEP_BYTES);
      for (let offset = 0; offset < DATA_OFFSET_BYTES; offset += ERASE_STEP_BYTES) {
        await file.write(zeros, 0, ERASE_STEP_BYTES, offset);
      }
      await file.sync();
      return this.#discard(record.store.path, 0, DATA_OFFSET_BYTES);
    } catch (error) {
      throw readError(what, error);
    } finally {
      await file.close();
    }
  }

  /**
   * Writes both copies, one after the other, each made durable before the next: at any instant one
   * of them is whole.
   */
  async write(file: FileHandle, metadata: HeaderMetadata, seqid: number): Promise<void> {
    const pair = encodeHeaderPair(metadata, { seqid, salts: this.#salts() });
    await writeCopy(file, pair.secondary, SECONDARY_OFFSET_BYTES);
    await writeCopy(file, pair.primary, PRIMARY_OFFSET_BYTES);
  }

  async #repair(
    what: string,
    found: { file: FileHandle; header: DecodedHeaderPair; record: DiskRecord },
  ): Promise<HeaderRepair | undefined> {
    const { repair: copy, metadata, seqid, faults } = found.header;
    if (copy === 'none') return undefined;
    const fault = faults[copy] ?? 'damaged';
    if (found.record.readOnly) return { copy, fault, repaired: false };
    const pair = encodeHeaderPair(metadata, { seqid, salts: this.#salts() });
    const offset = copy === 'primary' ? PRIMARY_OFFSET_BYTES : SECONDARY_OFFSET_BYTES;
    try {
      await writeCopy(found.file, pair[copy], offset);
    } catch (error) {
      throw readError(`${what}: repairing the ${copy} copy`, error);
    }
    return { copy, fault, repaired: true };
  }

  #salts(): { primary: Uint8Array; secondary: Uint8Array } {
    return { primary: this.#random.bytes(SALT_BYTES), secondary: this.#random.bytes(SALT_BYTES) };
  }
}

async function openStore(what: string, path: string, flags: 'r' | 'r+'): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (error) {
    throw readError(what, error);
  }
}

async function readPair(what: string, file: FileHandle): Promise<DecodedHeaderPair> {
  let bytes: Uint8Array;
  try {
    bytes = await readFully(file, 2 * HEADER_BYTES);
  } catch (error) {
    throw readError(what, error);
  }
  try {
    return decodeHeaderPair(bytes.subarray(0, HEADER_BYTES), bytes.subarray(HEADER_BYTES));
  } catch (error) {
    if (!(error instanceof KeyholdError)) throw error;
    throw new KeyholdError(error.code, `${what}: ${error.message}`, {
      fields: error.fields,
      cause: error,
    });
  }
}

/** As many bytes as there are, up to `lengthBytes`, from the beginning. */
async function readFully(file: FileHandle, lengthBytes: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthBytes);
  let doneBytes = 0;
  while (doneBytes < lengthBytes) {
    const { bytesRead } = await file.read(bytes, doneBytes, lengthBytes - doneBytes, doneBytes);
    if (bytesRead === 0) break;
    doneBytes += bytesRead;
  }
  return bytes.subarray(0, doneBytes);
}

async function writeCopy(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  let doneBytes = 0;
  while (doneBytes < bytes.length) {
    const { bytesWritten } = await file.write(
      bytes,
      doneBytes,
      bytes.length - doneBytes,
      offset + doneBytes,
    );
    doneBytes += bytesWritten;
  }
  await file.sync();
}

/** The record says where the disk is, the header what it is: they must speak of the same disk. */
function assertBelongs(
  what: string,
  { sectorSizeBytes, holes, token }: HeaderMetadata,
  record: DiskRecord,
  set: { id: string; setKeyGeneration: number },
): void {
  const pairs = [
    ['disk uuid', token.diskUuid, record.uuid],
    ['encryption set', token.set.id, set.id],
    ['set key generation', token.setKeyGeneration, set.setKeyGeneration],
    ['sector size', sectorSizeBytes, record.sectorSizeBytes],
    ['hole rule', holes, !record.dmCrypt],
  ] as const;
  for (const [field, actual, expected] of pairs) assertSame(what, field, actual, expected);
}

function assertSame<T extends string | number | boolean>(
  what: string,
  field: string,
  actual: T,
  expected: T,
): void {
  if (actual === expected) return;
  throw new KeyholdError(
    codes.ERR_HEADER_MISMATCH,
    `${what}: ${field} in the header is ${actual}, expected ${expected}`,
    { fields: { field, actual, expected } },
  );
}

function readError(what: string, error: unknown): KeyholdError {
  return new KeyholdError(codes.ERR_STORE_READ, `${what}: ${messageOf(error)}`, {
    fields: { errno: codeOf(error) },
    cause: error,
  });
}

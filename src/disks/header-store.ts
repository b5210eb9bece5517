// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, open } from 'node:fs/promises';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { encodeDekAad, encodeOuterDekAad } from '../luks2/dek-aad.js';
import {
  type DecodedHeaderPair,
  decodeHeaderPair,
  decodeOuterHeaderPair,
  encodeHeaderPair,
} from '../luks2/header-pair.js';
import { SALT_BYTES } from '../luks2/layout.js';
import type {
  AnyHeaderMetadata,
  HeaderMetadata,
  KeyholdToken,
  OuterHeaderMetadata,
  OuterToken,
} from '../luks2/metadata.js';
import type { DekToOpen, PlatformKeyHandle } from '../sets/ports.js';
import { codes as setCodes } from '../sets/errors.js';
import { codes } from './errors.js';
import { type CopyName, type HeaderRegion, innerRegion, plainRegion } from './header-region.js';
import type { DiskPlane, OuterLayer } from './ports.js';
import { dataOffsetBytesOf, type DiskRecord } from './record.js';

const ERASE_STEP_BYTES = 1024 * 1024;

/** The sealed DEK with all that unlocking needs besides the set key. Nothing of it is secret. */
export type HeaderDek = DekToOpen;

export interface HeaderRepair {
  readonly copy: CopyName;
  readonly fault: string;
  /** False for a read-only disk: the fault is reported only. */
  readonly repaired: boolean;
}

export interface LoadedHeader {
  readonly dek: HeaderDek;
  /** Of a disk that is encrypted twice. */
  readonly outer: OuterLayer | undefined;
  readonly repairs: readonly HeaderRepair[];
}

/** A first header, of both containers when there are two. */
export interface NewHeader {
  readonly metadata: HeaderMetadata;
  readonly outer?: OuterHeaderMetadata;
}

export interface HeaderStoreOptions {
  readonly random: Random;
  readonly plane: Pick<DiskPlane, 'openOuterCipher' | 'discardRange'>;
  /** Throws ERR_PLATFORM_KEY_MISSING. */
  readonly platform: () => PlatformKeyHandle;
}

/** A new header's sequence number. */
const FIRST = 1;

/**
 * Reads and writes the two header copies at the beginning of a store, through the page cache, also
 * of a store whose data goes past it (O_DIRECT). The two do not meet: data begins 16 MiB in, a
 * multiple of every page size, so no page holds bytes of both, and the kernel drops or writes back
 * cached pages only in the range of a direct transfer. What is written here is in the store when
 * `sync` returns. A device that is read from elsewhere (blkid, another host) is too.
 *
 * A disk that is encrypted twice has two headers. The outer one never changes; the inner one is
 * what every other disk's only header is, read and written through the outer cipher.
 */
export class HeaderStore {
  readonly #options: HeaderStoreOptions;

  constructor(options: HeaderStoreOptions) {
    this.#options = options;
  }

  /**
   * Reads the header, repairs a damaged copy unless the disk is read-only, and checks that it is
   * the header of this disk and set. Throws ERR_STORE_READ, ERR_LUKS2_…, ERR_HEADER_MISMATCH, and
   * for a disk that is encrypted twice ERR_PLATFORM_KEY_MISSING, ERR_PLATFORM_KEY_OTHER or
   * ERR_DEK_….
   */
  async load(
    record: DiskRecord,
    set: { id: string; setKeyGeneration: number },
  ): Promise<LoadedHeader> {
    const what = `reading the header of disk ${record.name} in ${record.store.path}`;
    return this.#withInner(what, record, async ({ region, outer, repairs }) => {
      const header = await readPair(what, region, decodeHeaderPair);
      assertBelongs(what, header.metadata, record, set);
      const repair = await this.#repair(what, { region, header, record });
      return {
        dek: dekOf(header.metadata),
        outer,
        repairs: [...repairs, ...(repair === undefined ? [] : [repair])],
      };
    });
  }

  /**
   * Gives the disk's (inner) header what `change` makes of it: a damaged copy is repaired first,
   * then both copies are written, each made durable before the next, and read back. Also of
   * read-only disks: what changes is how the key is kept, not the data. Throws as `load` does, and
   * whatever `change` throws; then the header is as it was.
   */
  async update(
    disk: DiskRecord,
    change: (metadata: HeaderMetadata) => HeaderMetadata,
  ): Promise<HeaderMetadata> {
    const record = { ...disk, readOnly: false };
    const what = `changing the header of disk ${record.name} in ${record.store.path}`;
    return this.#withInner(what, record, async ({ region }) => {
      const header = await readPair(what, region, decodeHeaderPair);
      assertEqual(what, [['disk uuid', header.metadata.token.diskUuid, record.uuid]]);
      const metadata = change(header.metadata);
      await this.#repair(what, { region, header, record });
      try {
        await this.#write(region, metadata, header.seqid + 1);
      } catch (error) {
        throw error instanceof KeyholdError ? error : readError(what, error);
      }
      return (await readPair(what, region, decodeHeaderPair)).metadata;
    });
  }

  /**
   * Overwrites everything before the data with zeros, durably: the copies of every header and the
   * areas behind them. Not the data, which nobody can read any more. Returns whether the space
   * could be discarded, so that a drive may forget its blocks too.
   */
  async erase(record: DiskRecord): Promise<boolean> {
    const { path } = record.store;
    const what = `erasing the header of disk ${record.name} in ${path}`;
    const lengthBytes = dataOffsetBytesOf(record);
    const file = await openStore(what, path, 'r+');
    try {
      const zeros = new Uint8Array(ERASE_STEP_BYTES);
      for (let offset = 0; offset < lengthBytes; offset += ERASE_STEP_BYTES) {
        await file.write(zeros, 0, ERASE_STEP_BYTES, offset);
      }
      await file.sync();
      return this.#options.plane.discardRange(path, 0, lengthBytes);
    } catch (error) {
      throw readError(what, error);
    } finally {
      await file.close();
    }
  }

  /** What the disk's (inner) header says; nothing is repaired. */
  async read(record: DiskRecord): Promise<HeaderMetadata> {
    const what = `reading the header of disk ${record.name} in ${record.store.path}`;
    return this.#withInner(what, { ...record, readOnly: true }, async ({ region }) => {
      return (await readPair(what, region, decodeHeaderPair)).metadata;
    });
  }

  /** Writes the first header of a new store; of a disk that is encrypted twice, both. */
  async create(file: FileHandle, { metadata, outer }: NewHeader): Promise<void> {
    if (outer === undefined) return this.#write(plainRegion(file), metadata, FIRST);
    await this.#write(plainRegion(file), outer, FIRST);
    const layer = {
      platform: this.#options.platform(),
      dek: outerDekOf(outer),
    };
    const cipher = this.#options.plane.openOuterCipher(layer, outer.sectorSizeBytes);
    try {
      await this.#write(innerRegion(file, cipher), metadata, FIRST);
    } finally {
      cipher.wipe();
    }
  }

  /** Opens the store, and for a disk that is encrypted twice the outer header, for one `use`. */
  async #withInner<T>(
    what: string,
    record: DiskRecord,
    use: (found: {
      region: HeaderRegion;
      outer: OuterLayer | undefined;
      repairs: readonly HeaderRepair[];
    }) => Promise<T>,
  ): Promise<T> {
    const file = await openStore(what, record.store.path, record.readOnly ? 'r' : 'r+');
    try {
      if (!record.double) {
        return await use({
          region: plainRegion(file),
          outer: undefined,
          repairs: [],
        });
      }
      const { outer, repairs } = await this.#loadOuter(what, file, record);
      const cipher = this.#options.plane.openOuterCipher(outer, record.sectorSizeBytes);
      try {
        return await use({ region: innerRegion(file, cipher), outer, repairs });
      } finally {
        cipher.wipe();
      }
    } finally {
      await file.close();
    }
  }

  async #loadOuter(
    reading: string,
    file: FileHandle,
    record: DiskRecord,
  ): Promise<{ outer: OuterLayer; repairs: HeaderRepair[] }> {
    const what = `${reading}: outer container`;
    const platform = this.#options.platform();
    const region = plainRegion(file);
    const header = await readPair(what, region, decodeOuterHeaderPair);
    assertOuterBelongs(what, header.metadata, { record, platform });
    const repair = await this.#repair(what, { region, header, record });
    const outer = { platform, dek: outerDekOf(header.metadata) };
    const repairs =
      repair === undefined ? [] : [{ ...repair, fault: `outer container: ${repair.fault}` }];
    return { outer, repairs };
  }

  /**
   * Writes both copies, one after the other, each made durable before the next: at any instant one
   * of them is whole.
   */
  async #write(region: HeaderRegion, metadata: AnyHeaderMetadata, seqid: number): Promise<void> {
    const pair = encodeHeaderPair(metadata, { seqid, salts: this.#salts() });
    await region.write('secondary', pair.secondary);
    await region.write('primary', pair.primary);
  }

  async #repair(
    what: string,
    found: {
      region: HeaderRegion;
      header: DecodedHeaderPair<AnyHeaderMetadata>;
      record: DiskRecord;
    },
  ): Promise<HeaderRepair | undefined> {
    const { repair: copy, metadata, seqid, faults } = found.header;
    if (copy === 'none') return undefined;
    const fault = faults[copy] ?? 'damaged';
    if (found.record.readOnly) return { copy, fault, repaired: false };
    const pair = encodeHeaderPair(metadata, { seqid, salts: this.#salts() });
    try {
      await found.region.write(copy, pair[copy]);
    } catch (error) {
      throw readError(`${what}: repairing the ${copy} copy`, error);
    }
    return { copy, fault, repaired: true };
  }

  #salts(): { primary: Uint8Array; secondary: Uint8Array } {
    const { random } = this.#options;
    return {
      primary: random.bytes(SALT_BYTES),
      secondary: random.bytes(SALT_BYTES),
    };
  }
}

/** What opens the DEK of a header, besides the set key. */
export function dekOf({
  token,
  digest,
}: {
  token: KeyholdToken;
  digest: HeaderMetadata['digest'];
}): HeaderDek {
  const aad = encodeDekAad({
    diskUuid: token.diskUuid,
    setId: token.set.id,
    setKeyGeneration: token.setKeyGeneration,
    dekGeneration: token.dekGeneration,
  });
  return { sealed: token.sealedDek, digest, aad };
}

function outerDekOf({
  token,
  digest,
}: {
  token: OuterToken;
  digest: HeaderMetadata['digest'];
}): DekToOpen {
  const { diskUuid, dekGeneration } = token;
  return {
    sealed: token.sealedDek,
    digest,
    aad: encodeOuterDekAad({ diskUuid, dekGeneration }),
  };
}

async function openStore(what: string, path: string, flags: 'r' | 'r+'): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (error) {
    throw readError(what, error);
  }
}

async function readPair<Metadata extends AnyHeaderMetadata>(
  what: string,
  region: HeaderRegion,
  decode: (primary: Uint8Array, secondary: Uint8Array) => DecodedHeaderPair<Metadata>,
): Promise<DecodedHeaderPair<Metadata>> {
  let copies: { primary: Uint8Array; secondary: Uint8Array };
  try {
    copies = await region.read();
  } catch (error) {
    throw error instanceof KeyholdError ? error : readError(what, error);
  }
  try {
    return decode(copies.primary, copies.secondary);
  } catch (error) {
    if (!(error instanceof KeyholdError)) throw error;
    throw new KeyholdError(error.code, `${what}: ${error.message}`, {
      fields: error.fields,
      cause: error,
    });
  }
}

type Comparison = readonly [field: string, actual: unknown, expected: unknown];

/** The record says where the disk is, the header what it is: they must speak of the same disk. */
function assertBelongs(
  what: string,
  { sectorSizeBytes, holes, token }: HeaderMetadata,
  record: DiskRecord,
  set: { id: string; setKeyGeneration: number },
): void {
  assertEqual(what, [
    ['disk uuid', token.diskUuid, record.uuid],
    ['encryption set', token.set.id, set.id],
    ['set key generation', token.setKeyGeneration, set.setKeyGeneration],
    ['sector size', sectorSizeBytes, record.sectorSizeBytes],
    ['hole rule', holes, !record.dmCrypt],
  ]);
}

/** The key that sealed the DEK is compared before it is opened, so that a wrong one is named. */
function assertOuterBelongs(
  what: string,
  { sectorSizeBytes, holes, token }: OuterHeaderMetadata,
  { record, platform }: { record: DiskRecord; platform: PlatformKeyHandle },
): void {
  assertEqual(what, [
    ['disk uuid', token.diskUuid, record.uuid],
    ['sector size', sectorSizeBytes, record.sectorSizeBytes],
    ['hole rule', holes, !record.dmCrypt],
  ]);
  if (token.platformKeyId === platform.id) return;
  throw new KeyholdError(
    setCodes.ERR_PLATFORM_KEY_OTHER,
    `${what}: platform key ${token.platformKeyId} sealed it, this host has ${platform.id}`,
    { fields: { expected: token.platformKeyId, actual: platform.id } },
  );
}

function assertEqual(what: string, pairs: readonly Comparison[]): void {
  for (const [field, actual, expected] of pairs) {
    if (actual === expected) continue;
    throw new KeyholdError(
      codes.ERR_HEADER_MISMATCH,
      `${what}: ${field} in the header is ${String(actual)}, expected ${String(expected)}`,
      { fields: { field, actual, expected } },
    );
  }
}

function readError(what: string, error: unknown): KeyholdError {
  return new KeyholdError(codes.ERR_STORE_READ, `${what}: ${messageOf(error)}`, {
    fields: { errno: codeOf(error) },
    cause: error,
  });
}

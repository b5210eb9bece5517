// SPDX-License-Identifier: Apache-2.0
import { mkdir } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { KeyholdError } from '../base/errors.js';
import { validateName } from '../base/names.js';
import type { Random } from '../base/random.js';
import { encodeDekAad, encodeOuterDekAad } from '../luks2/dek-aad.js';
import { labelFor } from '../luks2/label.js';
import type { HeaderMetadata, OuterHeaderMetadata } from '../luks2/metadata.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { KeyCustody } from '../sets/ports.js';
import { validateDescription } from './description.js';
import { changeRules } from './disk-access.js';
import { codes } from './errors.js';
import type { HeaderStore } from './header-store.js';
import type { PlatformKeySource } from '../sets/platform.js';
import type { DiskPlane } from './ports.js';
import { dataOffsetBytesOf, type DiskRecord, validateGeometry } from './record.js';
import { createStoreFile } from './store-file.js';

/** The generation of a new disk's DEKs. */
const FIRST = 1;

export const SECTOR_SIZE_BYTES_DEFAULT = 512;

export interface CreateDiskOptions {
  readonly name: string;
  /** Name of the encryption set. */
  readonly set: string;
  readonly sizeBytes: number;
  /** Absolute path; left out: `stores/NAME.img` in the state directory. */
  readonly store?: string;
  readonly sectorSizeBytes?: number;
  readonly dmCrypt?: boolean;
  readonly readOnly?: boolean;
  readonly rotational?: boolean;
  /** Data goes past the page cache, or the store is refused. */
  readonly direct?: boolean;
  /** Free text for people, one line. */
  readonly description?: string;
  /** Rules of the allow list, in any spelling. */
  readonly allow?: readonly string[];
}

/**
 * The record of a new disk; nothing is created yet. Throws ERR_NAME, ERR_DISK_OPTION or
 * ERR_ACCESS_RULE.
 */
export function planDisk(
  options: CreateDiskOptions,
  context: {
    set: EncryptionSet;
    stateDir: string;
    uuid: string;
    nowMs: number;
    double: boolean;
  },
): DiskRecord {
  const { name, sizeBytes, store, description = '' } = options;
  validateName(name, 'disk');
  validateDescription(name, description);
  const sectorSizeBytes = validateGeometry(name, {
    sizeBytes,
    sectorSizeBytes: options.sectorSizeBytes ?? SECTOR_SIZE_BYTES_DEFAULT,
  });
  if (store !== undefined && (!isAbsolute(store) || store.includes('\0'))) {
    throw new KeyholdError(
      codes.ERR_DISK_OPTION,
      `creating disk ${name}: store is ${JSON.stringify(store)}, expected an absolute path`,
      { fields: { disk: name } },
    );
  }
  return {
    version: 1,
    name,
    uuid: context.uuid,
    set: { ...context.set.ref },
    movingTo: null,
    sizeBytes,
    sectorSizeBytes,
    store: {
      kind: 'file',
      path: store ?? join(context.stateDir, 'stores', `${name}.img`),
      managed: store === undefined,
      direct: options.direct ?? false,
    },
    readOnly: options.readOnly ?? false,
    dmCrypt: options.dmCrypt ?? false,
    double: context.double,
    rotational: options.rotational ?? false,
    description,
    allow: changeRules([], { disk: name, add: options.allow ?? [] }),
    attached: false,
    offline: null,
    createdAt: new Date(context.nowMs).toISOString(),
  };
}

interface CreateStoreContext {
  readonly set: EncryptionSet;
  readonly custody: KeyCustody;
  readonly headers: HeaderStore;
  readonly plane: Pick<DiskPlane, 'checkDirect'>;
  readonly random: Random;
  /** Asked for a disk that is encrypted twice only. */
  readonly platform: PlatformKeySource;
}

/** DEK, then the store with its header. If the call fails nothing remains. */
export async function createStore(
  record: DiskRecord,
  context: CreateStoreContext,
): Promise<{ remove: () => Promise<void> }> {
  const { headers, plane } = context;
  const outer = record.double ? outerMetadata(record, context) : undefined;
  const metadata = await innerMetadata(record, context);
  const { path, managed } = record.store;
  const dataOffsetBytes = dataOffsetBytesOf(record);
  if (managed) await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  return createStoreFile({
    disk: record.name,
    path,
    sizeBytes: record.sizeBytes,
    dataOffsetBytes,
    writeHeader: async (file) => {
      if (record.store.direct) {
        const { sectorSizeBytes } = record;
        plane.checkDirect({
          storePath: path,
          sectorSizeBytes,
          dataOffsetBytes,
        });
      }
      await headers.create(file, {
        metadata,
        ...(outer === undefined ? {} : { outer }),
      });
    },
  });
}

/** Of the only container, or the inner one: its DEK is sealed by the set key. */
async function innerMetadata(
  record: DiskRecord,
  { set, custody, random }: CreateStoreContext,
): Promise<HeaderMetadata> {
  const { setKeyGeneration } = set.record;
  const binding = { diskUuid: record.uuid, setId: set.id, setKeyGeneration, dekGeneration: FIRST };
  const dek = await set.useSetKey((key) => custody.createDek(key, encodeDekAad(binding)));
  return {
    ...containerOf(record),
    // Tools tell containers by their uuids, also one within the other.
    uuid: record.double ? random.uuid() : record.uuid,
    digest: dek.digest,
    token: {
      version: 1,
      diskUuid: record.uuid,
      diskName: record.name,
      set: set.ref,
      setKeyGeneration,
      dekGeneration: FIRST,
      wrappedSetKeys: set.wrappedKeys,
      sealedDek: dek.sealed,
    },
  };
}

/** Its DEK is sealed by the platform key. Throws ERR_PLATFORM_KEY_MISSING. */
function outerMetadata(
  record: DiskRecord,
  { custody, platform }: CreateStoreContext,
): OuterHeaderMetadata {
  const key = platform();
  const aad = encodeOuterDekAad({
    diskUuid: record.uuid,
    dekGeneration: FIRST,
  });
  const dek = custody.createOuterDek(key, aad);
  return {
    ...containerOf(record),
    uuid: record.uuid,
    digest: dek.digest,
    token: {
      version: 1,
      layer: 'outer',
      diskUuid: record.uuid,
      diskName: record.name,
      dekGeneration: FIRST,
      platformKeyId: key.id,
      sealedDek: dek.sealed,
    },
  };
}

/** What both containers of a disk have in common. */
function containerOf(
  record: DiskRecord,
): Pick<HeaderMetadata, 'label' | 'sectorSizeBytes' | 'holes'> {
  return {
    label: labelFor(record.name),
    sectorSizeBytes: record.sectorSizeBytes,
    holes: !record.dmCrypt,
  };
}

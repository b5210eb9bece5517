// SPDX-License-Identifier: Apache-2.0
import { mkdir } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { KeyholdError } from '../base/errors.js';
import { validateName } from '../base/names.js';
import { encodeDekAad } from '../luks2/dek-aad.js';
import { labelFor } from '../luks2/label.js';
import { DATA_OFFSET_BYTES } from '../luks2/layout.js';
import type { HeaderMetadata } from '../luks2/metadata.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { KeyCustody } from '../sets/ports.js';
import { validateDescription } from './description.js';
import { changeRules } from './disk-access.js';
import { codes } from './errors.js';
import type { HeaderStore } from './header-store.js';
import type { DiskPlane } from './ports.js';
import { type DiskRecord, validateGeometry } from './record.js';
import { createStoreFile } from './store-file.js';

/** A new header's sequence number and its DEK's generation. */
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
  context: { set: EncryptionSet; stateDir: string; uuid: string; nowMs: number },
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
    rotational: options.rotational ?? false,
    description,
    allow: changeRules([], { disk: name, add: options.allow ?? [] }),
    attached: false,
    offline: null,
    createdAt: new Date(context.nowMs).toISOString(),
  };
}

/** DEK, then the store with its header. If the call fails nothing remains. */
export async function createStore(
  record: DiskRecord,
  context: {
    set: EncryptionSet;
    custody: KeyCustody;
    headers: HeaderStore;
    plane: Pick<DiskPlane, 'checkDirect'>;
  },
): Promise<{ remove: () => Promise<void> }> {
  const { set, custody, headers, plane } = context;
  const { setKeyGeneration } = set.record;
  const binding = { diskUuid: record.uuid, setId: set.id, setKeyGeneration, dekGeneration: FIRST };
  const dek = await set.useSetKey((key) => custody.createDek(key, encodeDekAad(binding)));
  const metadata: HeaderMetadata = {
    uuid: record.uuid,
    label: labelFor(record.name),
    sectorSizeBytes: record.sectorSizeBytes,
    holes: !record.dmCrypt,
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
  const { path, managed } = record.store;
  if (managed) await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  return createStoreFile({
    disk: record.name,
    path,
    sizeBytes: record.sizeBytes,
    writeHeader: async (file) => {
      if (record.store.direct) {
        const { sectorSizeBytes } = record;
        plane.checkDirect({ storePath: path, sectorSizeBytes, dataOffsetBytes: DATA_OFFSET_BYTES });
      }
      await headers.write(file, metadata, FIRST);
    },
  });
}

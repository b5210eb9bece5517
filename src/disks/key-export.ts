// SPDX-License-Identifier: Apache-2.0
import { isAbsolute } from 'node:path';
import { KeyholdError } from '../base/errors.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { KeyCustody } from '../sets/ports.js';
import { assertConfirmed } from './confirmation.js';
import type { DiskSeat } from './disk-keys.js';
import { codes } from './errors.js';
import type { DiskRef } from './events.js';
import type { HeaderStore } from './header-store.js';
import type { DiskRecord } from './record.js';

export interface KeyExportRequest {
  /** The name of the disk, once more. */
  readonly confirm: string;
  /** Absolute path on this host, where nothing may be. */
  readonly file: string;
  /** Of a disk that is encrypted twice, and of no other. */
  readonly layer?: 'inner' | 'outer';
  /** Makes the record of the export durable. While it cannot, no key leaves. */
  readonly audit: (facts: Readonly<Record<string, unknown>>) => Promise<void>;
}

/** Throws what is wrong with the request itself. */
export function validateKeyExport(record: DiskRecord, request: KeyExportRequest): void {
  const { name: disk, double } = record;
  const { confirm, file, layer } = request;
  assertConfirmed('exporting the key of disk', disk, confirm);
  if (!isAbsolute(file) || file.includes('\0')) {
    throw new KeyholdError(
      codes.ERR_DISK_OPTION,
      `exporting the key of disk ${disk}: file is ${JSON.stringify(file)}, expected an absolute path`,
      { fields: { disk } },
    );
  }
  if (double === (layer !== undefined)) return;
  throw new KeyholdError(
    codes.ERR_DISK_KEY_LAYER,
    double
      ? `exporting the key of disk ${disk}: it is encrypted twice, expected layer inner or outer`
      : `exporting the key of disk ${disk}: it has one layer, expected none named, got ${String(layer)}`,
    { fields: { disk, layer: layer ?? null, double } },
  );
}

/**
 * In the disk's turn: the key goes from secret memory to the file in native code, and only after
 * the record of it is durable. Throws ERR_DISK_UNUSABLE, ERR_DISK_KEY_INACCESSIBLE, what denies the
 * set's key, what `audit` rejects with, and ERR_KEY_EXPORT_FILE; then no file is there.
 */
export async function exportKey(
  { seat, headers, custody }: { seat: DiskSeat; headers: HeaderStore; custody: KeyCustody },
  { file, layer, audit }: KeyExportRequest,
): Promise<void> {
  const disk = seat.ref();
  const set = assertExportable(seat, disk);
  const { setKeyGeneration } = set.record;
  const record = { ...seat.record(), readOnly: true }; // nothing is repaired on the way
  const { dek, outer } = await headers.load(record, { id: set.id, setKeyGeneration });
  // Obtained before the record is written, so that a denial leaves none of a key that never left.
  await set.useSetKey(() => undefined);
  const { name, uuid, set: ref } = disk;
  await audit({ disk: name, uuid, set: ref.name, file, layer: layer ?? null });
  // Native code keeps the handle until it has read the DEK; a wipe before that ends the export.
  await set.useSetKey((key) =>
    layer === 'outer' && outer !== undefined
      ? custody.exportOuterDek(outer.platform, outer.dek, file)
      : custody.exportDek(key, dek, file),
  );
}

function assertExportable(seat: DiskSeat, { name: disk, set: ref }: DiskRef): EncryptionSet {
  const refuse = (code: string, why: string): never => {
    const message = `exporting the key of disk ${disk}: ${why}`;
    throw new KeyholdError(code, message, { fields: { disk } });
  };
  if (seat.state().reason === 'erased') refuse(codes.ERR_DISK_UNUSABLE, 'it was erased');
  const set = seat.set();
  if (set === undefined) {
    const why = `its encryption set ${ref.name} cannot be loaded`;
    return refuse(codes.ERR_DISK_KEY_INACCESSIBLE, why);
  }
  set.assertGranted();
  return set;
}

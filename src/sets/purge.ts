// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import type { PurgeReceipt } from './access.js';
import type { EncryptionSet } from './encryption-set.js';
import { codes } from './errors.js';
import type { SetDisks } from './ports.js';
import { counts, type SetRecord } from './record.js';

/*
 * Cryptographic erasure of a whole set: docs/KEYS.md section 6 has the order of durable steps.
 * Every step can be repeated, so going on after a crash is doing it again.
 */

export interface PurgeContext {
  readonly set: EncryptionSet;
  readonly disks: SetDisks;
  readonly nowMs: () => number;
  /** Writes the record and takes it over. */
  readonly replace: (record: SetRecord) => Promise<void>;
  /** The same, and overwrites what the record was. */
  readonly replaceShredding: (record: SetRecord) => Promise<void>;
}

/** Throws ERR_SET_CONFIRMATION or ERR_SET_NOT_DENIED; then nothing has changed. */
export async function assertPurgeable(set: EncryptionSet, confirmation: string): Promise<void> {
  if (confirmation !== set.name) {
    throw new KeyholdError(
      codes.ERR_SET_CONFIRMATION,
      `purging encryption set ${set.name}: confirmed ${JSON.stringify(confirmation.slice(0, 100))}, ` +
        `expected ${JSON.stringify(set.name)}`,
      { fields: { set: set.name } },
    );
  }
  if (set.record.purge !== null) return;
  await set.probe();
  // A denial that merely stands is not enough: it may be from before, or from a drill.
  const usable = set
    .keyStatus()
    .filter(({ key, denied, verdict }) => counts(key) && !(denied && verdict?.kind === 'DENIED'));
  if (usable.length === 0) return;
  const found = usable
    .map(({ key, verdict }) => `${key.kid}: ${verdict?.kind ?? 'never probed'}`)
    .join(', ');
  throw new KeyholdError(
    codes.ERR_SET_NOT_DENIED,
    `purging encryption set ${set.name}: expected DENIED of every customer key, got ${found}`,
    { fields: { set: set.name, keys: usable.map(({ key }) => key.kid) } },
  );
}

/** Does what is left to do. The receipt has no `finishedAt` while a store could not be written. */
export async function runPurge(context: PurgeContext): Promise<PurgeReceipt> {
  const { set, disks, nowMs, replace, replaceShredding } = context;
  const begun = set.record.purge ?? {
    startedAt: new Date(nowMs()).toISOString(),
    finishedAt: null,
    kids: set.record.keys.map(({ kid }) => kid),
    availabilityKey: set.record.availability !== null,
  };
  if (set.record.purge === null) await replace({ ...set.record, purge: begun });
  const { keys, platform, availability } = set.record;
  if (keys.length > 0 || platform !== null || availability !== null) {
    await replaceShredding({
      ...set.record,
      keys: [],
      platform: null,
      availability: null,
      revokeWhen: 'any',
      denied: [],
      spreading: false,
    });
  }
  const { erased, failed } = await disks.eraseAll(set.id);
  const finishedAt = failed.length > 0 ? null : new Date(nowMs()).toISOString();
  if (finishedAt !== null) await replace({ ...set.record, purge: { ...begun, finishedAt } });
  const { startedAt, kids, availabilityKey } = begun;
  return { startedAt, finishedAt, kids, availabilityKey, erased, failed };
}

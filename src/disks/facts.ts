// SPDX-License-Identifier: Apache-2.0
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { Verdict } from '../vault/types.js';
import { codes } from './errors.js';
import type { DiskControl, KeyAccess, OfflineFacts } from './control.js';
import { plainFacts } from './lifecycle.js';
import type { DiskRecord, OfflineReason } from './record.js';

/** What a set's access means for its disks; undefined when the set's own record is unusable. */
export function keyAccessOf(set: EncryptionSet | undefined, nowMs: number): KeyAccess {
  if (set === undefined) {
    const message = 'the encryption set of the disk cannot be loaded';
    return { kind: 'unknown', facts: plainFacts('lease-expired', nowMs, message) };
  }
  const { access, alarm } = set;
  switch (access.kind) {
    case 'granted':
      return { kind: 'granted' };
    case 'denied': {
      const { reason, keyVersion, verdict, firstSeenMs } = access.denial;
      const facts = {
        reason,
        sinceMs: firstSeenMs,
        keyVersion,
        vaultRequestId: verdict.requestId ?? null,
        message: describe(verdict),
      };
      return { kind: 'denied', facts };
    }
    case 'lapsed':
    case 'unknown': {
      const message = alarm === undefined ? WAITING : `${alarm.code}: ${alarm.message}`;
      const facts = plainFacts('lease-expired', access.sinceMs, message);
      return { kind: access.kind, facts };
    }
  }
}

const WAITING = 'waiting for the vault to prove access to the key';

/** What an error while opening or resuming means for the disk. */
export function failureFacts(error: unknown, access: KeyAccess, nowMs: number): OfflineFacts {
  const code = codeOf(error) ?? '';
  const message = messageOf(error);
  const kind = error instanceof KeyholdError ? error.kind : 'internal';
  if (code.startsWith('ERR_STORE_')) return plainFacts('store-error', nowMs, message);
  const header = code.startsWith('ERR_LUKS2_') || code.startsWith('ERR_HEADER_');
  if (header || kind === 'integrity') return plainFacts('integrity', nowMs, message);
  const key = kind === 'key-inaccessible' || code.startsWith('ERR_KEY_UNWRAP_');
  if (!key && code !== codes.ERR_DISK_KEY_INACCESSIBLE) {
    return plainFacts('store-error', nowMs, message);
  }
  if (access.kind !== 'granted') return access.facts;
  const verdict = (error as KeyholdError).fields['verdict'] as Verdict | undefined;
  return {
    ...plainFacts(verdict?.reason ?? 'lease-expired', nowMs, message),
    vaultRequestId: verdict?.requestId ?? null,
  };
}

/** Where a disk begins when the daemon starts (docs/LIFECYCLE.md section 3). */
export function initialControl(record: DiskRecord, nowMs: number): DiskControl {
  const { attached, offline } = record;
  const recorded = offline === null ? undefined : recordedFacts(offline);
  if (!attached) {
    const facts = recorded ?? plainFacts('never-attached', Date.parse(record.createdAt));
    return { attached, phase: { kind: 'offline', facts, waiting: false } };
  }
  if (recorded !== undefined && !TRIED_AT_START.has(recorded.reason)) {
    return { attached, phase: { kind: 'offline', facts: recorded, waiting: false } };
  }
  const facts = plainFacts('lease-expired', nowMs, WAITING);
  return { attached, phase: { kind: 'offline', facts, waiting: true } };
}

/** Whatever kept an attached disk offline for these reasons may have passed with the restart. */
const TRIED_AT_START: ReadonlySet<OfflineReason> = new Set([
  'store-error',
  'detached',
  'never-attached',
]);

/** The record of a disk in this state. */
export function recordFor(record: DiskRecord, { attached, phase }: DiskControl): DiskRecord {
  if (phase.kind !== 'offline') return { ...record, attached, offline: null };
  const { reason, sinceMs, keyVersion, vaultRequestId, message } = phase.facts;
  const since = new Date(sinceMs).toISOString();
  const offline = { reason, since, keyVersion, vaultRequestId, message };
  return { ...record, attached, offline };
}

function recordedFacts({ since, ...facts }: NonNullable<DiskRecord['offline']>): OfflineFacts {
  return { ...facts, sinceMs: Date.parse(since) };
}

function describe(verdict: Verdict): string {
  return verdict.code === undefined ? verdict.message : `${verdict.code}: ${verdict.message}`;
}

// SPDX-License-Identifier: Apache-2.0
import type { Verdict } from '../vault/types.js';
import type { SetAccess } from './access.js';
import { counts, type SetKeyRecord, type SetRecord } from './record.js';

/*
 * What the verdicts of a set's keys come to: docs/KEYS.md sections 3 and 5 as pure functions.
 */

/** What is known of one key version. */
export interface KeyState {
  /** The last one; undefined before the first probe of this run. */
  readonly verdict: Verdict | undefined;
  /** Since when the verdict has been of this kind. */
  readonly sinceMs: number | undefined;
  /** A denial that is believed, and that no PROOF has lifted. */
  readonly denied: boolean;
  /** A denial since the last PROOF, confirmed or not: enough to forbid the availability key. */
  readonly suspect: boolean;
}

export const UNPROBED: KeyState = {
  verdict: undefined,
  sinceMs: undefined,
  denied: false,
  suspect: false,
};

export interface PolicyInput {
  readonly record: SetRecord;
  readonly stateOf: (kid: string) => KeyState;
  readonly nowMs: number;
}

/** Whether the key's date has passed and the set takes that for a denial. */
export function hasExpired({ onExpiry }: SetRecord, key: SetKeyRecord, nowMs: number): boolean {
  if (onExpiry !== 'offline' || key.expiresAt === null) return false;
  return Date.parse(key.expiresAt) <= nowMs;
}

/** Keys whose denial counts and is believed. */
export function deniedKeys({ record, stateOf, nowMs }: PolicyInput): SetKeyRecord[] {
  return record.keys.filter(
    (key) => counts(key) && (stateOf(key.kid).denied || hasExpired(record, key, nowMs)),
  );
}

/**
 * Whether a confirmed run of this verdict is a denial for the set. The loss of the identity may be
 * an accident: unless the set says otherwise it runs the lease out, and counts once that has ended.
 * A firewall counts only where the set says so.
 */
export function isBelieved(
  verdict: Verdict,
  { identityDenied, networkDenied }: SetRecord,
  access: SetAccess['kind'],
): boolean {
  if (verdict.kind === 'DENIED') return true;
  if (verdict.class === 'denied-network') return networkDenied === 'offline';
  if (verdict.class !== 'denied-identity') return false;
  return identityDenied === 'offline' || access !== 'granted';
}

/** Whether the denials that stand revoke the set. */
export function isRevoked(input: PolicyInput): boolean {
  const denied = new Set(deniedKeys(input).map(({ slot }) => slot));
  if (denied.size === 0) return false;
  if (input.record.revokeWhen === 'any') return true;
  const slots = new Set(input.record.keys.filter(counts).map(({ slot }) => slot));
  return denied.size === slots.size;
}

/**
 * Whether the availability key may stand in: every customer key was asked and gave NO-ANSWER, and
 * none was denied, not even once without confirmation.
 */
export function mayUseAvailability(input: PolicyInput): boolean {
  const { record, stateOf } = input;
  const asked = record.keys.filter(counts);
  if (record.availability === null || record.purge !== null || asked.length === 0) return false;
  if (deniedKeys(input).length > 0) return false;
  return asked.every(({ kid }) => {
    const { verdict, suspect } = stateOf(kid);
    return verdict?.kind === 'NO-ANSWER' && !suspect;
  });
}

/** What an operator should look at although disks are served; in the words of `set show`. */
export function warningsOf(input: PolicyInput): string[] {
  const { record, stateOf, nowMs } = input;
  const warnings: string[] = [];
  for (const key of record.keys) {
    const { verdict, denied } = stateOf(key.kid);
    const named = `key ${key.keyName} version ${key.keyVersion}`;
    if (key.role === 'replaced') warnings.push(`${named} was replaced, and headers still name it`);
    else if (denied) warnings.push(`${named} is denied: ${verdict?.code ?? 'as recorded'}`);
    else if (verdict?.kind === 'NO-ANSWER') {
      warnings.push(`${named} gives no answer: ${verdict.code ?? verdict.class}`);
    }
    const expiry = expiryWarning(record, key, nowMs);
    if (expiry !== undefined) warnings.push(`${named} ${expiry}`);
  }
  return warnings;
}

/** Key Vault's own event KeyNearExpiry comes as early. */
const NEAR_EXPIRY_MS = 30 * 24 * 3_600_000;

function expiryWarning(record: SetRecord, key: SetKeyRecord, nowMs: number): string | undefined {
  if (record.onExpiry === 'ignore' || key.expiresAt === null || !counts(key)) return undefined;
  const leftMs = Date.parse(key.expiresAt) - nowMs;
  if (leftMs > NEAR_EXPIRY_MS) return undefined;
  return leftMs > 0 ? `expires at ${key.expiresAt}` : `expired at ${key.expiresAt}`;
}

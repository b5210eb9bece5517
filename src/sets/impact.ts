// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import type { EncryptionSet } from './encryption-set.js';
import { codes } from './errors.js';
import { isRevoked, type KeyState, UNPROBED } from './policy.js';
import type { SetDiskFacts } from './ports.js';
import { counts, type SetKeyRecord } from './record.js';

/*
 * What would happen, now, if: the rules of policy.ts asked with other verdicts. No vault is called.
 */

export const SCENARIOS = ['disable', 'delete', 'outage'] as const;
export type Scenario = (typeof SCENARIOS)[number];

export interface DiskImpact {
  readonly disk: string;
  readonly state: SetDiskFacts['state'];
  readonly outcome: 'goes-offline' | 'suspends' | 'revoked' | 'serves-on' | 'stays-offline';
  /** At most so long after the event; null where nothing happens. */
  readonly withinSeconds: number | null;
  readonly clients: readonly string[];
}

export interface SetImpact {
  readonly set: string;
  readonly scenario: Scenario;
  /** The key versions that it is about. */
  readonly kids: readonly string[];
  readonly why: string;
  readonly disks: readonly DiskImpact[];
}

/** Detection takes a probe interval, and its confirmation this long. */
export const CONFIRMATION_MS = 1000;

/** Throws ERR_SET_OPTION when the set has no such key version. */
export function impactOf(
  set: EncryptionSet,
  disks: readonly SetDiskFacts[],
  question: { scenario: Scenario; keyVersion?: string; nowMs: number },
): SetImpact {
  const { scenario } = question;
  const keys = keysMeant(set, question.keyVersion);
  const kids = keys.map(({ kid }) => kid);
  const effect =
    scenario === 'outage' ? outage(set, kids) : denial(set, { kids, nowMs: question.nowMs });
  return {
    set: set.name,
    scenario,
    kids,
    why: effect.why,
    disks: disks.map(({ name, state, clients }) => ({
      disk: name,
      state,
      ...(state === 'offline'
        ? { outcome: 'stays-offline' as const, withinSeconds: null }
        : { outcome: effect.outcome, withinSeconds: effect.withinSeconds }),
      clients,
    })),
  };
}

interface Effect {
  readonly outcome: Exclude<DiskImpact['outcome'], 'stays-offline'>;
  readonly withinSeconds: number | null;
  readonly why: string;
}

function keysMeant(set: EncryptionSet, keyVersion: string | undefined): SetKeyRecord[] {
  const { keys } = set.record;
  if (keyVersion === undefined) return keys.filter(({ role }) => role === 'current');
  const found = keys.filter((key) => key.keyVersion === keyVersion);
  if (found.length > 0) return found;
  const known = keys.map((key) => key.keyVersion).join(', ') || 'none';
  throw new KeyholdError(
    codes.ERR_SET_OPTION,
    `impact on encryption set ${set.name}: key version ${JSON.stringify(keyVersion.slice(0, 64))} ` +
      `is none of its own, expected one of: ${known}`,
    { fields: { set: set.name } },
  );
}

function denial(set: EncryptionSet, event: { kids: readonly string[]; nowMs: number }): Effect {
  const { kids, nowMs } = event;
  const { record } = set;
  if (!set.hasLease) return servesOn('the set is on the platform key: no vault can revoke it');
  const states = new Map(set.keyStatus().map((status) => [status.key.kid, status]));
  const stateOf = (kid: string): KeyState => {
    const state = states.get(kid);
    const known = state ?? UNPROBED;
    return { ...known, denied: kids.includes(kid) || known.denied };
  };
  if (!isRevoked({ record, stateOf, nowMs })) {
    const counted = record.keys.some((key) => kids.includes(key.kid) && counts(key));
    return servesOn(
      counted
        ? 'the set goes offline only when all of its customer keys are denied'
        : 'no denial of this version counts: the set was assigned to another key',
    );
  }
  const withinSeconds = (record.probeIntervalMs + CONFIRMATION_MS) / 1000;
  if (record.mode === 'restart') {
    const why = 'disks serve on, and are refused at their next detach or restart';
    return { outcome: 'revoked', withinSeconds, why };
  }
  return { outcome: 'goes-offline', withinSeconds, why: 'the next probe is denied' };
}

function outage(set: EncryptionSet, kids: readonly string[]): Effect {
  const { record } = set;
  if (!set.hasLease) return servesOn('the set is on the platform key: it needs no vault');
  const gone = new Set(kids.map(vaultOf));
  const others = record.keys.filter((key) => counts(key) && !gone.has(vaultOf(key.kid)));
  if (others.length > 0) {
    return servesOn(`${others.map(({ kid }) => vaultOf(kid)).join(', ')} still proves access`);
  }
  if (record.availability !== null) {
    return servesOn('the availability key stands in when the lease runs out');
  }
  if (record.mode === 'restart') {
    return servesOn('a disk in restart mode serves on without an answer, with an alarm');
  }
  const withinSeconds = (set.leaseMsLeft ?? record.leaseMs) / 1000;
  return {
    outcome: 'suspends',
    withinSeconds,
    why:
      'requests wait when the lease has ended, and disks go offline ' +
      `${String(record.suspendTimeoutMs / 1000)} s after that`,
  };
}

function servesOn(why: string): Effect {
  return { outcome: 'serves-on', withinSeconds: null, why };
}

function vaultOf(kid: string): string {
  return new URL(kid).origin;
}

// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import type { SetKeyHandle } from '../vault/types.js';
import { codes } from './errors.js';
import {
  PROFILES,
  type ProfileName,
  type RevocationMode,
  ROTATION_INTERVAL_MS_DEFAULT,
  type SetKeyRecord,
  type SetRecord,
  SUSPEND_TIMEOUT_MS_DEFAULT,
} from './record.js';
import { makeHostSeal } from './set-key-source.js';
import { type LendKey, wrapUnder, type WrapContext } from './wrap.js';

/** What can be changed later too. */
export interface SetPolicy {
  readonly mode: RevocationMode;
  readonly probeIntervalMs: number;
  readonly leaseMs: number;
  readonly suspendTimeoutMs: number;
  readonly rotationIntervalMs: number;
  readonly holdOnHeal: boolean;
  readonly revokeWhen: SetRecord['revokeWhen'];
  readonly onExpiry: SetRecord['onExpiry'];
  readonly identityDenied: SetRecord['identityDenied'];
  readonly networkDenied: SetRecord['networkDenied'];
}

export interface CreateSetOptions extends Partial<SetPolicy> {
  readonly name: string;
  /** Versioned or versionless URL of the customer key; left out: the platform key. */
  readonly keyUrl?: string;
  /** Of a second customer key, best in another vault. */
  readonly key2Url?: string;
  readonly identity: string;
  readonly mode: RevocationMode;
  /** Where the figures come from that are not given. */
  readonly profile?: ProfileName;
  readonly allowPurgeable?: boolean;
  /** The host may stand in for a vault that gives no answer (docs/KEYS.md section 5). */
  readonly availabilityKey?: boolean;
  /** Every disk gets an outer layer under the platform key. */
  readonly double?: boolean;
}

export interface FilledCreateSetOptions extends SetPolicy {
  readonly name: string;
  readonly identity: string;
  readonly keyUrls: readonly string[];
  readonly allowPurgeable: boolean;
  readonly availabilityKey: boolean;
  readonly double: boolean;
}

/** Throws ERR_SET_OPTION for options that contradict each other. */
export function fillCreateSetOptions(options: CreateSetOptions): FilledCreateSetOptions {
  const { keyUrl, key2Url, profile = 'default', ...given } = options;
  const { name } = options;
  const refuse = (what: string): never => {
    throw new KeyholdError(codes.ERR_SET_OPTION, `creating encryption set ${name}: ${what}`, {
      fields: { set: name },
    });
  };
  if (keyUrl === undefined && key2Url !== undefined) {
    return refuse('a second customer key without a first one');
  }
  if (keyUrl === undefined && options.availabilityKey === true) {
    return refuse('an availability key without a customer key that it could stand in for');
  }
  if (options.revokeWhen === 'all' && key2Url === undefined) {
    return refuse('revoke-when is all, expected any in a set with one customer key');
  }
  return {
    ...PROFILES[profile],
    suspendTimeoutMs: SUSPEND_TIMEOUT_MS_DEFAULT,
    rotationIntervalMs: ROTATION_INTERVAL_MS_DEFAULT,
    allowPurgeable: false,
    holdOnHeal: false,
    revokeWhen: 'any',
    onExpiry: 'warn',
    identityDenied: 'lease',
    networkDenied: 'lease',
    availabilityKey: false,
    double: false,
    ...given,
    keyUrls: [keyUrl, key2Url].filter((url) => url !== undefined),
  };
}

/**
 * Makes a set key and its record, and has every vault prove that it can be had again. Nothing is
 * written; if the call fails, no key is left in memory either.
 */
export async function prepareSet(
  options: FilledCreateSetOptions,
  context: WrapContext,
): Promise<{ record: SetRecord; key: SetKeyHandle }> {
  // Before anything is made: a set that could not keep what it promises is none.
  if (options.double) context.platform();
  const key = context.custody.generateSetKey();
  try {
    const lend: LendKey = (use) => Promise.resolve(use(key));
    const keys = await wrapUnderAll(options, lend, context);
    return { record: recordFor(options, { keys, key, context }), key };
  } catch (error) {
    key.wipe();
    throw error;
  }
}

async function wrapUnderAll(
  { name: set, identity, keyUrls, allowPurgeable }: FilledCreateSetOptions,
  lend: LendKey,
  context: WrapContext,
): Promise<SetKeyRecord[]> {
  const keys: SetKeyRecord[] = [];
  for (const [index, url] of keyUrls.entries()) {
    const slot = index === 0 ? 1 : 2;
    const key = await wrapUnder({ set, identity, url, slot, allowPurgeable, lend }, context);
    assertOtherKey(set, key, keys[0]);
    keys.push(key);
  }
  return keys;
}

/** Two slots of one key would be no second way, and no second say. */
export function assertOtherKey(
  set: string,
  key: SetKeyRecord,
  other: SetKeyRecord | undefined,
): void {
  if (other === undefined || withoutVersion(other.kid) !== withoutVersion(key.kid)) return;
  throw new KeyholdError(
    codes.ERR_SET_OPTION,
    `encryption set ${set}: both customer keys are ${withoutVersion(key.kid)}, expected two keys`,
    { fields: { set, kid: key.kid } },
  );
}

function withoutVersion(kid: string): string {
  return kid.slice(0, kid.lastIndexOf('/'));
}

function recordFor(
  options: FilledCreateSetOptions,
  made: { keys: SetKeyRecord[]; key: SetKeyHandle; context: WrapContext },
): SetRecord {
  const { keys, key, context } = made;
  const { custody, random, clock } = context;
  const nowMs = clock.nowMs();
  const id = random.uuid();
  const generation = 1;
  const seal = (purpose: 'platform' | 'availability'): SetRecord['platform'] =>
    makeHostSeal(custody, {
      platform: context.platform(),
      key,
      purpose,
      setId: id,
      generation,
      nowMs,
    });
  return {
    version: 1,
    name: options.name,
    identity: options.identity,
    ...policyOf(options),
    allowPurgeable: options.allowPurgeable,
    double: options.double,
    id,
    keys,
    platform: keys.length === 0 ? seal('platform') : null,
    availability: options.availabilityKey ? seal('availability') : null,
    setKeyGeneration: generation,
    denied: [],
    retired: [],
    spreading: false,
    purge: null,
    createdAt: new Date(nowMs).toISOString(),
  };
}

function policyOf(options: SetPolicy): SetPolicy {
  return {
    mode: options.mode,
    probeIntervalMs: options.probeIntervalMs,
    leaseMs: options.leaseMs,
    suspendTimeoutMs: options.suspendTimeoutMs,
    rotationIntervalMs: options.rotationIntervalMs,
    holdOnHeal: options.holdOnHeal,
    revokeWhen: options.revokeWhen,
    onExpiry: options.onExpiry,
    identityDenied: options.identityDenied,
    networkDenied: options.networkDenied,
  };
}

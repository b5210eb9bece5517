// SPDX-License-Identifier: Apache-2.0
import { constants, createPublicKey, publicEncrypt } from 'node:crypto';
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Canary, CustomerKey, SetKeyHandle, VaultAccess } from '../vault/types.js';
import { codes } from './errors.js';
import type { KeyCustody } from './ports.js';
import {
  LEASE_MS_DEFAULT,
  PROBE_INTERVAL_MS_DEFAULT,
  type RevocationMode,
  type SetRecord,
  SUSPEND_TIMEOUT_MS_DEFAULT,
} from './record.js';

/**
 * Bytes of a canary: as long as a set key, so that probing costs the vault what unwrapping does.
 */
const CANARY_BYTES = 32;

export interface CreateSetOptions {
  readonly name: string;
  /** Versioned or versionless URL of the customer key. */
  readonly keyUrl: string;
  readonly identity: string;
  readonly mode: RevocationMode;
  readonly probeIntervalMs?: number;
  readonly leaseMs?: number;
  readonly suspendTimeoutMs?: number;
  readonly allowPurgeable?: boolean;
  readonly holdOnHeal?: boolean;
}

export type FilledCreateSetOptions = Required<CreateSetOptions>;

export function fillCreateSetOptions(options: CreateSetOptions): FilledCreateSetOptions {
  return {
    probeIntervalMs: PROBE_INTERVAL_MS_DEFAULT,
    leaseMs: LEASE_MS_DEFAULT,
    suspendTimeoutMs: SUSPEND_TIMEOUT_MS_DEFAULT,
    allowPurgeable: false,
    holdOnHeal: false,
    ...options,
  };
}

/**
 * Makes a set key and its record, and has the vault prove that it can be had again. Nothing is
 * written; if the call fails, no key is left in memory either.
 */
export async function prepareSet(
  options: FilledCreateSetOptions,
  context: {
    vault: VaultAccess;
    custody: KeyCustody;
    random: Random;
    clock: Clock;
    unwrapTimeoutMs: number;
  },
): Promise<{ record: SetRecord; key: SetKeyHandle }> {
  const { vault, custody, random, unwrapTimeoutMs: timeoutMs } = context;
  const { identity, keyUrl: url, allowPurgeable } = options;
  const customerKey = await vault.fetchCustomerKey({ identity, url, allowPurgeable });
  const key = custody.generateSetKey();
  try {
    const wrapped = custody.wrapSetKey(key, customerKey);
    const { kid } = customerKey;
    const unwrapped = await vault.unwrapSetKey({ identity, kid, wrapped, timeoutMs });
    try {
      assertSameKey(custody, { made: key, unwrapped: unwrapped.key, set: options.name, kid });
    } finally {
      unwrapped.key.wipe();
    }
    const canary = makeCanary(customerKey, random);
    const nowMs = context.clock.nowMs();
    return { record: recordFor(options, { customerKey, wrapped, canary, random, nowMs }), key };
  } catch (error) {
    key.wipe();
    throw error;
  }
}

/**
 * A canary is made with node:crypto and not in native code, since its plaintext is worth nothing:
 * it proves access, and protects no secret.
 */
export function makeCanary(key: Pick<CustomerKey, 'modulus' | 'exponent'>, random: Random): Canary {
  const plaintext = random.bytes(CANARY_BYTES);
  const publicKey = createPublicKey({
    format: 'jwk',
    key: {
      kty: 'RSA',
      n: Buffer.from(key.modulus).toString('base64url'),
      e: Buffer.from(key.exponent).toString('base64url'),
    },
  });
  const wrapped = publicEncrypt(
    { key: publicKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
    plaintext,
  );
  return { plaintext, wrapped: new Uint8Array(wrapped) };
}

function assertSameKey(
  custody: KeyCustody,
  found: { made: SetKeyHandle; unwrapped: SetKeyHandle; set: string; kid: string },
): void {
  if (custody.sameSetKey(found.made, found.unwrapped)) return;
  throw new KeyholdError(
    codes.ERR_SET_KEY_VERIFY,
    `creating encryption set ${found.set}: ${found.kid} unwrapped the new set key to other bytes ` +
      'than were wrapped',
    { fields: { set: found.set, kid: found.kid } },
  );
}

function recordFor(
  options: FilledCreateSetOptions,
  made: {
    customerKey: CustomerKey;
    wrapped: Uint8Array;
    canary: Canary;
    random: Random;
    nowMs: number;
  },
): SetRecord {
  const { customerKey, wrapped, canary } = made;
  const { keyUrl: url } = options;
  return {
    version: 1,
    name: options.name,
    id: made.random.uuid(),
    mode: options.mode,
    identity: options.identity,
    keys: [
      {
        kid: customerKey.kid,
        keyName: customerKey.name,
        keyVersion: customerKey.version,
        url,
        versionless: !url.replace(/\/+$/, '').endsWith(`/${customerKey.version}`),
        wrappedSetKey: base64(wrapped),
        canary: { plaintext: base64(canary.plaintext), wrapped: base64(canary.wrapped) },
      },
    ],
    setKeyGeneration: 1,
    probeIntervalMs: options.probeIntervalMs,
    leaseMs: options.leaseMs,
    suspendTimeoutMs: options.suspendTimeoutMs,
    allowPurgeable: options.allowPurgeable,
    holdOnHeal: options.holdOnHeal,
    createdAt: new Date(made.nowMs).toISOString(),
  };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

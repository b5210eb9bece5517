// SPDX-License-Identifier: Apache-2.0
import { constants, createPublicKey, publicEncrypt } from 'node:crypto';
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Canary, CustomerKey, SetKeyHandle, VaultAccess } from '../vault/types.js';
import { codes } from './errors.js';
import type { KeyCustody, PlatformKeyHandle } from './ports.js';
import type { KeyRole, SetKeyRecord } from './record.js';

/**
 * Bytes of a canary: as long as a set key, so that probing costs the vault what unwrapping does.
 */
const CANARY_BYTES = 32;

/** What making and wrapping set keys takes. */
export interface WrapContext {
  readonly vault: VaultAccess;
  readonly custody: KeyCustody;
  readonly random: Random;
  readonly clock: Clock;
  /** Throws ERR_PLATFORM_KEY_MISSING when the host has none. */
  readonly platform: () => PlatformKeyHandle;
  readonly unwrapTimeoutMs: number;
}

/** Lends a set key for the length of one call. */
export type LendKey = <T>(use: (key: SetKeyHandle) => T) => Promise<T>;

export interface WrapRequest {
  readonly set: string;
  readonly identity: string;
  /** Versioned or versionless URL of the customer key. */
  readonly url: string;
  readonly slot: SetKeyRecord['slot'];
  readonly allowPurgeable: boolean;
  readonly lend: LendKey;
}

/**
 * The set key under a customer key, with a canary: wrapped with the public half, unwrapped again by
 * the vault, compared. Nothing is written. Throws what the key was refused for, or
 * ERR_SET_KEY_VERIFY.
 */
export async function wrapUnder(request: WrapRequest, context: WrapContext): Promise<SetKeyRecord> {
  const { identity, url, allowPurgeable } = request;
  const customerKey = await context.vault.fetchCustomerKey({ identity, url, allowPurgeable });
  return wrapWith(customerKey, request, context);
}

/** The same for a key that was just fetched. */
export async function wrapWith(
  customerKey: CustomerKey,
  request: WrapRequest,
  context: WrapContext,
): Promise<SetKeyRecord> {
  const { vault, custody, random, unwrapTimeoutMs: timeoutMs } = context;
  const { set, identity, url, slot, lend } = request;
  const { kid } = customerKey;
  const wrapped = await lend((key) => custody.wrapSetKey(key, customerKey));
  const unwrapped = await vault.unwrapSetKey({ identity, kid, wrapped, timeoutMs });
  try {
    if (!(await lend((key) => custody.sameSetKey(key, unwrapped.key)))) {
      throw new KeyholdError(
        codes.ERR_SET_KEY_VERIFY,
        `wrapping the key of encryption set ${set}: ${kid} unwrapped it to other bytes than were ` +
          'wrapped',
        { fields: { set, kid } },
      );
    }
  } finally {
    unwrapped.key.wipe();
  }
  const canary = makeCanary(customerKey, random);
  const role: KeyRole = 'current';
  return {
    slot,
    role,
    kid,
    keyName: customerKey.name,
    keyVersion: customerKey.version,
    url,
    versionless: !url.replace(/\/+$/, '').endsWith(`/${customerKey.version}`),
    wrappedSetKey: base64(wrapped),
    canary: { plaintext: base64(canary.plaintext), wrapped: base64(canary.wrapped) },
    expiresAt: expiryOf(customerKey),
  };
}

export function expiryOf({ expiresOnMs }: CustomerKey): string | null {
  return expiresOnMs === undefined ? null : new Date(expiresOnMs).toISOString();
}

/** Has the vault unwrap the new canary; throws ERR_SET_PROBE unless that is a PROOF. */
export async function proveCanary(
  key: SetKeyRecord,
  request: { set: string; identity: string },
  { vault, unwrapTimeoutMs: timeoutMs }: WrapContext,
): Promise<void> {
  const { set, identity } = request;
  const canary = {
    plaintext: new Uint8Array(Buffer.from(key.canary.plaintext, 'base64')),
    wrapped: new Uint8Array(Buffer.from(key.canary.wrapped, 'base64')),
  };
  const { kid } = key;
  const verdict = await vault.probe({ identity, kid, canary, fresh: false, timeoutMs });
  if (verdict.kind === 'PROOF') return;
  throw new KeyholdError(
    codes.ERR_SET_PROBE,
    `encryption set ${set}: probing ${kid}: expected PROOF, got ${verdict.kind} ` +
      `${verdict.code ?? ''}: ${verdict.message}`,
    { fields: { set, verdict: verdict.kind, requestId: verdict.requestId } },
  );
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

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

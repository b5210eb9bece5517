// SPDX-License-Identifier: Apache-2.0
import type { SetRecord } from './record.js';

/** A set key under a customer key, or under the platform key, as headers carry it. */
export interface WrappedKey {
  /** The versioned key id; `platform:ID` under the platform key. */
  readonly kid: string;
  readonly alg: 'RSA-OAEP-256' | 'A256GCM';
  /** Under the platform key: nonce, ciphertext, tag. */
  readonly value: Uint8Array;
}

/** Of the versions in use only: what a header carries is what it depends on. */
export function wrappedKeysOf({ keys, platform }: SetRecord): WrappedKey[] {
  const wrapped: WrappedKey[] = keys
    .filter(({ role }) => role === 'current')
    .map(({ kid, wrappedSetKey }) => ({
      kid,
      alg: 'RSA-OAEP-256',
      value: new Uint8Array(Buffer.from(wrappedSetKey, 'base64')),
    }));
  if (platform !== null) {
    const { keyId, nonce, ciphertext, tag } = platform;
    const value = Buffer.concat(
      [nonce, ciphertext, tag].map((part) => Buffer.from(part, 'base64')),
    );
    wrapped.push({ kid: `platform:${keyId}`, alg: 'A256GCM', value: new Uint8Array(value) });
  }
  return wrapped;
}

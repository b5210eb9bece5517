// SPDX-License-Identifier: Apache-2.0
import { platformWrappedSetKey, type WrappedSetKey } from '../luks2/metadata.js';
import type { SetRecord } from './record.js';

/** A set key under a customer key, or under the platform key, as headers carry it. */
export type WrappedKey = WrappedSetKey;

/** Of the versions in use only: what a header carries is what it depends on. */
export function wrappedKeysOf({ keys, platform }: SetRecord): WrappedKey[] {
  const wrapped: WrappedKey[] = keys
    .filter(({ role }) => role === 'current')
    .map(({ kid, wrappedSetKey }) => ({ kid, alg: 'RSA-OAEP-256', value: bytes(wrappedSetKey) }));
  if (platform === null) return wrapped;
  const { keyId, nonce, ciphertext, tag } = platform;
  const sealed = { nonce: bytes(nonce), ciphertext: bytes(ciphertext), tag: bytes(tag) };
  return [...wrapped, platformWrappedSetKey(keyId, sealed)];
}

function bytes(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, 'base64'));
}

// SPDX-License-Identifier: Apache-2.0
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto';
import { KeyholdError } from '../../src/base/errors.js';
import type { DekDigest, DekToOpen, PlatformKeyHandle, SealedDek } from '../../src/sets/ports.js';

export class FakePlatformKey implements PlatformKeyHandle {
  readonly bytes: Buffer;
  readonly id: string;

  constructor(bytes: Uint8Array = randomBytes(32)) {
    this.bytes = Buffer.from(bytes);
    const digest = createHmac('sha256', this.bytes).update('keyhold platform key id').digest('hex');
    this.id = digest.slice(0, 32);
  }
}

export function fakePlatformKey(key: PlatformKeyHandle): FakePlatformKey {
  if (!(key instanceof FakePlatformKey)) throw new TypeError('platform key of another custody');
  return key;
}

export function seal(key: Uint8Array, plaintext: Uint8Array, aad: Uint8Array): SealedDek {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return { nonce, ciphertext, tag: cipher.getAuthTag() };
}

export function unseal(key: Uint8Array, sealed: SealedDek, aad: Uint8Array): Buffer | undefined {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.nonce);
  decipher.setAAD(aad).setAuthTag(Buffer.from(sealed.tag));
  try {
    return Buffer.concat([decipher.update(sealed.ciphertext), decipher.final()]);
  } catch {
    return undefined;
  }
}

export function newDek(key: Uint8Array, aad: Uint8Array): { sealed: SealedDek; digest: DekDigest } {
  const dek = randomBytes(64);
  const digest = createHash('sha256').update(dek).digest();
  return {
    sealed: seal(key, dek, aad),
    digest: { salt: randomBytes(32), iterations: 1000, digest },
  };
}

/** The bytes of a DEK that `newDek` has made. */
export function openFakeDek(key: Uint8Array, { sealed, aad, digest }: DekToOpen): Buffer {
  const dek = unseal(key, sealed, aad);
  if (dek === undefined) throw new KeyholdError('ERR_DEK_UNSEAL', 'corrupt or tampered with');
  if (!createHash('sha256').update(dek).digest().equals(digest.digest)) {
    throw new KeyholdError('ERR_DEK_DIGEST', 'another DEK');
  }
  return dek;
}

// SPDX-License-Identifier: Apache-2.0
import {
  constants,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  privateDecrypt,
  publicEncrypt,
  type KeyObject,
} from 'node:crypto';
import { promisify } from 'node:util';
import { badParameter } from './refusals.js';

const generate = promisify(generateKeyPair);

/**
 * 1024 is not offered by Azure; it is here so that a client's refusal of small keys can be tested.
 */
export const RSA_SIZES_BITS = [1024, 2048, 3072, 4096] as const;
export const CURVES = ['P-256', 'P-384', 'P-521'] as const;

export type KeySpec =
  | { readonly kty: 'RSA' | 'RSA-HSM'; readonly sizeBits: (typeof RSA_SIZES_BITS)[number] }
  | { readonly kty: 'EC'; readonly curve: (typeof CURVES)[number] };

/** Makes a private key as PKCS#8 PEM. */
export async function generatePrivateKeyPem(spec: KeySpec): Promise<string> {
  const { privateKey } =
    spec.kty === 'EC'
      ? await generate('ec', { namedCurve: spec.curve })
      : await generate('rsa', { modulusLength: spec.sizeBits, publicExponent: 0x10001 });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
}

/** What another version of the same kind is made from. */
export function specOf(kty: 'RSA' | 'RSA-HSM' | 'EC', privateKeyPem: string): KeySpec {
  const key = createPrivateKey(privateKeyPem);
  if (kty === 'EC') {
    const curve = CURVES.find((name) => name === key.export({ format: 'jwk' }).crv);
    if (curve === undefined) throw new Error('stored EC key has an unknown curve');
    return { kty, curve };
  }
  const sizeBits = RSA_SIZES_BITS.find((size) => size === key.asymmetricKeyDetails?.modulusLength);
  if (sizeBits === undefined) throw new Error('stored RSA key has an unknown size');
  return { kty, sizeBits };
}

/** The public members of the JSON web key (n and e, or crv, x and y) and the size. */
export function describePublicKey(privateKeyPem: string): {
  jwk: Record<string, unknown>;
  sizeBits: number | undefined;
} {
  const key = createPublicKey(privateKeyPem);
  const { n, e, crv, x, y } = key.export({ format: 'jwk' });
  return {
    jwk: n === undefined ? { crv, x, y } : { n, e },
    sizeBits: key.asymmetricKeyDetails?.modulusLength,
  };
}

/**
 * RSA1_5 is not offered: Node refuses PKCS#1 v1.5 decryption (CVE-2023-46809), and nothing here may
 * write new data with it.
 */
const OAEP_HASHES: Readonly<Record<string, string>> = {
  'RSA-OAEP': 'sha1',
  'RSA-OAEP-256': 'sha256',
};

function oaepHash(algorithm: string): string {
  const hash = Object.hasOwn(OAEP_HASHES, algorithm) ? OAEP_HASHES[algorithm] : undefined;
  if (hash === undefined) {
    throw badParameter(`Algorithm ${algorithm} is not supported by this vault for RSA keys.`);
  }
  return hash;
}

/** Parsed keys, so that a probe does not parse PEM each time. One per key version ever used. */
export class KeyCache {
  readonly #keys = new Map<string, KeyObject>();

  encrypt(key: CachedKey, algorithm: string, plaintext: Buffer): Buffer {
    const options = { key: this.#load(key), ...oaep(oaepHash(algorithm)) };
    return orBadParameter(() => publicEncrypt(options, plaintext));
  }

  decrypt(key: CachedKey, algorithm: string, ciphertext: Buffer): Buffer {
    const options = { key: this.#load(key), ...oaep(oaepHash(algorithm)) };
    return orBadParameter(() => privateDecrypt(options, ciphertext));
  }

  /** Forgets private keys, when the vault closes or a key is purged. */
  clear(): void {
    this.#keys.clear();
  }

  #load(key: CachedKey): KeyObject {
    let parsed = this.#keys.get(key.version);
    if (parsed === undefined) {
      parsed = createPrivateKey(key.privateKeyPem);
      this.#keys.set(key.version, parsed);
    }
    return parsed;
  }
}

interface CachedKey {
  readonly version: string;
  readonly privateKeyPem: string;
}

function oaep(oaepHash: string): { padding: number; oaepHash: string } {
  return { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash };
}

/**
 * Too long a plaintext, a wrong length or a failed padding: the service tells none of them apart.
 */
function orBadParameter(run: () => Buffer): Buffer {
  try {
    return run();
  } catch {
    throw badParameter('The parameter is incorrect.');
  }
}

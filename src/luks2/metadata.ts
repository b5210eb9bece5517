// SPDX-License-Identifier: Apache-2.0

/** PBKDF2-SHA-256 of the DEK: tells a wrong one before the first sector is served. */
export interface HeaderDigest {
  readonly salt: Uint8Array; // 32 bytes
  readonly iterations: number;
  readonly digest: Uint8Array; // 32 bytes
}

/** The set key under one customer key, or under the platform key of a host. */
export interface WrappedSetKey {
  /** Versioned key id, `https://vault/keys/name/version`; `platform:ID` under a platform key. */
  readonly kid: string;
  readonly alg: 'RSA-OAEP-256' | 'A256GCM';
  /** As long as the RSA modulus: 256, 384 or 512 bytes; under a platform key 60. */
  readonly value: Uint8Array;
}

/** The DEK under the set key (AES-256-GCM). */
export interface HeaderSealedDek {
  readonly nonce: Uint8Array; // 12 bytes
  readonly ciphertext: Uint8Array; // 64 bytes
  readonly tag: Uint8Array; // 16 bytes
}

/** The LUKS2 token of type `keyhold`: with the vault, all that attaching the disk takes. */
export interface KeyholdToken {
  readonly version: 1;
  readonly diskUuid: string;
  readonly diskName: string;
  readonly set: { readonly id: string; readonly name: string };
  readonly setKeyGeneration: number;
  readonly dekGeneration: number;
  readonly wrappedSetKeys: readonly WrappedSetKey[];
  readonly sealedDek: HeaderSealedDek;
}

/** Everything a header says that can differ between disks. */
export interface HeaderMetadata {
  /** The container's LUKS uuid. The seal is bound to `token.diskUuid`, not to this one. */
  readonly uuid: string;
  /** The LUKS label; see `labelFor`. */
  readonly label: string;
  readonly sectorSizeBytes: 512 | 4096;
  /** The hole rule holds: written as the mandatory requirement `keyhold-holes`. */
  readonly holes: boolean;
  readonly digest: HeaderDigest;
  readonly token: KeyholdToken;
}

/** Wrapped set keys in one token: eight of RSA-4096 with long key ids fit the JSON area. */
export const WRAPPED_SET_KEYS_MAX = 8;

/** Names and key ids in a token, in UTF-16 units: what the records allow, and no more. */
export const NAME_LENGTH_MAX = 255;
export const KID_LENGTH_MAX = 512;

/** cryptsetup refuses fewer iterations. */
export const DIGEST_ITERATIONS_MIN = 1000;

/** More would let a hostile header stall the attach: 2^20 iterations take about half a second. */
export const DIGEST_ITERATIONS_MAX = 2 ** 20;

/** Wrapped sizes of RSA-2048, RSA-3072 and RSA-4096. */
export const WRAPPED_SET_KEY_BYTES: readonly number[] = [256, 384, 512];

/** Nonce, ciphertext and tag of a set key under a platform key. */
export const PLATFORM_SEAL_BYTES = 12 + 32 + 16;

export const HOLES_REQUIREMENT = 'keyhold-holes';
export const TOKEN_TYPE = 'keyhold';

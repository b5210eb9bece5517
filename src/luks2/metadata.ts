// SPDX-License-Identifier: Apache-2.0

/** PBKDF2-SHA-256 of the DEK: tells a wrong one before the first sector is served. */
export interface HeaderDigest {
  readonly salt: Uint8Array; // 32 bytes
  readonly iterations: number;
  readonly digest: Uint8Array; // 32 bytes
}

/** The set key under one customer key, or under the host's platform key. */
export type WrappedSetKey =
  | {
      /** Versioned key id: `https://vault/keys/name/version`. */
      readonly kid: string;
      readonly alg: 'RSA-OAEP-256';
      /** As long as the RSA modulus: 256, 384 or 512 bytes. */
      readonly value: Uint8Array;
    }
  | {
      /** `platform:` and the platform key's id. Stands alone: the set has no customer keys. */
      readonly kid: string;
      readonly alg: 'A256GCM';
      /** Nonce (12 bytes), ciphertext (32), tag (16). */
      readonly value: Uint8Array;
    };

/** The DEK under the set key, or of the outer layer under the platform key (AES-256-GCM). */
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

/** The same of the outer container of a disk that is encrypted twice (docs/KEYS.md section 4). */
export interface OuterToken {
  readonly version: 1;
  readonly layer: 'outer';
  readonly diskUuid: string;
  readonly diskName: string;
  readonly dekGeneration: number;
  /** 32 hex digits: of the key that sealed the DEK. */
  readonly platformKeyId: string;
  readonly sealedDek: HeaderSealedDek;
}

export type AnyToken = KeyholdToken | OuterToken;

export function isOuterToken(token: AnyToken): token is OuterToken {
  return 'layer' in token;
}

/** Everything a header says that can differ between disks. */
interface Metadata<Token> {
  /** The container's LUKS uuid. The seal is bound to `token.diskUuid`, not to this one. */
  readonly uuid: string;
  /** The LUKS label; see `labelFor`. */
  readonly label: string;
  readonly sectorSizeBytes: 512 | 4096;
  /** The hole rule holds: written as the mandatory requirement `keyhold-holes`. */
  readonly holes: boolean;
  readonly digest: HeaderDigest;
  readonly token: Token;
}

/** Of a disk's only container, or of the inner one. */
export type HeaderMetadata = Metadata<KeyholdToken>;
export type OuterHeaderMetadata = Metadata<OuterToken>;
export type AnyHeaderMetadata = Metadata<AnyToken>;

/** A set key as the platform key sealed it, in the form of a token's entry. */
export function platformWrappedSetKey(
  platformKeyId: string,
  sealed: { nonce: Uint8Array; ciphertext: Uint8Array; tag: Uint8Array },
): WrappedSetKey {
  const value = new Uint8Array(Buffer.concat([sealed.nonce, sealed.ciphertext, sealed.tag]));
  return {
    kid: `${PLATFORM_KID_PREFIX}${platformKeyId}`,
    alg: 'A256GCM',
    value,
  };
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

/** A set key (32 bytes) under the platform key, with nonce and tag. */
export const SEALED_SET_KEY_BYTES = 60;

/** The kid of a set key that the platform key sealed begins with it; no vault's URL does. */
export const PLATFORM_KID_PREFIX = 'platform:';

export const HOLES_REQUIREMENT = 'keyhold-holes';
export const TOKEN_TYPE = 'keyhold';

// SPDX-License-Identifier: Apache-2.0
import type { SetKeyHandle } from '../vault/types.js';
import type { WrappedKey } from './wrapped-keys.js';

/** A lease in native memory, which shards check on every cipher call. One per set. */
export interface LeaseHandle {
  /** Deadline = `proofStartBootMs` + `durationMs`; never moves back. */
  renew(proofStartBootMs: number, durationMs: number): void;
  /** Ends the lease now. */
  end(): void;
  /** CLOCK_BOOTTIME ms; 0 when it was never renewed. */
  deadlineBootMs(): number;
}

/** A DEK under a set key, as the header's `keyhold` token stores it. */
export interface SealedDek {
  readonly nonce: Uint8Array; // 12 bytes
  readonly ciphertext: Uint8Array; // 64 bytes
  readonly tag: Uint8Array; // 16 bytes
}

/** The LUKS2 digest that tells a wrong DEK before the first sector is served. */
export interface DekDigest {
  readonly salt: Uint8Array; // 32 bytes
  readonly iterations: number;
  readonly digest: Uint8Array; // 32 bytes
}

/** A set key under the platform key (AES-256-GCM), as set records store it. */
export interface SealedSetKey {
  readonly nonce: Uint8Array; // 12 bytes
  readonly ciphertext: Uint8Array; // 32 bytes
  readonly tag: Uint8Array; // 16 bytes
}

/** The host's platform key in native memory (docs/KEYS.md section 4). */
export interface PlatformKeyHandle {
  /** 32 lower-case hex digits that tell one platform key from another, and nothing else of it. */
  readonly id: string;
}

/** A DEK with all that opening it needs besides the key that sealed it. */
export interface DekToOpen {
  readonly sealed: SealedDek;
  readonly aad: Uint8Array;
  readonly digest: DekDigest;
}

/** What one header of a set depends on. */
export interface HeaderReport {
  readonly disk: string;
  /** Versions that its wrapped set keys name; null when it could not be read or written. */
  readonly kids: readonly string[] | null;
  readonly error: string | null;
}

/** A disk as far as it concerns what happens to its set. */
export interface SetDiskFacts {
  readonly name: string;
  readonly state: 'offline' | 'online' | 'suspended';
  readonly attached: boolean;
  /** Connected clients, in words. */
  readonly clients: readonly string[];
}

export interface EraseReport {
  readonly erased: readonly string[];
  readonly failed: ReadonlyArray<{ readonly disk: string; readonly message: string }>;
}

/** The disks of a set, as the set sees them; `disks` implements it. */
export interface SetDisks {
  names(setId: string): readonly string[];
  facts(setId: string): SetDiskFacts[];
  /**
   * Reads every header that belongs to the set, as it is in the store now. Erased disks have none,
   * and in the middle of a move the header says to which of two sets it belongs.
   */
  headers(setId: string): Promise<HeaderReport[]>;
  /** Makes every header carry exactly these, and reads it back. Disks serve on meanwhile. */
  rewrap(setId: string, keys: readonly WrappedKey[]): Promise<HeaderReport[]>;
  /** Serving disks are bound to the set's lease as its record now wants it. */
  followLease(setId: string): Promise<void>;
  /** Takes every disk offline and erases its headers; see docs/KEYS.md section 6. */
  eraseAll(setId: string): Promise<EraseReport>;
}

/** Operations on set keys; implemented in C++ (dataplane facade), faked in tests. */
export interface KeyCustody {
  generateSetKey(): SetKeyHandle;
  /**
   * RSA-OAEP-256 under a public key. The result is used only after a remote unwrap gave the same
   * key.
   */
  wrapSetKey(
    key: SetKeyHandle,
    publicKey: { modulus: Uint8Array; exponent: Uint8Array },
  ): Uint8Array;
  /** Constant-time comparison. */
  sameSetKey(a: SetKeyHandle, b: SetKeyHandle): boolean;
  createLease(): LeaseHandle;
  /** From now on native code wipes the key when the lease ends, whatever JavaScript does. */
  bindLease(key: SetKeyHandle, lease: LeaseHandle): void;
  /** Generates a DEK, seals it, forgets it. */
  createDek(key: SetKeyHandle, aad: Uint8Array): { sealed: SealedDek; digest: DekDigest };
  /**
   * The DEK of one disk, sealed anew under the key of another set. Throws ERR_DEK_UNSEAL or
   * ERR_DEK_DIGEST when `dek` is not what `from` sealed.
   */
  resealDek(request: {
    from: SetKeyHandle;
    to: SetKeyHandle;
    dek: DekToOpen;
    aad: Uint8Array;
  }): SealedDek;
  /**
   * Writes a DEK to a new file, raw, mode 0600, durably. Throws ERR_KEY_EXPORT_FILE, and what
   * resealDek throws; then there is no file.
   */
  exportDek(key: SetKeyHandle, dek: DekToOpen, file: string): Promise<void>;
  /** The same for the DEK of an outer layer. */
  exportOuterDek(platform: PlatformKeyHandle, dek: DekToOpen, file: string): Promise<void>;
  sealSetKey(platform: PlatformKeyHandle, key: SetKeyHandle, aad: Uint8Array): SealedSetKey;
  /** Throws ERR_SET_KEY_UNSEAL: corrupt, tampered with, or sealed by another platform key. */
  openSetKey(platform: PlatformKeyHandle, sealed: SealedSetKey, aad: Uint8Array): SetKeyHandle;
  /** As createDek, sealed by the platform key: the outer layer of double encryption. */
  createOuterDek(
    platform: PlatformKeyHandle,
    aad: Uint8Array,
  ): { sealed: SealedDek; digest: DekDigest };
}

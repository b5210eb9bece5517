// SPDX-License-Identifier: Apache-2.0
import type {
  DekDigest,
  DekToOpen,
  KeyCustody,
  LeaseHandle,
  PlatformKeyHandle,
  SealedDek,
  SealedSetKey,
} from '../sets/ports.js';
import type { SecretPipe, SetKeyHandle } from '../vault/types.js';
import type { Addon, NativeLease, NativeSetKey } from './addon.js';
import { awaitNative, callNative, codes } from './errors.js';
import { nativePlatformKey } from './platform-key.js';

const EXPORT_CODES = { System: codes.ERR_KEY_EXPORT_FILE };
const SET_KEY_CODES = { Unseal: codes.ERR_SET_KEY_UNSEAL };

/** A set key's handle: the key is in native memory, and native code has the last word on it. */
export class SetKey implements SetKeyHandle {
  readonly native: NativeSetKey;

  constructor(native: NativeSetKey) {
    this.native = native;
  }

  get wiped(): boolean {
    return this.native.wiped;
  }

  wipe(): void {
    this.native.wipe();
  }
}

export class Lease implements LeaseHandle {
  readonly native: NativeLease;

  constructor(native: NativeLease) {
    this.native = native;
  }

  renew(proofStartBootMs: number, durationMs: number): void {
    this.native.renew(proofStartBootMs, durationMs);
  }

  end(): void {
    this.native.end();
  }

  deadlineBootMs(): number {
    return this.native.deadlineBootMs();
  }
}

/**
 * The native objects behind handles that came from this facade; anything else is a programmer's
 * error.
 */
export function nativeSetKey(key: SetKeyHandle): NativeSetKey {
  if (!(key instanceof SetKey)) throw new TypeError('set key handle of another custody');
  return key.native;
}

export function nativeLease(lease: LeaseHandle): NativeLease {
  if (!(lease instanceof Lease)) throw new TypeError('lease handle of another custody');
  return lease.native;
}

/** Key operations in native code: JavaScript passes handles and sealed bytes, never a key. */
export class NativeCustody implements KeyCustody, SecretPipe {
  readonly #addon: Addon;

  constructor(addon: Addon) {
    this.#addon = addon;
  }

  generateSetKey(): SetKeyHandle {
    return callNative('generating a set key', () => new SetKey(this.#addon.generateSetKey()));
  }

  wrapSetKey(
    key: SetKeyHandle,
    publicKey: { modulus: Uint8Array; exponent: Uint8Array },
  ): Uint8Array {
    return callNative('wrapping a set key', () =>
      nativeSetKey(key).wrap(publicKey.modulus, publicKey.exponent),
    );
  }

  sameSetKey(a: SetKeyHandle, b: SetKeyHandle): boolean {
    return nativeSetKey(a).equals(nativeSetKey(b));
  }

  createLease(): LeaseHandle {
    return new Lease(this.#addon.createLease());
  }

  bindLease(key: SetKeyHandle, lease: LeaseHandle): void {
    nativeSetKey(key).bindLease(nativeLease(lease));
  }

  createDek(key: SetKeyHandle, aad: Uint8Array): { sealed: SealedDek; digest: DekDigest } {
    return callNative('creating a DEK', () => nativeSetKey(key).createDek(aad));
  }

  resealDek(request: {
    from: SetKeyHandle;
    to: SetKeyHandle;
    dek: DekToOpen;
    aad: Uint8Array;
  }): SealedDek {
    const { sealed, aad, digest } = request.dek;
    const [from, to] = [nativeSetKey(request.from), nativeSetKey(request.to)];
    return callNative('sealing a DEK for another set', () =>
      from.resealDek(sealed, aad, digest, to, request.aad),
    );
  }

  async exportDek(key: SetKeyHandle, dek: DekToOpen, file: string): Promise<void> {
    const { sealed, aad, digest } = dek;
    await awaitNative(
      'exporting a DEK',
      () => nativeSetKey(key).exportDek(sealed, aad, digest, file),
      EXPORT_CODES,
    );
  }

  async exportOuterDek(platform: PlatformKeyHandle, dek: DekToOpen, file: string): Promise<void> {
    const { sealed, aad, digest } = dek;
    await awaitNative(
      'exporting an outer DEK',
      () => nativePlatformKey(platform).exportDek(sealed, aad, digest, file),
      EXPORT_CODES,
    );
  }

  sealSetKey(platform: PlatformKeyHandle, key: SetKeyHandle, aad: Uint8Array): SealedSetKey {
    return callNative('sealing a set key with the platform key', () =>
      nativePlatformKey(platform).sealSetKey(nativeSetKey(key), aad),
    );
  }

  openSetKey(platform: PlatformKeyHandle, sealed: SealedSetKey, aad: Uint8Array): SetKeyHandle {
    return callNative(
      `opening a set key with platform key ${platform.id}`,
      () => new SetKey(nativePlatformKey(platform).openSetKey(sealed, aad)),
      SET_KEY_CODES,
    );
  }

  createOuterDek(
    platform: PlatformKeyHandle,
    aad: Uint8Array,
  ): { sealed: SealedDek; digest: DekDigest } {
    return callNative('creating an outer DEK', () => nativePlatformKey(platform).createDek(aad));
  }

  createPipe(): { readFd: number; writeFd: number } {
    return callNative('creating a pipe', () => this.#addon.createPipe());
  }

  closeFd(fd: number): void {
    callNative('closing a descriptor', () => this.#addon.closeFd(fd));
  }

  async receiveSetKey(readFd: number, timeoutMs: number): Promise<SetKeyHandle> {
    return new SetKey(
      await awaitNative('receiving a set key', () => this.#addon.receiveSetKey(readFd, timeoutMs)),
    );
  }
}

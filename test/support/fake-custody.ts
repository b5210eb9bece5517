// SPDX-License-Identifier: Apache-2.0
import { publicEncrypt, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import type { Clock } from '../../src/base/clock.js';
import { defineErrors, errorTable, KeyholdError } from '../../src/base/errors.js';
import type {
  DekDigest,
  DekToOpen,
  KeyCustody,
  LeaseHandle,
  PlatformKeyHandle,
  SealedDek,
  SealedSetKey,
} from '../../src/sets/ports.js';
import type { SetKeyHandle } from '../../src/vault/types.js';
import { OAEP, rsaPair } from './fake-rsa.js';
import { fakePlatformKey, newDek, openFakeDek, seal, unseal } from './fake-seal.js';

// The kinds of errors that belong to areas which these fakes stand in for.
if (!errorTable().some(([code]) => code === 'ERR_DEK_UNSEAL')) {
  const spec = (kind: 'key-inaccessible' | 'unavailable' | 'integrity' | 'conflict') => ({
    kind,
    summary: 'Fake.',
    hint: 'fake',
  });
  defineErrors({
    ERR_DEK_UNSEAL: spec('integrity'),
    ERR_DEK_DIGEST: spec('integrity'),
    ERR_SET_KEY_UNSEAL: spec('integrity'),
    ERR_SET_KEY_WIPED: spec('key-inaccessible'),
    ERR_DISK_STATE: spec('conflict'),
    ERR_STORE_OPEN: spec('unavailable'),
  });
}

export class FakeSetKey implements SetKeyHandle {
  readonly bytes: Buffer;
  wiped = false;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes);
  }

  wipe(): void {
    this.wiped = true;
    this.bytes.fill(0);
  }
}

export class FakeLease implements LeaseHandle {
  readonly #clock: Clock;
  readonly #listeners = new Set<() => void>();
  #deadlineBootMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  renew(proofStartBootMs: number, durationMs: number): void {
    this.#deadlineBootMs = Math.max(this.#deadlineBootMs, proofStartBootMs + durationMs);
    this.#watch();
  }

  end(): void {
    this.#deadlineBootMs = 0;
    this.enforce();
  }

  deadlineBootMs(): number {
    return this.#deadlineBootMs;
  }

  holds(): boolean {
    return this.#clock.bootMs() < this.#deadlineBootMs;
  }

  /** What native code does whether JavaScript runs or not. */
  onEnd(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  enforce(): void {
    if (this.holds()) return;
    for (const listener of [...this.#listeners]) listener();
  }

  #watch(): void {
    this.#clock.setTimer(this.#deadlineBootMs - this.#clock.bootMs(), () => this.enforce());
  }
}

/** Handles of this file's own make; anything else is a mistake of the test. */
export function fakeKey(key: SetKeyHandle): FakeSetKey {
  if (!(key instanceof FakeSetKey)) throw new TypeError('set key of another custody');
  return key;
}

export function fakeLease(lease: LeaseHandle): FakeLease {
  if (!(lease instanceof FakeLease)) throw new TypeError('lease of another custody');
  return lease;
}

/** KeyCustody with real cryptography and no secrecy. */
export class FakeCustody implements KeyCustody {
  readonly #clock: Clock;
  readonly keys: FakeSetKey[] = [];
  /** Makes every wrapped set key that of another one: a vault that unwraps to the wrong bytes. */
  wrapOther = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get liveKeys(): FakeSetKey[] {
    return this.keys.filter((key) => !key.wiped);
  }

  adopt(bytes: Uint8Array): FakeSetKey {
    const key = new FakeSetKey(bytes);
    this.keys.push(key);
    return key;
  }

  generateSetKey(): SetKeyHandle {
    return this.adopt(randomBytes(32));
  }

  wrapSetKey(key: SetKeyHandle): Uint8Array {
    const bytes = this.wrapOther ? randomBytes(32) : fakeKey(key).bytes;
    return publicEncrypt({ key: rsaPair().publicKey, ...OAEP }, bytes);
  }

  sameSetKey(a: SetKeyHandle, b: SetKeyHandle): boolean {
    return fakeKey(a).bytes.equals(fakeKey(b).bytes);
  }

  createLease(): FakeLease {
    return new FakeLease(this.#clock);
  }

  bindLease(key: SetKeyHandle, lease: LeaseHandle): void {
    const own = fakeLease(lease);
    own.onEnd(() => key.wipe());
    if (!own.holds()) key.wipe();
  }

  createDek(key: SetKeyHandle, aad: Uint8Array): { sealed: SealedDek; digest: DekDigest } {
    return newDek(fakeKey(key).bytes, aad);
  }

  resealDek(request: {
    from: SetKeyHandle;
    to: SetKeyHandle;
    dek: DekToOpen;
    aad: Uint8Array;
  }): SealedDek {
    const [from, to] = [fakeKey(request.from), fakeKey(request.to)];
    if (from.wiped || to.wiped) throw new KeyholdError('ERR_SET_KEY_WIPED', 'wiped');
    return seal(to.bytes, openFakeDek(from.bytes, request.dek), request.aad);
  }

  async exportDek(key: SetKeyHandle, dek: DekToOpen, file: string): Promise<void> {
    if (key.wiped) throw new KeyholdError('ERR_SET_KEY_WIPED', 'wiped');
    await writeFile(file, openFakeDek(fakeKey(key).bytes, dek), { flag: 'wx', mode: 0o600 });
  }

  async exportOuterDek(platform: PlatformKeyHandle, dek: DekToOpen, file: string): Promise<void> {
    const bytes = openFakeDek(fakePlatformKey(platform).bytes, dek);
    await writeFile(file, bytes, { flag: 'wx', mode: 0o600 });
  }

  sealSetKey(platform: PlatformKeyHandle, key: SetKeyHandle, aad: Uint8Array): SealedSetKey {
    if (key.wiped) throw new KeyholdError('ERR_SET_KEY_WIPED', 'wiped');
    return seal(fakePlatformKey(platform).bytes, fakeKey(key).bytes, aad);
  }

  openSetKey(platform: PlatformKeyHandle, sealed: SealedSetKey, aad: Uint8Array): SetKeyHandle {
    const bytes = unseal(fakePlatformKey(platform).bytes, sealed, aad);
    if (bytes === undefined) throw new KeyholdError('ERR_SET_KEY_UNSEAL', 'corrupt');
    return this.adopt(bytes);
  }

  createOuterDek(
    platform: PlatformKeyHandle,
    aad: Uint8Array,
  ): { sealed: SealedDek; digest: DekDigest } {
    return newDek(fakePlatformKey(platform).bytes, aad);
  }
}

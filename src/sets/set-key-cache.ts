// SPDX-License-Identifier: Apache-2.0
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import type { SetKeyHandle, Verdict, VaultAccess } from '../vault/types.js';
import type { EmitSetEvent, SetIdentity } from './access.js';
import { codes } from './errors.js';
import type { KeyCustody, LeaseHandle } from './ports.js';
import type { SetKeyRecord } from './record.js';

/** Access that goes and comes back while a key is being unwrapped costs another attempt. */
const USE_ATTEMPTS_MAX = 3;

export interface SetKeyCacheOptions {
  readonly set: SetIdentity;
  readonly identity: string;
  readonly keys: readonly SetKeyRecord[];
  readonly vault: VaultAccess;
  readonly custody: KeyCustody;
  readonly lease: LeaseHandle;
  readonly timeoutMs: number;
  readonly emit: EmitSetEvent;
  /** Throws when the set may not use its key now. */
  readonly assertGranted: () => void;
  /** An unwrap was denied: time to look closely. */
  readonly onUnwrapDenied: () => void;
}

/**
 * The set key while the lease holds: in native memory, unwrapped when first needed, in one flight
 * however many disks ask. Native code wipes it when the lease ends, even if this never runs again.
 */
export class SetKeyCache {
  readonly #options: SetKeyCacheOptions;
  #key: SetKeyHandle | undefined;
  #unwrapping: Promise<SetKeyHandle> | undefined;
  /** Moves on at every wipe, so that an unwrap that was under way cannot bring the key back. */
  #epoch = 0;

  constructor(options: SetKeyCacheOptions) {
    this.#options = options;
  }

  /** Calls `use` in the same turn in which access was last checked; it must not keep the handle. */
  async use<T>(use: (key: SetKeyHandle) => T): Promise<T> {
    for (let attempt = 0; attempt < USE_ATTEMPTS_MAX; attempt += 1) {
      this.#options.assertGranted();
      const key = this.#present() ?? (await (this.#unwrapping ??= this.#unwrap()));
      this.#options.assertGranted();
      if (!key.wiped) return use(key);
    }
    throw new KeyholdError(
      codes.ERR_SET_CLOSED,
      `using the key of encryption set ${this.#options.set.name}: wiped as often as it was unwrapped`,
    );
  }

  /** Takes over a key that was just made or unwrapped and verified. */
  adopt(key: SetKeyHandle): void {
    this.#options.custody.bindLease(key, this.#options.lease);
    this.#key = key;
  }

  wipe(cause: string): void {
    this.#epoch += 1;
    this.#unwrapping = undefined;
    const key = this.#key;
    this.#key = undefined;
    if (key === undefined) return;
    key.wipe();
    this.#options.emit('set-key', { set: this.#options.set, action: 'wiped', cause });
  }

  #present(): SetKeyHandle | undefined {
    return this.#key?.wiped === false ? this.#key : undefined;
  }

  async #unwrap(): Promise<SetKeyHandle> {
    const epoch = this.#epoch;
    try {
      const key = await this.#unwrapWithAny();
      if (epoch === this.#epoch) this.adopt(key);
      else key.wipe();
      return key;
    } finally {
      if (epoch === this.#epoch) this.#unwrapping = undefined;
    }
  }

  /**
   * The next customer key is asked only when the one before did not answer: a denial by either
   * wins.
   */
  async #unwrapWithAny(): Promise<SetKeyHandle> {
    const { set, identity, keys, vault, timeoutMs, emit } = this.#options;
    let lastError: unknown;
    for (const { kid, wrappedSetKey } of keys) {
      const wrapped = new Uint8Array(Buffer.from(wrappedSetKey, 'base64'));
      try {
        const { key, requestId } = await vault.unwrapSetKey({ identity, kid, wrapped, timeoutMs });
        const request = requestId === undefined ? {} : { requestId };
        emit('set-key', { set, action: 'unwrapped', kid, ...request });
        return key;
      } catch (error) {
        lastError = error;
        const requestId = verdictOf(error)?.requestId;
        const request = requestId === undefined ? {} : { requestId };
        emit('set-key', { set, action: 'unwrap-failed', kid, cause: messageOf(error), ...request });
        if (codeOf(error) !== 'ERR_KEY_UNWRAP_NO_ANSWER') break;
      }
    }
    if (codeOf(lastError) === 'ERR_KEY_UNWRAP_DENIED') this.#options.onUnwrapDenied();
    throw lastError;
  }
}

/** The verdict that the vault's errors carry. */
function verdictOf(error: unknown): Verdict | undefined {
  const fields = (error as { fields?: { verdict?: Verdict } } | null)?.fields;
  return fields?.verdict;
}

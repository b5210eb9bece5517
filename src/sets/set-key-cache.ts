// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import type { SetKeyHandle } from '../vault/types.js';
import type { EmitSetEvent, GrantedBy, SetIdentity } from './access.js';
import { codes } from './errors.js';
import type { KeyCustody, LeaseHandle } from './ports.js';

/** Access that goes and comes back while a key is being unwrapped costs another attempt. */
const USE_ATTEMPTS_MAX = 3;

export interface SetKeyCacheOptions {
  readonly set: SetIdentity;
  readonly custody: KeyCustody;
  readonly lease: LeaseHandle;
  readonly emit: EmitSetEvent;
  /** What access is granted by; throws when the set may not use its key now. */
  readonly assertGranted: () => GrantedBy;
  readonly obtain: (by: GrantedBy) => Promise<SetKeyHandle>;
}

/**
 * The set key while the lease holds: in native memory, obtained when first needed, in one flight
 * however many disks ask. Native code wipes it when the lease ends, even if this never runs again.
 */
export class SetKeyCache {
  readonly #options: SetKeyCacheOptions;
  #key: SetKeyHandle | undefined;
  #obtaining: Promise<SetKeyHandle> | undefined;
  /** Moves on at every wipe, so that an unwrap that was under way cannot bring the key back. */
  #epoch = 0;

  constructor(options: SetKeyCacheOptions) {
    this.#options = options;
  }

  /** Calls `use` in the same turn in which access was last checked; it must not keep the handle. */
  async use<T>(use: (key: SetKeyHandle) => T): Promise<T> {
    for (let attempt = 0; attempt < USE_ATTEMPTS_MAX; attempt += 1) {
      const by = this.#options.assertGranted();
      const key = this.#present() ?? (await (this.#obtaining ??= this.#obtain(by)));
      this.#options.assertGranted();
      if (!key.wiped) return use(key);
    }
    throw new KeyholdError(
      codes.ERR_SET_CLOSED,
      `using the key of encryption set ${this.#options.set.name}: wiped as often as it was unwrapped`,
    );
  }

  /** Takes over a key that was just made or obtained and verified. */
  adopt(key: SetKeyHandle, by: GrantedBy): void {
    // Nothing renews a lease for the platform key: it is the host's own.
    if (by !== 'platform') this.#options.custody.bindLease(key, this.#options.lease);
    this.#key = key;
  }

  wipe(cause: string): void {
    this.#epoch += 1;
    this.#obtaining = undefined;
    const key = this.#key;
    this.#key = undefined;
    if (key === undefined) return;
    key.wipe();
    this.#options.emit('set-key', { set: this.#options.set, action: 'wiped', cause });
  }

  #present(): SetKeyHandle | undefined {
    return this.#key?.wiped === false ? this.#key : undefined;
  }

  async #obtain(by: GrantedBy): Promise<SetKeyHandle> {
    const epoch = this.#epoch;
    try {
      const key = await this.#options.obtain(by);
      if (epoch === this.#epoch) this.adopt(key, by);
      else key.wipe();
      return key;
    } finally {
      if (epoch === this.#epoch) this.#obtaining = undefined;
    }
  }
}

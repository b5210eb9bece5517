// SPDX-License-Identifier: Apache-2.0
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { encodeSetKeyAad, type SetKeyPurpose } from '../luks2/set-key-aad.js';
import type { SetKeyHandle, VaultAccess, Verdict } from '../vault/types.js';
import type { EmitSetEvent, GrantedBy, SetIdentity } from './access.js';
import { codes } from './errors.js';
import type { KeyCustody, PlatformKeyHandle } from './ports.js';
import { type HostSeal, type SetKeyRecord, type SetRecord } from './record.js';

export interface SetKeySourceOptions {
  readonly set: SetIdentity;
  readonly record: () => SetRecord;
  readonly vault: VaultAccess;
  readonly custody: KeyCustody;
  /** Throws when the host has none. */
  readonly platform: () => PlatformKeyHandle;
  readonly timeoutMs: number;
  readonly emit: EmitSetEvent;
  /** Whether a denial of this version stands. */
  readonly isDenied: (key: SetKeyRecord) => boolean;
  readonly mayUseAvailability: () => boolean;
  /** An unwrap was denied: time to look closely. */
  readonly onUnwrapDenied: () => void;
}

/** The ways in which a set key comes into memory (docs/KEYS.md sections 1 and 2). */
export class SetKeySource {
  readonly #options: SetKeySourceOptions;

  constructor(options: SetKeySourceOptions) {
    this.#options = options;
  }

  /** The set key for serving, by what access was granted by. */
  async obtain(by: GrantedBy): Promise<SetKeyHandle> {
    const { platform, availability } = this.#options.record();
    if (by === 'platform') return this.#open(platform, 'platform');
    if (by === 'availability') return this.#open(availability, 'availability');
    return this.#unwrapWithAny();
  }

  /**
   * The set key for wrapping it anew, also while the set is denied, as long as one of its ways is
   * open. Throws ERR_SET_KEY_UNAVAILABLE naming each that was tried. Whoever calls wipes it.
   */
  async obtainForRewrap(): Promise<SetKeyHandle> {
    const { set, record, isDenied, mayUseAvailability } = this.#options;
    const { keys, platform, availability } = record();
    if (platform !== null) return this.#open(platform, 'platform');
    const tried: string[] = [];
    for (const key of keys) {
      if (isDenied(key)) {
        tried.push(`${key.kid}: denied`);
        continue;
      }
      try {
        return await this.#unwrap(key);
      } catch (error) {
        tried.push(`${key.kid}: ${messageOf(error)}`);
      }
    }
    if (mayUseAvailability()) return this.#open(availability, 'availability');
    tried.push(
      availability === null
        ? 'no availability key'
        : 'availability key: only while every customer key gives no answer and none is denied',
    );
    throw new KeyholdError(
      codes.ERR_SET_KEY_UNAVAILABLE,
      `obtaining the key of encryption set ${set.name}: ${tried.join('; ')}`,
      { fields: { set: set.name, tried } },
    );
  }

  #open(seal: HostSeal | null, purpose: SetKeyPurpose): SetKeyHandle {
    const { set, record, custody, platform, emit } = this.#options;
    if (seal === null) throw new Error(`set ${set.name} has no seal of kind ${purpose}`);
    const key = openHostSeal(custody, {
      platform: platform(),
      seal,
      purpose,
      set,
      generation: record().setKeyGeneration,
    });
    emit('set-key', { set, action: 'opened', cause: purpose });
    return key;
  }

  /**
   * The next customer key is asked when the one before did not answer; when it was denied, only in
   * a set that a single denial does not revoke.
   */
  async #unwrapWithAny(): Promise<SetKeyHandle> {
    const { record, isDenied, onUnwrapDenied } = this.#options;
    const { keys, revokeWhen } = record();
    let lastError: unknown = new Error('every customer key is denied');
    for (const key of keys) {
      if (key.role !== 'current' || (revokeWhen === 'all' && isDenied(key))) continue;
      try {
        return await this.#unwrap(key);
      } catch (error) {
        lastError = error;
        const denied = codeOf(error) === 'ERR_KEY_UNWRAP_DENIED';
        if (denied) onUnwrapDenied();
        const goesOn =
          codeOf(error) === 'ERR_KEY_UNWRAP_NO_ANSWER' || (denied && revokeWhen === 'all');
        if (!goesOn) break;
      }
    }
    throw lastError;
  }

  async #unwrap({ kid, wrappedSetKey }: SetKeyRecord): Promise<SetKeyHandle> {
    const { set, record, vault, timeoutMs, emit } = this.#options;
    const { identity } = record();
    const wrapped = new Uint8Array(Buffer.from(wrappedSetKey, 'base64'));
    try {
      const { key, requestId } = await vault.unwrapSetKey({ identity, kid, wrapped, timeoutMs });
      const request = requestId === undefined ? {} : { requestId };
      emit('set-key', { set, action: 'unwrapped', kid, ...request });
      return key;
    } catch (error) {
      const requestId = verdictOf(error)?.requestId;
      const request = requestId === undefined ? {} : { requestId };
      emit('set-key', { set, action: 'unwrap-failed', kid, cause: messageOf(error), ...request });
      throw error;
    }
  }
}

/** Seals the set key for the host's own use. */
export function makeHostSeal(
  custody: KeyCustody,
  request: {
    platform: PlatformKeyHandle;
    key: SetKeyHandle;
    purpose: SetKeyPurpose;
    setId: string;
    generation: number;
    nowMs: number;
  },
): HostSeal {
  const { platform, key, purpose, setId, generation: setKeyGeneration } = request;
  const aad = encodeSetKeyAad({ purpose, setId, setKeyGeneration });
  const { nonce, ciphertext, tag } = custody.sealSetKey(platform, key, aad);
  return {
    keyId: platform.id,
    nonce: base64(nonce),
    ciphertext: base64(ciphertext),
    tag: base64(tag),
    since: new Date(request.nowMs).toISOString(),
  };
}

function openHostSeal(
  custody: KeyCustody,
  request: {
    platform: PlatformKeyHandle;
    seal: HostSeal;
    purpose: SetKeyPurpose;
    set: SetIdentity;
    generation: number;
  },
): SetKeyHandle {
  const { platform, seal, purpose, set, generation: setKeyGeneration } = request;
  if (platform.id !== seal.keyId) {
    throw new KeyholdError(
      codes.ERR_PLATFORM_KEY_OTHER,
      `opening the key of encryption set ${set.name}: it was sealed by platform key ${seal.keyId}, ` +
        `this host has ${platform.id}`,
      { fields: { set: set.name, expected: seal.keyId, actual: platform.id } },
    );
  }
  const aad = encodeSetKeyAad({ purpose, setId: set.id, setKeyGeneration });
  const sealed = {
    nonce: bytes(seal.nonce),
    ciphertext: bytes(seal.ciphertext),
    tag: bytes(seal.tag),
  };
  return custody.openSetKey(platform, sealed, aad);
}

/** The verdict that the vault's errors carry. */
function verdictOf(error: unknown): Verdict | undefined {
  const fields = (error as { fields?: { verdict?: Verdict } } | null)?.fields;
  return fields?.verdict;
}

function base64(value: Uint8Array): string {
  return Buffer.from(value).toString('base64');
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'));
}

// SPDX-License-Identifier: Apache-2.0
import type { AccessToken, GetTokenOptions, TokenCredential } from '@azure/identity';
import type { Clock } from '../base/clock.js';
import { TokenFailure } from './describe.js';
import { LimitExceeded, withLimit } from './limit.js';

/** A token is renewed this long before it expires, or at three quarters of a shorter life. */
const RENEW_EARLY_MS = 5 * 60_000;

/** A token with less than this left is not handed out: it would expire on its way. */
const EXPIRY_MARGIN_MS = 5_000;

/** Time between attempts to renew a token that still holds. */
const RENEW_RETRY_MS = 30_000;

/** How long a call that has a token that still holds waits for the renewed one. */
const RENEW_WAIT_MS = 1_000;

/** After a failure nobody asks the authority again for this long, however many keys are probed. */
const FAILURE_HOLD_MS = 1_000;

/** A token younger than this is not replaced after a 401: its age is not the cause. */
const FRESH_TOKEN_MS = 30_000;

/** Pairs of tenant and scope that one identity has tokens for; one or two in practice. */
const SLOTS_MAX = 16;

/**
 * What the SDK is told instead of the true expiry. It has a cache of its own that renews in the
 * background; a renewal that fails there until the token expires rejects unhandled and ends the
 * process, and on the way swallows the credential's errors. A token that has always expired makes
 * the SDK ask here, and wait for the answer, before each request. So there is one cache: this one.
 */
const EXPIRED_FOR_SDK = 0;

interface Slot {
  token: AccessToken | undefined;
  obtainedBootMs: number;
  renewal: { promise: Promise<AccessToken>; startedBootMs: number } | undefined;
  nextRenewalBootMs: number;
  failure: { error: TokenFailure; untilBootMs: number } | undefined;
}

export interface CachingCredentialOptions {
  /** A new credential object for every token that is fetched. */
  readonly create: () => Promise<TokenCredential>;
  readonly clock: Clock;
  /** Outer limit of one fetch: the SDK ends a hanging token endpoint by nothing. */
  readonly limitMs: number;
  /** Told about each failed fetch, also those that a token in hand hides. */
  readonly onFailure?: (error: TokenFailure) => void;
}

/** The tokens of one identity: cached, renewed early, fetched by one call at a time. */
export class CachingCredential implements TokenCredential {
  readonly #options: CachingCredentialOptions;
  readonly #slots = new Map<string, Slot>();

  constructor(options: CachingCredentialOptions) {
    this.#options = options;
  }

  /** Rejects with TokenFailure only. */
  async getToken(scopes: string | string[], options: GetTokenOptions = {}): Promise<AccessToken> {
    const list = Array.isArray(scopes) ? scopes : [scopes];
    const slot = this.#slot(`${options.tenantId ?? ''} ${list.join(' ')}`);
    const token = await this.#tokenOf(slot, list, options);
    return { token: token.token, expiresOnTimestamp: EXPIRED_FOR_SDK, tokenType: 'Bearer' };
  }

  /**
   * Called when a vault refused a token with 401. True when another attempt will carry another
   * token; false when the token was new already, so that a vault which always says 401 does not
   * cost a token each time.
   */
  renewAfterRejection(): boolean {
    const nowBootMs = this.#options.clock.bootMs();
    let renewed = false;
    for (const slot of this.#slots.values()) {
      if (slot.token === undefined || nowBootMs - slot.obtainedBootMs < FRESH_TOKEN_MS) continue;
      slot.token = undefined;
      renewed = true;
    }
    return renewed;
  }

  /** Forgets every token; the next call fetches a new one with a new credential object. */
  drop(): void {
    this.#slots.clear();
  }

  #slot(key: string): Slot {
    const existing = this.#slots.get(key);
    if (existing !== undefined) return existing;
    // The vault's challenge names tenant and scope: a hostile one must not fill memory.
    if (this.#slots.size >= SLOTS_MAX) this.#slots.clear();
    const slot: Slot = {
      token: undefined,
      obtainedBootMs: 0,
      renewal: undefined,
      nextRenewalBootMs: 0,
      failure: undefined,
    };
    this.#slots.set(key, slot);
    return slot;
  }

  async #tokenOf(slot: Slot, scopes: string[], options: GetTokenOptions): Promise<AccessToken> {
    const { clock } = this.#options;
    // A claims challenge says that the token in hand is not acceptable whatever its age.
    if (options.claims !== undefined) return this.#fetch(slot, scopes, options);
    const held = slot.token;
    if (held === undefined || held.expiresOnTimestamp - EXPIRY_MARGIN_MS <= clock.nowMs()) {
      if (slot.failure !== undefined && clock.bootMs() < slot.failure.untilBootMs) {
        throw slot.failure.error;
      }
      return this.#renewal(slot, scopes, options).promise;
    }
    if (clock.nowMs() < renewAtMs(held, slot, clock)) return held;
    if (slot.renewal === undefined && clock.bootMs() < slot.nextRenewalBootMs) return held;
    return this.#renewInForeground(slot, held, this.#renewal(slot, scopes, options));
  }

  /** Waits a little for a better token, then makes do with the one in hand. */
  async #renewInForeground(
    slot: Slot,
    held: AccessToken,
    renewal: NonNullable<Slot['renewal']>,
  ): Promise<AccessToken> {
    const { clock } = this.#options;
    slot.nextRenewalBootMs = clock.bootMs() + RENEW_RETRY_MS;
    const limitMs = renewal.startedBootMs + RENEW_WAIT_MS - clock.bootMs();
    try {
      return await withLimit(renewal.promise, { clock, operation: 'renewing a token', limitMs });
    } catch (error) {
      if (error instanceof TokenFailure || error instanceof LimitExceeded) return held;
      throw error;
    }
  }

  #renewal(slot: Slot, scopes: string[], options: GetTokenOptions): NonNullable<Slot['renewal']> {
    if (slot.renewal !== undefined) return slot.renewal;
    const promise = this.#fetch(slot, scopes, options).finally(() => {
      slot.renewal = undefined;
    });
    // Whoever waits sees the rejection; when nobody waits any more it must not end the process.
    promise.catch(() => undefined);
    slot.renewal = { promise, startedBootMs: this.#options.clock.bootMs() };
    return slot.renewal;
  }

  async #fetch(slot: Slot, scopes: string[], options: GetTokenOptions): Promise<AccessToken> {
    const { clock, create, limitMs, onFailure } = this.#options;
    try {
      const fetching = async (): Promise<AccessToken> => {
        const credential = await create();
        const token = await credential.getToken(scopes, {
          enableCae: options.enableCae ?? false,
          ...(options.tenantId === undefined ? {} : { tenantId: options.tenantId }),
          ...(options.claims === undefined ? {} : { claims: options.claims }),
        });
        if (token === null) throw new Error('the credential returned no token');
        return token;
      };
      const operation = 'fetching a token';
      const token = await withLimit(fetching(), { clock, operation, limitMs });
      slot.token = token;
      slot.obtainedBootMs = clock.bootMs();
      slot.failure = undefined;
      return token;
    } catch (error) {
      const failure = new TokenFailure(error);
      slot.failure = { error: failure, untilBootMs: clock.bootMs() + FAILURE_HOLD_MS };
      onFailure?.(failure);
      throw failure;
    }
  }
}

function renewAtMs(token: AccessToken, slot: Slot, clock: Clock): number {
  const ageMs = clock.bootMs() - slot.obtainedBootMs;
  const lifeMs = token.expiresOnTimestamp - clock.nowMs() + ageMs;
  const early = token.expiresOnTimestamp - Math.min(RENEW_EARLY_MS, lifeMs / 4);
  return Math.min(early, token.refreshAfterTimestamp ?? Number.POSITIVE_INFINITY);
}

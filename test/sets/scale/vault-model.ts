// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../../../src/base/errors.js';
import type { ClosableVaultAccess } from '../../../src/vault/access.js';
import type { CustomerKey, SetKeyHandle, Verdict } from '../../../src/vault/types.js';
import type { VirtualClock } from './virtual-clock.js';

/** A kind of key with its published limit: calls in any 10 s, reads included. */
export interface KeyKind {
  readonly name: string;
  readonly sizeBits: number;
  readonly hsm: boolean;
  readonly callsPer10s: number;
}

export const KEY_KINDS: readonly KeyKind[] = [
  { name: 'RSA 2048', sizeBits: 2048, hsm: false, callsPer10s: 4000 },
  { name: 'RSA 3072', sizeBits: 3072, hsm: false, callsPer10s: 1000 },
  { name: 'RSA 4096 HSM', sizeBits: 4096, hsm: true, callsPer10s: 250 },
];

const WINDOW_MS = 10_000;

/** Of 100 answers, one takes about a second; the others around 30 ms. */
const USUAL_MS = 15;
const SPREAD_MS = 30;
const SLOW_SHARE = 0.01;
const SLOW_MS = 1000;

/** How long a call takes to fail in an outage in which connections are refused. */
const REFUSED_MS = 5;

export type Call = 'probe' | 'unwrap' | 'read';

export interface Sent {
  readonly call: Call;
  readonly kid: string;
  readonly atBootMs: number;
  readonly throttled: boolean;
}

export interface VaultModelOptions {
  readonly clock: VirtualClock;
  readonly kind: KeyKind;
  readonly fraction: () => number;
  readonly adopt: (wrapped: Uint8Array) => SetKeyHandle;
}

type Answer = 'ok' | 'throttled' | 'denied' | 'none';

/**
 * One vault: its published limit as a sliding window, its time to answer, outages and denials.
 * Calls of other users of the vault take their part of each window.
 */
export class VaultModel implements ClosableVaultAccess {
  readonly #options: VaultModelOptions;
  readonly sent: Sent[] = [];
  /** Set by scenarios, and read at the moment of each call. */
  outage: 'none' | 'refuses' | 'hangs' = 'none';
  denied: 'none' | 'certain' | 'propagating' = 'none';
  retryAfterMs: number | undefined;
  /** The part of the limit that others use. */
  others = 0;
  #window: number[] = [];
  #version = 1;

  constructor(options: VaultModelOptions) {
    this.#options = options;
  }

  reconfigure(): void {
    throw new Error('the model has no configuration');
  }

  close(): void {
    this.outage = 'refuses';
  }

  /** Every key gets another version. */
  rotate(): void {
    this.#version += 1;
  }

  async probe(request: { kid: string; timeoutMs: number }): Promise<Verdict> {
    const startedBootMs = this.#options.clock.bootMs();
    const answer = await this.#call('probe', request.kid, request.timeoutMs);
    return this.#verdict(answer, startedBootMs);
  }

  async unwrapSetKey(request: {
    kid: string;
    wrapped: Uint8Array;
    timeoutMs: number;
  }): Promise<{ key: SetKeyHandle; requestId: string | undefined }> {
    const startedBootMs = this.#options.clock.bootMs();
    const answer = await this.#call('unwrap', request.kid, request.timeoutMs);
    if (answer === 'ok') return { key: this.#options.adopt(request.wrapped), requestId: 'r' };
    const verdict = this.#verdict(answer, startedBootMs);
    const code = answer === 'denied' ? 'ERR_KEY_UNWRAP_DENIED' : 'ERR_KEY_UNWRAP_NO_ANSWER';
    throw new KeyholdError(code, `unwrapping: ${verdict.message}`, { fields: { verdict } });
  }

  async fetchCustomerKey({ url }: { url: string }): Promise<CustomerKey> {
    const startedBootMs = this.#options.clock.bootMs();
    const answer = await this.#call('read', url, 5000);
    if (answer !== 'ok') {
      const verdict = this.#verdict(answer, startedBootMs);
      throw new KeyholdError('ERR_KEY_NO_ANSWER', 'reading a key', { fields: { verdict } });
    }
    const [, , host, , name = '', asked] = url.split('/');
    const version = asked ?? `v${this.#version}`;
    const { sizeBits, hsm } = this.#options.kind;
    // Odd and of full length, which is all that wrapping a canary asks of a modulus.
    const modulus = new Uint8Array(sizeBits / 8).fill(0xff);
    return {
      kid: `https://${host}/keys/${name}/${version}`,
      name,
      version,
      modulus,
      exponent: new Uint8Array([1, 0, 1]),
      sizeBits,
      hsm,
      recoveryLevel: 'Recoverable',
    };
  }

  async #call(call: Call, kid: string, timeoutMs: number): Promise<Answer> {
    const { clock } = this.#options;
    const atBootMs = clock.bootMs();
    if (this.outage !== 'none') {
      this.sent.push({ call, kid, atBootMs, throttled: false });
      await clock.wait(this.outage === 'hangs' ? timeoutMs : REFUSED_MS);
      return 'none';
    }
    const throttled = !this.#admit(atBootMs);
    this.sent.push({ call, kid, atBootMs, throttled });
    await clock.wait(this.#latencyMs());
    if (throttled) return 'throttled';
    return this.denied === 'none' ? 'ok' : 'denied';
  }

  /** Whether the window has room for one more. What is throttled does not count. */
  #admit(nowBootMs: number): boolean {
    const firstInside = this.#window.findIndex((at) => at > nowBootMs - WINDOW_MS);
    this.#window = firstInside < 0 ? [] : this.#window.slice(firstInside);
    const room = this.#options.kind.callsPer10s * (1 - this.others);
    if (this.#window.length + 1 > room) return false;
    this.#window.push(nowBootMs);
    return true;
  }

  #latencyMs(): number {
    const { fraction } = this.#options;
    const slow = fraction() < SLOW_SHARE;
    return USUAL_MS + fraction() * (slow ? SLOW_MS : SPREAD_MS);
  }

  #verdict(answer: Answer, startedBootMs: number): Verdict {
    const durationMs = this.#options.clock.bootMs() - startedBootMs;
    const times = { startedBootMs, durationMs };
    switch (answer) {
      case 'ok':
        return { kind: 'PROOF', class: 'proof', message: 'ok', httpStatus: 200, ...times };
      case 'denied': {
        const certain = this.denied === 'certain';
        return {
          kind: 'DENIED',
          class: certain ? 'denied-certain' : 'denied-propagating',
          reason: certain ? 'key-disabled' : 'access-denied',
          message: 'refused',
          httpStatus: 403,
          ...times,
        };
      }
      case 'throttled': {
        const { retryAfterMs } = this;
        const retry = retryAfterMs === undefined ? {} : { retryAfterMs };
        const facts = { kind: 'NO-ANSWER', class: 'no-answer', message: 'throttled' } as const;
        return { ...facts, httpStatus: 429, ...retry, ...times };
      }
      case 'none':
        return { kind: 'NO-ANSWER', class: 'no-answer', message: 'no answer', ...times };
    }
  }
}

/** The most calls in any 10 s. */
export function peakOf(sent: readonly Sent[]): number {
  let peak = 0;
  let first = 0;
  for (const [last, { atBootMs }] of sent.entries()) {
    while ((sent[first]?.atBootMs ?? 0) <= atBootMs - WINDOW_MS) first += 1;
    peak = Math.max(peak, last - first + 1);
  }
  return peak;
}

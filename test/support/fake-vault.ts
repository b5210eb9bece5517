// SPDX-License-Identifier: Apache-2.0
import { privateDecrypt } from 'node:crypto';
import type { Clock } from '../../src/base/clock.js';
import { KeyholdError } from '../../src/base/errors.js';
import '../../src/vault/errors.js';
import type {
  Canary,
  CustomerKey,
  SetKeyHandle,
  VaultAccess,
  Verdict,
  VerdictClass,
} from '../../src/vault/types.js';
import type { FakeCustody } from './fake-custody.js';
import { OAEP, rsaPair } from './fake-rsa.js';

/** What a key of the fake vault answers. */
export type Behaviour =
  | { readonly kind: 'proof' }
  | { readonly kind: 'denied'; readonly class: VerdictClass; readonly code: string }
  | { readonly kind: 'silent'; readonly retryAfterMs?: number }
  | { readonly kind: 'identity-denied' }
  | { readonly kind: 'network-denied' }
  | { readonly kind: 'integrity' };

export const PROOF: Behaviour = { kind: 'proof' };
export const SILENT: Behaviour = { kind: 'silent' };
export const DISABLED: Behaviour = { kind: 'denied', class: 'denied-certain', code: 'KeyDisabled' };
export const DELETED: Behaviour = { kind: 'denied', class: 'denied-certain', code: 'KeyNotFound' };
export const NO_ROLE: Behaviour = {
  kind: 'denied',
  class: 'denied-propagating',
  code: 'ForbiddenByRbac',
};

const REASONS = {
  KeyDisabled: 'key-disabled',
  KeyNotFound: 'key-deleted',
  ForbiddenByRbac: 'access-denied',
} as const;

export interface ProbeCall {
  readonly kid: string;
  readonly fresh: boolean;
  readonly startedBootMs: number;
  readonly canary: Canary;
}

/**
 * A vault that answers after `latencyMs` of the fake clock, what its key's behaviour says by then.
 */
export class FakeVault implements VaultAccess {
  readonly #clock: Clock;
  readonly #custody: FakeCustody;
  readonly #behaviours = new Map<string, Behaviour[]>();
  readonly #newest = new Map<string, string>();
  readonly #expiries = new Map<string, number>();
  #inFlight = new Map<string, number>();
  readonly probes: ProbeCall[] = [];
  readonly unwraps: string[] = [];
  /** The most probes of one key that were ever under way at once; likewise unwraps. */
  probesInFlightMax = 0;
  unwrapsInFlightMax = 0;
  latencyMs = 0;
  #requests = 0;

  constructor(clock: Clock, custody: FakeCustody) {
    this.#clock = clock;
    this.#custody = custody;
  }

  /** From now on; with several, one for each call and the last for ever. */
  behave(kid: string, ...behaviours: Behaviour[]): void {
    this.#behaviours.set(kid, behaviours);
  }

  /** From now on a URL without version leads to this version of the key. */
  rotate(keyUrl: string, version: string): string {
    this.#newest.set(keyUrl, version);
    return `${keyUrl}/${version}`;
  }

  expire(kid: string, atMs: number): void {
    this.#expiries.set(kid, atMs);
  }

  /** The process that asked is gone: what it still had under way counts no more, and ends never. */
  hangUp(): void {
    this.#inFlight = new Map();
  }

  /** What a wrapped key is, whatever the vault would say to it: for judges only. */
  reveal(wrapped: Uint8Array): Buffer {
    return this.#decrypt(wrapped);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port is asynchronous
  async fetchCustomerKey({ url }: { url: string }): Promise<CustomerKey> {
    const newest = this.#newest.get(url);
    const kid = newest === undefined ? kidOf(url) : `${url}/${newest}`;
    const expiresOnMs = this.#expiries.get(kid);
    const jwk = rsaPair().publicKey.export({ format: 'jwk' });
    return {
      kid,
      name: kid.split('/').at(-2) ?? '',
      version: kid.split('/').at(-1) ?? '',
      modulus: Buffer.from(jwk.n ?? '', 'base64url'),
      exponent: Buffer.from(jwk.e ?? '', 'base64url'),
      sizeBits: 2048,
      recoveryLevel: 'Recoverable',
      ...(expiresOnMs === undefined ? {} : { expiresOnMs }),
    };
  }

  async probe(request: {
    kid: string;
    canary: Canary;
    fresh: boolean;
    timeoutMs: number;
  }): Promise<Verdict> {
    const { kid, canary, fresh, timeoutMs } = request;
    const startedBootMs = this.#clock.bootMs();
    this.probes.push({ kid, fresh, startedBootMs, canary });
    const leave = this.#enter(`probe ${kid}`, (count) => {
      this.probesInFlightMax = Math.max(this.probesInFlightMax, count);
    });
    const behaviour = await this.#answer(kid, timeoutMs);
    leave();
    const matched =
      behaviour.kind === 'proof' && this.#decrypt(canary.wrapped).equals(canary.plaintext);
    const effective =
      behaviour.kind === 'proof' && !matched ? { kind: 'integrity' as const } : behaviour;
    return this.#verdict(effective, startedBootMs);
  }

  async unwrapSetKey(request: {
    kid: string;
    wrapped: Uint8Array;
    timeoutMs: number;
  }): Promise<{ key: SetKeyHandle; requestId: string | undefined }> {
    const { kid, wrapped, timeoutMs } = request;
    const startedBootMs = this.#clock.bootMs();
    this.unwraps.push(kid);
    const leave = this.#enter(`unwrap ${kid}`, (count) => {
      this.unwrapsInFlightMax = Math.max(this.unwrapsInFlightMax, count);
    });
    const behaviour = await this.#answer(kid, timeoutMs);
    leave();
    const verdict = this.#verdict(behaviour, startedBootMs);
    if (verdict.kind === 'PROOF') {
      return { key: this.#custody.adopt(this.#decrypt(wrapped)), requestId: verdict.requestId };
    }
    const code = verdict.kind === 'DENIED' ? 'ERR_KEY_UNWRAP_DENIED' : 'ERR_KEY_UNWRAP_NO_ANSWER';
    throw new KeyholdError(code, `unwrapping: ${verdict.message}`, { fields: { verdict } });
  }

  async #answer(kid: string, timeoutMs: number): Promise<Behaviour> {
    const asking = this.#inFlight;
    const hangs = this.#peek(kid).kind === 'silent' && this.latencyMs > 0;
    const waitMs = hangs ? timeoutMs : this.latencyMs;
    if (waitMs > 0) await new Promise<void>((done) => this.#clock.setTimer(waitMs, done));
    if (asking !== this.#inFlight) return new Promise(() => undefined);
    const behaviours = this.#behaviours.get(kid);
    const behaviour = this.#peek(kid);
    if (behaviours !== undefined && behaviours.length > 1) behaviours.shift();
    return behaviour;
  }

  #peek(kid: string): Behaviour {
    return this.#behaviours.get(kid)?.[0] ?? PROOF;
  }

  #decrypt(wrapped: Uint8Array): Buffer {
    const id = Buffer.from(wrapped).toString('base64');
    const plaintext =
      decrypted.get(id) ?? privateDecrypt({ key: rsaPair().privateKey, ...OAEP }, wrapped);
    decrypted.set(id, plaintext);
    return Buffer.from(plaintext);
  }

  #enter(id: string, record: (count: number) => void): () => void {
    const inFlight = this.#inFlight;
    const count = (inFlight.get(id) ?? 0) + 1;
    inFlight.set(id, count);
    record(count);
    return () => void inFlight.set(id, (inFlight.get(id) ?? 1) - 1);
  }

  #verdict(behaviour: Behaviour, startedBootMs: number): Verdict {
    this.#requests += 1;
    const requestId = `request-${String(this.#requests)}`;
    const durationMs = this.#clock.bootMs() - startedBootMs;
    const times = { startedBootMs, durationMs };
    switch (behaviour.kind) {
      case 'proof':
        return {
          kind: 'PROOF',
          class: 'proof',
          message: 'ok',
          requestId,
          httpStatus: 200,
          ...times,
        };
      case 'denied': {
        const { class: verdictClass, code } = behaviour;
        const reason = REASONS[code as keyof typeof REASONS];
        const message = `refused: ${code}`;
        const facts = { kind: 'DENIED', class: verdictClass, reason, code, message } as const;
        return { ...facts, requestId, httpStatus: 403, ...times };
      }
      case 'integrity': {
        const message = 'another plaintext';
        const code = 'CanaryMismatch';
        const facts = { kind: 'DENIED', class: 'integrity', reason: 'integrity', message } as const;
        return { ...facts, code, requestId, httpStatus: 200, ...times };
      }
      case 'identity-denied': {
        const message = 'the secret has expired';
        const code = 'AADSTS7000222';
        return { kind: 'NO-ANSWER', class: 'denied-identity', code, message, ...times };
      }
      case 'network-denied': {
        const message = 'client address is not authorized';
        const code = 'ForbiddenByFirewall';
        return { kind: 'NO-ANSWER', class: 'denied-network', code, message, ...times };
      }
      case 'silent': {
        const retry =
          behaviour.retryAfterMs === undefined ? {} : { retryAfterMs: behaviour.retryAfterMs };
        const message = 'no answer in time';
        return {
          kind: 'NO-ANSWER',
          class: 'no-answer',
          code: 'TIMEOUT',
          message,
          ...retry,
          ...times,
        };
      }
    }
  }
}

const decrypted = new Map<string, Buffer>();

/** The versioned id of a key URL; a URL without version leads to version `v1`. */
export function kidOf(url: string): string {
  return /\/keys\/[^/]+\/[^/]+$/.test(url) ? url : `${url}/v1`;
}

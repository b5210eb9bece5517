// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { WINDOW_UNITS } from './cost.js';
import { codes } from './errors.js';
import { TokenBucket } from './token-bucket.js';

/*
 * The shares of one vault:
 *
 *   4000 units in 10 s ─┬─ probes  55 %   only probes; what they leave overflows to bulk
 *    (what a vault      ├─ bulk    20 %   unwraps, reads, rewraps; probes when they need more
 *     answers)          └─ others  25 %   not ours, but for confirmations of denials
 *
 * The share of probes carries 124 of the dearest keys (RSA 4096 in an HSM) every 10 s. A quarter is
 * left to the vault's other users (a second host, the customer's own applications), whose calls are
 * counted with ours. It is lent to confirmations when many keys are revoked at once, since every
 * moment that they waited would be one more in which keys stand in memory; bulk pays it back. So
 * this daemon alone never exceeds what the vault answers, whatever happens to its keys.
 */
const PROBE_SHARE = 0.55;
const BULK_SHARE = 0.2;

/** Calls that may wait: ten for each of a hundred sets. */
export const BULK_QUEUE_MAX = 1000;

/** Probes that come meanwhile put bulk off; it does not look more often than this. */
const BULK_LOOK_MS_MIN = 20;

/** After this long whoever asked has given up, or should hear of it. */
export const BULK_WAIT_MS_MAX = 120_000;

/** What confirmations may take from bulk in advance: the quarter that is left to others. */
const BULK_DEBT_UNITS_MAX = WINDOW_UNITS * (1 - PROBE_SHARE - BULK_SHARE);

/** Pauses after 429 without Retry-After, as Key Vault's guide advises: 1, 2, 4, 8, 16 s. */
const HOLD_MS_MIN = 1000;
const HOLD_DOUBLINGS_MAX = 4;

/** Hosts that a vault throttled together must not come back together. */
const HOLD_JITTER = 0.2;

export interface ProbeWish {
  /** The confirmation of a certain denial. */
  readonly urgent: boolean;
  /** The time at which it is sent whatever the budget says. */
  readonly latestBootMs?: number | undefined;
}

interface Waiter {
  readonly units: number;
  readonly urgent: boolean;
  readonly admit: () => void;
  readonly refuse: (error: Error) => void;
}

/** The budget of one vault. */
export class VaultMeter {
  readonly #vault: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #probeBucket: TokenBucket;
  readonly #bulkBucket: TokenBucket;
  readonly #probes: Waiter[] = [];
  readonly #bulk: Waiter[] = [];
  #timer: Timer | undefined;
  #holdUntilBootMs = 0;
  #throttlesInRow = 0;
  #throttled = 0;

  constructor(options: { vault: string; clock: Clock; random: Random }) {
    const { vault, clock, random } = options;
    this.#vault = vault;
    this.#clock = clock;
    this.#random = random;
    const nowBootMs = clock.bootMs();
    const share = (part: number): TokenBucket =>
      new TokenBucket({ unitsPerWindow: WINDOW_UNITS * part, nowBootMs });
    this.#probeBucket = share(PROBE_SHARE);
    this.#bulkBucket = share(BULK_SHARE);
  }

  /** Nothing waits and nothing would be forgotten with it but the count of throttled calls. */
  get idle(): boolean {
    const { bulkTokens, probeTokens } = this.sample();
    const full =
      bulkTokens >= this.#bulkBucket.capacity && probeTokens >= this.#probeBucket.capacity;
    return full && this.#held() === 0 && this.#probes.length + this.#bulk.length === 0;
  }

  sample(): { probeTokens: number; bulkTokens: number; throttled: number } {
    this.#fill();
    return {
      probeTokens: this.#probeBucket.tokens,
      bulkTokens: this.#bulkBucket.tokens,
      throttled: this.#throttled,
    };
  }

  takeProbe(units: number, wish: ProbeWish): Promise<void> {
    const mayGo = wish.urgent || this.#probes.length === 0;
    if (mayGo && this.#chargeProbe(units, wish.urgent)) return Promise.resolve();
    return this.#waitProbe(units, wish);
  }

  async takeBulk(units: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#mayBulk(units) && this.#bulk.length === 0) {
      this.#bulkBucket.charge(units);
      return;
    }
    if (this.#bulk.length >= BULK_QUEUE_MAX) {
      throw new KeyholdError(
        codes.ERR_VAULT_BUDGET_FULL,
        `calling ${this.#vault}: ${this.#bulk.length} calls wait for its budget, ` +
          `expected fewer than ${BULK_QUEUE_MAX}`,
        { fields: { vault: this.#vault, expected: BULK_QUEUE_MAX, actual: this.#bulk.length } },
      );
    }
    await this.#waitBulk(units, signal);
  }

  correct(units: number): void {
    this.#bulkBucket.charge(units);
    this.#serve();
  }

  throttled(retryAfterMs: number | undefined): void {
    this.#throttled += 1;
    const nowBootMs = this.#clock.bootMs();
    // Calls that were under way together are throttled together; that counts once.
    if (this.#held() === 0) this.#throttlesInRow += 1;
    const doublings = Math.min(this.#throttlesInRow - 1, HOLD_DOUBLINGS_MAX);
    const pauseMs = retryAfterMs ?? HOLD_MS_MIN * 2 ** doublings;
    const jittered = pauseMs * (1 + HOLD_JITTER * this.#random.fraction());
    this.#holdUntilBootMs = Math.max(this.#holdUntilBootMs, nowBootMs + jittered);
    this.#fill();
    this.#bulkBucket.charge(Math.max(0, this.#bulkBucket.tokens));
    this.#arm();
  }

  answered(): void {
    if (this.#held() === 0) this.#throttlesInRow = 0;
  }

  close(): void {
    this.#timer?.cancel();
    for (const waiter of this.#probes.splice(0)) waiter.admit();
    const error = new KeyholdError(
      codes.ERR_VAULT_CLOSED,
      `calling ${this.#vault}: the daemon stops`,
    );
    for (const waiter of this.#bulk.splice(0)) waiter.refuse(error);
  }

  #waitProbe(units: number, { urgent, latestBootMs }: ProbeWish): Promise<void> {
    return new Promise((resolve, reject) => {
      const admit = (): void => {
        limit?.cancel();
        resolve();
      };
      const waiter: Waiter = { units, urgent, admit, refuse: reject };
      const sendAnyway = (): void => {
        remove(this.#probes, waiter);
        this.#bulkBucket.charge(units);
        resolve();
        this.#arm();
      };
      const limit =
        latestBootMs === undefined
          ? undefined
          : this.#clock.setTimer(latestBootMs - this.#clock.bootMs(), sendAnyway);
      const firstUsual = this.#probes.findIndex((other) => !other.urgent);
      if (urgent && firstUsual >= 0) this.#probes.splice(firstUsual, 0, waiter);
      else this.#probes.push(waiter);
      this.#arm();
    });
  }

  #waitBulk(units: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        limit.cancel();
        signal?.removeEventListener('abort', onAbort);
      };
      const refuse = (error: Error): void => {
        settle();
        reject(error);
      };
      const admit = (): void => {
        settle();
        resolve();
      };
      const waiter: Waiter = { units, urgent: false, admit, refuse };
      const leave = (error: Error): void => {
        remove(this.#bulk, waiter);
        refuse(error);
        this.#arm();
      };
      const onAbort = (): void => leave(signal?.reason as Error);
      const limit = this.#clock.setTimer(BULK_WAIT_MS_MAX, () => leave(this.#waitedTooLong()));
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#bulk.push(waiter);
      this.#arm();
    });
  }

  #waitedTooLong(): KeyholdError {
    return new KeyholdError(
      codes.ERR_VAULT_BUDGET_WAIT,
      `calling ${this.#vault}: waited ${BULK_WAIT_MS_MAX} ms for its budget`,
      { fields: { vault: this.#vault, limitMs: BULK_WAIT_MS_MAX } },
    );
  }

  /**
   * Takes from the probes' own share first, and the rest from what bulk has left. A confirmation
   * goes to bulk first, also into debt, so that it does not delay the probes of other keys.
   */
  #chargeProbe(units: number, urgent: boolean): boolean {
    this.#fill();
    const bulk = this.#bulkBucket.tokens;
    if (urgent && bulk + BULK_DEBT_UNITS_MAX >= units) {
      this.#bulkBucket.charge(units);
      return true;
    }
    const own = Math.max(0, this.#probeBucket.tokens);
    const rest = Math.max(0, units - own);
    if (rest > Math.max(0, bulk)) return false;
    this.#probeBucket.charge(units - rest);
    this.#bulkBucket.charge(rest);
    return true;
  }

  #fill(): void {
    const nowBootMs = this.#clock.bootMs();
    this.#bulkBucket.fill(nowBootMs);
    this.#bulkBucket.give(this.#probeBucket.fill(nowBootMs));
  }

  #mayBulk(units: number): boolean {
    if (this.#probes.length > 0 || this.#held() > 0) return false;
    this.#fill();
    return this.#bulkBucket.tokens >= units;
  }

  /** Milliseconds for which bulk is still on hold. */
  #held(): number {
    return Math.max(0, this.#holdUntilBootMs - this.#clock.bootMs());
  }

  #serve(): void {
    for (let next = this.#probes[0]; next !== undefined; next = this.#probes[0]) {
      if (!this.#chargeProbe(next.units, next.urgent)) break;
      this.#probes.shift();
      next.admit();
    }
    for (let next = this.#bulk[0]; next !== undefined; next = this.#bulk[0]) {
      if (!this.#mayBulk(next.units)) break;
      this.#bulkBucket.charge(next.units);
      this.#bulk.shift();
      next.admit();
    }
    this.#arm();
  }

  /** Milliseconds until bulk has `units` if no probe comes meanwhile. */
  #untilBulkMs(units: number): number {
    const [bulk, probe] = [this.#bulkBucket, this.#probeBucket];
    const beforeOverflow = probe.missing(probe.capacity);
    const withOverflowMs =
      (bulk.missing(units) + beforeOverflow) / (bulk.unitsPerMs + probe.unitsPerMs);
    return Math.min(bulk.untilMs(units), withOverflowMs);
  }

  /** Looks again when the first that waits can be served; later for none of them than necessary. */
  #arm(): void {
    this.#timer?.cancel();
    this.#fill();
    const [probe] = this.#probes;
    const [bulk] = this.#bulk;
    const waits: number[] = [];
    if (probe !== undefined) {
      const spare = Math.max(0, this.#bulkBucket.tokens);
      waits.push(this.#probeBucket.untilMs(probe.units - spare));
      const lent = probe.units - BULK_DEBT_UNITS_MAX;
      if (probe.urgent) waits.push(this.#bulkBucket.untilMs(lent));
    }
    if (bulk !== undefined && probe === undefined) {
      waits.push(Math.max(this.#held(), BULK_LOOK_MS_MIN, this.#untilBulkMs(bulk.units)));
    }
    if (waits.length === 0) return;
    // A millisecond more, so that rounding does not wake it just before its time.
    this.#timer = this.#clock.setTimer(Math.ceil(Math.min(...waits)) + 1, () => this.#serve());
  }
}

function remove(list: Waiter[], waiter: Waiter): void {
  const index = list.indexOf(waiter);
  if (index >= 0) list.splice(index, 1);
}

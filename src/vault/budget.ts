// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { codes } from './errors.js';
import { type ProbeWish, VaultMeter } from './vault-meter.js';

/** Vaults that are kept account of; beyond that, those that nothing waits for are forgotten. */
const VAULTS_MAX = 256;

export interface VaultBudgetSample {
  readonly vault: string;
  /** Units that may be used at once; below zero after denials were confirmed. */
  readonly probeTokens: number;
  readonly bulkTokens: number;
  /** Answers 429 since the start. */
  readonly throttled: number;
}

/**
 * What this daemon asks of each vault: a share that only probes may use, so that no amount of other
 * work ever makes a lease end, and a share for everything else (bulk), which probes may use too.
 */
export class VaultBudget {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #meters = new Map<string, VaultMeter>();
  #closed = false;

  constructor(options: { clock: Clock; random: Random }) {
    this.#clock = options.clock;
    this.#random = options.random;
  }

  /**
   * Resolves when the probe may be sent, at the latest at `latestBootMs`, which the lease says.
   * Never waits for bulk, never rejects: after `close` the vault itself says that it is closed.
   */
  async takeProbe(vault: string, units: number, wish: ProbeWish): Promise<void> {
    if (this.#closed) return;
    await this.#meter(vault).takeProbe(units, wish);
  }

  /**
   * Resolves when the call may be sent, in the order of asking. Rejects with ERR_VAULT_BUDGET_FULL
   * or ERR_VAULT_BUDGET_WAIT when too many wait or it waited too long, with ERR_VAULT_CLOSED, or
   * with the signal's reason; then nothing was charged.
   */
  async takeBulk(vault: string, units: number, signal?: AbortSignal): Promise<void> {
    if (this.#closed) {
      throw new KeyholdError(codes.ERR_VAULT_CLOSED, `calling ${vault}: the daemon stops`);
    }
    await this.#meter(vault).takeBulk(units, signal);
  }

  /** A call turned out dearer, or cheaper, by this much. */
  correct(vault: string, units: number): void {
    this.#meter(vault).correct(units);
  }

  /** The vault answered 429: bulk pauses for Retry-After or, without one, for longer each time. */
  throttled(vault: string, retryAfterMs: number | undefined): void {
    this.#meter(vault).throttled(retryAfterMs);
  }

  /** The vault answered anything else. */
  answered(vault: string): void {
    this.#meters.get(vault)?.answered();
  }

  samples(): VaultBudgetSample[] {
    return [...this.#meters].map(([vault, meter]) => ({ vault, ...meter.sample() }));
  }

  close(): void {
    this.#closed = true;
    for (const meter of this.#meters.values()) meter.close();
  }

  #meter(vault: string): VaultMeter {
    const held = this.#meters.get(vault);
    if (held !== undefined) return held;
    if (this.#meters.size >= VAULTS_MAX) {
      for (const [name, meter] of this.#meters) if (meter.idle) this.#meters.delete(name);
    }
    const meter = new VaultMeter({ vault, clock: this.#clock, random: this.#random });
    this.#meters.set(vault, meter);
    return meter;
  }
}

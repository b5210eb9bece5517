// SPDX-License-Identifier: Apache-2.0
import { WINDOW_MS } from './cost.js';

/** The part of a share that may be used at once; the rest of it comes evenly over the window. */
const BURST = 0.1;

/**
 * A bucket that lets no more than `unitsPerWindow` through in any window: what it holds at most and
 * what flows in during a window add up to that.
 */
export class TokenBucket {
  readonly capacity: number;
  readonly #unitsPerMs: number;
  #tokens: number;
  #filledBootMs: number;

  constructor(options: { unitsPerWindow: number; nowBootMs: number }) {
    this.capacity = options.unitsPerWindow * BURST;
    this.#unitsPerMs = (options.unitsPerWindow - this.capacity) / WINDOW_MS;
    this.#tokens = this.capacity;
    this.#filledBootMs = options.nowBootMs;
  }

  /** Below zero after a charge that did not wait. */
  tokens(nowBootMs: number): number {
    const grown = this.#tokens + (nowBootMs - this.#filledBootMs) * this.#unitsPerMs;
    this.#tokens = Math.min(this.capacity, grown);
    this.#filledBootMs = nowBootMs;
    return this.#tokens;
  }

  charge(units: number, nowBootMs: number): void {
    this.#tokens = this.tokens(nowBootMs) - units;
  }

  /** Milliseconds until `units` are there. */
  untilMs(units: number, nowBootMs: number): number {
    return Math.max(0, (units - this.tokens(nowBootMs)) / this.#unitsPerMs);
  }
}

// SPDX-License-Identifier: Apache-2.0
import { WINDOW_MS } from './cost.js';

/** The part of a share that may be used at once; the rest of it comes evenly over the window. */
const BURST = 0.1;

/**
 * A bucket that lets no more than `unitsPerWindow` through in any window, apart from what others
 * give it: what it holds at most and what flows in during a window add up to that.
 */
export class TokenBucket {
  readonly capacity: number;
  readonly unitsPerMs: number;
  #tokens: number;
  #filledBootMs: number;

  constructor(options: { unitsPerWindow: number; nowBootMs: number }) {
    this.capacity = options.unitsPerWindow * BURST;
    this.unitsPerMs = (options.unitsPerWindow - this.capacity) / WINDOW_MS;
    this.#tokens = this.capacity;
    this.#filledBootMs = options.nowBootMs;
  }

  /** Below zero after a charge that did not wait. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Lets time flow in; returns what the bucket could not hold. */
  fill(nowBootMs: number): number {
    const inflow = (nowBootMs - this.#filledBootMs) * this.unitsPerMs;
    this.#filledBootMs = nowBootMs;
    return this.give(inflow);
  }

  /** Returns what the bucket could not hold. */
  give(units: number): number {
    const grown = this.#tokens + units;
    this.#tokens = Math.min(this.capacity, grown);
    return grown - this.#tokens;
  }

  charge(units: number): void {
    this.#tokens -= units;
  }

  missing(units: number): number {
    return Math.max(0, units - this.#tokens);
  }

  /** Milliseconds until `units` are there, if nobody gives any. */
  untilMs(units: number): number {
    return this.missing(units) / this.unitsPerMs;
  }
}

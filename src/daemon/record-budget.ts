// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';

/**
 * Records that strangers can cause: 20 a minute show an attack, and a day of one is about 10 MB of
 * audit log.
 */
export const RECORDS_PER_WINDOW_MAX = 20;
export const WINDOW_MS = 60_000;

/** Keeps peers without rights from filling the audit log. What it leaves out is counted. */
export class RecordBudget {
  readonly #clock: Clock;
  #windowStartBootMs = Number.NEGATIVE_INFINITY;
  #taken = 0;
  #suppressed = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The number of records left out before this one; undefined when this one is left out too. */
  take(): number | undefined {
    const nowBootMs = this.#clock.bootMs();
    if (nowBootMs - this.#windowStartBootMs >= WINDOW_MS) {
      this.#windowStartBootMs = nowBootMs;
      this.#taken = 0;
    }
    if (this.#taken >= RECORDS_PER_WINDOW_MAX) {
      this.#suppressed += 1;
      return undefined;
    }
    this.#taken += 1;
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    return suppressed;
  }
}

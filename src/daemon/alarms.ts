// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';

export interface Alarm {
  readonly name: string;
  readonly message: string;
  /** ISO time. */
  readonly since: string;
}

/** What needs a person: shown by `status`, and the reason why /healthz is not well. */
export class Alarms {
  readonly #clock: Clock;
  readonly #standing = new Map<string, Alarm>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Raised again under the same name, an alarm keeps its first time. */
  raise(name: string, message: string): void {
    const since = this.#standing.get(name)?.since ?? new Date(this.#clock.nowMs()).toISOString();
    this.#standing.set(name, { name, message, since });
  }

  clear(name: string): void {
    this.#standing.delete(name);
  }

  list(): Alarm[] {
    return [...this.#standing.values()];
  }
}

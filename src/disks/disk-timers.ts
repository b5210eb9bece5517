// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import type { TimerName } from './control.js';

/** The timers of one disk, at most one of each name. */
export class DiskTimers {
  readonly #clock: Clock;
  readonly #fire: (name: TimerName) => void;
  readonly #running = new Map<TimerName, Timer>();

  constructor(clock: Clock, fire: (name: TimerName) => void) {
    this.#clock = clock;
    this.#fire = fire;
  }

  /** Starts anew one that runs already. */
  start(name: TimerName, delayMs: number): void {
    this.stop(name);
    const timer = this.#clock.setTimer(delayMs, () => {
      this.#running.delete(name);
      this.#fire(name);
    });
    this.#running.set(name, timer);
  }

  stop(name: TimerName): void {
    this.#running.get(name)?.cancel();
    this.#running.delete(name);
  }

  stopAll(): void {
    for (const name of [...this.#running.keys()]) this.stop(name);
  }
}

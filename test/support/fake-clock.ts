// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../../src/base/clock.js';

interface Pending {
  dueMs: number;
  order: number;
  fire: () => void;
}

/** A clock that moves only when a test says so. Boot time and wall time advance together. */
export class FakeClock implements Clock {
  #nowMs: number;
  #bootMs = 1_000_000;
  #order = 0;
  #pending = new Set<Pending>();

  constructor(startMs = Date.UTC(2026, 0, 1)) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  bootMs(): number {
    return this.#bootMs;
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    this.#order += 1;
    const pending = { dueMs: this.#bootMs + Math.max(0, delayMs), order: this.#order, fire };
    this.#pending.add(pending);
    return { cancel: () => void this.#pending.delete(pending) };
  }

  /** Timers that wait. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /**
   * Moves time forward, firing timers in order of their due time, and lets promises settle between
   * them.
   */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#bootMs + durationMs;
    await this.settle();
    for (;;) {
      const next = [...this.#pending]
        .filter((pending) => pending.dueMs <= endMs)
        .sort((a, b) => a.dueMs - b.dueMs || a.order - b.order)[0];
      if (next === undefined) break;
      this.#moveTo(next.dueMs);
      this.#pending.delete(next);
      next.fire();
      await this.settle();
    }
    this.#moveTo(endMs);
    await this.settle();
  }

  /** The machine sleeps: clocks go on, timers wait for as long as they would have without it. */
  suspend(durationMs: number): void {
    for (const pending of this.#pending) pending.dueMs += durationMs;
    this.#moveTo(this.#bootMs + durationMs);
  }

  /** Somebody sets the wall clock, forwards or back; nothing else notices. */
  setWall(nowMs: number): void {
    this.#nowMs = nowMs;
  }

  /** Lets every promise that can settle do so. */
  async settle(): Promise<void> {
    // An immediate comes when no promise has anything left to do; the second one is for what the
    // first has let go on.
    for (let turn = 0; turn < 2; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  #moveTo(bootMs: number): void {
    this.#nowMs += bootMs - this.#bootMs;
    this.#bootMs = bootMs;
  }
}

/** The clock of one process: its timers end with it, as they do when a process is killed. */
export class ProcessClock implements Clock {
  readonly #clock: Clock;
  readonly #timers = new Set<Timer>();
  #killed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  bootMs(): number {
    return this.#clock.bootMs();
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    if (this.#killed) return { cancel: () => undefined };
    const timer = this.#clock.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      fire();
    });
    this.#timers.add(timer);
    return {
      cancel: () => {
        this.#timers.delete(timer);
        timer.cancel();
      },
    };
  }

  kill(): void {
    this.#killed = true;
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../../../src/base/clock.js';

interface Pending {
  readonly dueMs: number;
  readonly order: number;
  readonly fire: () => void;
  cancelled: boolean;
}

/**
 * A clock for simulations of millions of timers: a heap, and one turn of the event loop for each
 * instant at which something happens.
 */
export class VirtualClock implements Clock {
  #bootMs = 1_000_000;
  #order = 0;
  readonly #heap: Pending[] = [];

  nowMs(): number {
    return Date.UTC(2026, 0, 1) + this.#bootMs;
  }

  bootMs(): number {
    return this.#bootMs;
  }

  setTimer(delayMs: number, fire: () => void): Timer {
    this.#order += 1;
    const dueMs = this.#bootMs + Math.max(0, delayMs);
    const pending: Pending = { dueMs, order: this.#order, fire, cancelled: false };
    this.#push(pending);
    return {
      cancel: () => {
        pending.cancelled = true;
      },
    };
  }

  wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.setTimer(delayMs, resolve));
  }

  /** Runs until `endBootMs`, or until `work` has settled, which may do real I/O. */
  async run(endBootMs: number): Promise<void> {
    await turn();
    for (let next = this.#heap[0]; next !== undefined; next = this.#heap[0]) {
      if (next.dueMs > endBootMs) break;
      this.#pop();
      if (next.cancelled) continue;
      this.#bootMs = next.dueMs;
      next.fire();
      // All that is due in this instant, then what its promises bring about.
      if (this.#heap[0]?.dueMs !== next.dueMs) await turn();
    }
    this.#bootMs = endBootMs;
    await turn();
  }

  #push(pending: Pending): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(pending);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(pending, heap[parent])) break;
      heap[index] = heap[parent] as Pending;
      index = parent;
    }
    heap[index] = pending;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const left = 2 * index + 1;
      const child = before(heap[left + 1], heap[left]) ? left + 1 : left;
      if (!before(heap[child], last)) break;
      heap[index] = heap[child] as Pending;
      index = child;
    }
    heap[index] = last;
  }
}

function before(a: Pending | undefined, b: Pending | undefined): boolean {
  if (a === undefined || b === undefined) return a !== undefined;
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

/** Every promise that can settle without time passing does so before this resolves. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Numbers in [0, 1) that one seed determines (mulberry32). */
export function seededFraction(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

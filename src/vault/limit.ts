// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';

/** The part of a clock that limits need. */
export type TimerClock = Pick<Clock, 'setTimer'>;

/** A time limit of our own ended a call which nothing in the SDK would have ended. */
export class LimitExceeded extends Error {
  constructor(operation: string, limitMs: number) {
    super(`${operation} exceeded its limit of ${Math.round(limitMs)} ms`);
    this.name = 'LimitExceeded';
  }
}

/**
 * Settles as `promise` does, or rejects with LimitExceeded after `limitMs`. What is abandoned may
 * reject later without becoming an unhandled rejection; `onLimit` cancels what can be cancelled.
 */
export async function withLimit<T>(
  promise: Promise<T>,
  options: { clock: TimerClock; operation: string; limitMs: number; onLimit?: () => void },
): Promise<T> {
  const { clock, operation, limitMs, onLimit } = options;
  let timer: Timer | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = clock.setTimer(Math.max(0, limitMs), () => {
      // Reject before cancelling: the cancellation's own error must not win.
      reject(new LimitExceeded(operation, limitMs));
      onLimit?.();
    });
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    timer?.cancel();
  }
}

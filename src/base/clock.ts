// SPDX-License-Identifier: Apache-2.0

export interface Timer {
  cancel(): void;
}

/** Time, handed in everywhere so that state machines run under a fake clock in tests. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch: for records and logs, never for deadlines. */
  nowMs(): number;
  /** CLOCK_BOOTTIME in milliseconds: counts machine suspend; what leases are measured on. */
  bootMs(): number;
  /** Calls `fire` once after `delayMs`. A timer never keeps the process alive. */
  setTimer(delayMs: number, fire: () => void): Timer;
}

/** The real clock. `bootMs` comes from native code, since Node has no CLOCK_BOOTTIME. */
export function createSystemClock(options: { bootMs: () => number }): Clock {
  return {
    nowMs: () => Date.now(),
    bootMs: options.bootMs,
    setTimer(delayMs, fire) {
      const timeout = setTimeout(fire, delayMs);
      timeout.unref();
      return { cancel: () => clearTimeout(timeout) };
    },
  };
}

/** Resolves after `delayMs` of `clock`; rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason as Error);
    };
    const timer = clock.setTimer(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

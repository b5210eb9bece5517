// SPDX-License-Identifier: Apache-2.0

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * npm passes on the Ctrl-C that the terminal has already sent to every process in the foreground,
 * so `npm start` gets one key press twice. Two within this time are one; milliseconds.
 */
const REPEAT_MS_MAX = 500;

export interface StopSignals {
  /** Aborts at the first signal. */
  readonly first: AbortSignal;
  /** Whether a second one came. */
  readonly forced: boolean;
  dispose(): void;
}

/** Where signals are emitted: `process`, or a test's EventEmitter. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: () => void): unknown;
  removeListener(signal: NodeJS.Signals, listener: () => void): unknown;
}

/** The first signal asks for an orderly stop; the second calls `onSecond`. */
export function watchStopSignals(source: SignalSource, onSecond: () => void): StopSignals {
  const first = new AbortController();
  let firstAtMs = 0;
  let forced = false;
  const onSignal = (): void => {
    if (!first.signal.aborted) {
      firstAtMs = performance.now();
      first.abort();
    } else if (performance.now() - firstAtMs > REPEAT_MS_MAX) {
      forced = true;
      onSecond();
    }
  };
  for (const signal of SIGNALS) source.on(signal, onSignal);
  return {
    first: first.signal,
    get forced() {
      return forced;
    },
    dispose: () => {
      for (const signal of SIGNALS) source.removeListener(signal, onSignal);
    },
  };
}

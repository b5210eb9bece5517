// SPDX-License-Identifier: Apache-2.0
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { codes } from './errors.js';

const VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'] as const;

/** What systemd accepts itself: a day. A longer watchdog guards nothing. */
const WATCHDOG_US_MAX = 86_400_000_000;

/** Where the service manager listens, and what it expects. */
export interface ServiceManager {
  /** Null when nobody asked to be told. */
  readonly socketPath: string | null;
  /** Without a sign of life within this time it ends the daemon; null: it does not look. */
  readonly watchdogMs: number | null;
}

/**
 * Reads what the service manager said (sd_notify(3), sd_watchdog_enabled(3)) and takes it out of
 * `env`, so that no child speaks for the daemon. Throws ERR_NOTIFY.
 */
export function takeServiceManager(env: NodeJS.ProcessEnv, pid: number): ServiceManager {
  const [socketPath, watchdogUs, watchdogPid] = VARIABLES.map((name) => env[name]);
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- three fixed names
  for (const name of VARIABLES) delete env[name];
  if (socketPath === undefined || socketPath === '') return { socketPath: null, watchdogMs: null };
  if (!/^[/@]./.test(socketPath)) {
    throw notifyError(
      `NOTIFY_SOCKET: expected a path that begins with / or @, got ${JSON.stringify(socketPath)}`,
    );
  }
  const forUs = watchdogPid === undefined || watchdogPid === String(pid);
  const watched = watchdogUs !== undefined && forUs;
  return { socketPath, watchdogMs: watched ? parseWatchdogMs(watchdogUs) : null };
}

function parseWatchdogMs(text: string): number {
  const us = /^\d{1,12}$/.test(text) ? Number(text) : 0;
  if (us >= 1000 && us <= WATCHDOG_US_MAX) return us / 1000;
  throw notifyError(
    `WATCHDOG_USEC: expected microseconds from 1000 to ${WATCHDOG_US_MAX}, ` +
      `got ${JSON.stringify(text)}`,
  );
}

function notifyError(detail: string): KeyholdError {
  return new KeyholdError(codes.ERR_NOTIFY, `talking to the service manager: ${detail}`);
}

export interface NotifierOptions {
  readonly socketPath: string | null;
  readonly pid: number;
  /** Sends one datagram; throws when nobody takes it. */
  readonly send: (socketPath: string, state: string) => void;
  /** CLOCK_MONOTONIC in microseconds. */
  readonly monotonicUs: () => bigint;
  readonly logger: Pick<Logger, 'warn'>;
}

/**
 * Tells the service manager how the daemon is. That it cannot be told is no reason to stop serving
 * disks: it is logged, once for each time that it begins to fail. Does nothing without a socket.
 */
export class Notifier {
  readonly #options: NotifierOptions;
  #stopping = false;
  #failing = false;

  constructor(options: NotifierOptions) {
    this.#options = options;
  }

  /** Also ends what `reloading` began. */
  ready(status: string): void {
    this.#send('READY=1', `MAINPID=${this.#options.pid}`, `STATUS=${status}`);
  }

  status(status: string): void {
    this.#send(`STATUS=${status}`);
  }

  reloading(): void {
    this.#send(
      'RELOADING=1',
      `MONOTONIC_USEC=${this.#options.monotonicUs()}`,
      'STATUS=reading the config and the files of TLS anew',
    );
  }

  /** The last word: what is said after it would take it back. */
  stopping(): void {
    this.#send('STOPPING=1', 'STATUS=taking disks offline');
    this.#stopping = true;
  }

  /** Feeds the watchdog. */
  alive(): void {
    this.#send('WATCHDOG=1');
  }

  #send(...lines: string[]): void {
    const { socketPath, send, logger } = this.#options;
    if (socketPath === null || this.#stopping) return;
    try {
      send(socketPath, lines.join('\n'));
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) {
        logger.warn({ cause: messageOf(error) }, 'the service manager cannot be told');
      }
      this.#failing = true;
    }
  }
}

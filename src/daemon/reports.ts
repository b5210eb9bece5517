// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { ShardStatus } from '../dataplane/shard-pool.js';
import type { Notifier, ServiceManager } from './notify.js';
import { Watchdog } from './watchdog.js';

/** How often the status is looked at; it is sent only when it has changed. */
const STATUS_INTERVAL_MS = 1000;

/** What one line of `systemctl status` is made of. */
export interface Counts {
  readonly disks: { readonly total: number; readonly online: number };
  readonly sets: { readonly total: number; readonly granted: number };
  /** The earliest one planned, and for which set; null: none is, or it is under way. */
  readonly nextProbe: { readonly set: string; readonly inMs: number } | null;
  readonly alarms: number;
}

/** What reports are made of. */
export interface Reported {
  readonly counts: () => Counts;
  readonly shards: () => readonly ShardStatus[];
  readonly shardTicks: () => readonly number[];
  readonly clock: Clock;
}

export function statusLine({ disks, sets, nextProbe, alarms }: Counts): string {
  const parts = [
    `${disks.online} of ${disks.total} ${plural('disk', disks.total)} online`,
    `${sets.granted} of ${sets.total} ${plural('set', sets.total)} granted`,
  ];
  if (nextProbe !== null) {
    const inS = Math.max(0, Math.round(nextProbe.inMs / 1000));
    parts.push(`next probe in ${inS} s (set ${nextProbe.set})`);
  }
  if (alarms > 0) parts.push(`${alarms} ${plural('alarm', alarms)}`);
  return parts.join(', ');
}

function plural(noun: string, count: number): string {
  return count === 1 ? noun : `${noun}s`;
}

/** From READY to STOPPING: keeps the status line current and the watchdog fed. */
export class Reports {
  readonly #notifier: Notifier;
  readonly #reported: Reported;
  readonly #watchdog: Watchdog | undefined;
  #sent: string;
  #reloads = 0;
  #timer: Timer | undefined;

  /** Says that the daemon is ready. */
  constructor(options: {
    notifier: Notifier;
    manager: ServiceManager;
    reported: Reported;
    logger: Logger;
  }) {
    const { notifier, manager, reported, logger } = options;
    this.#notifier = notifier;
    this.#reported = reported;
    this.#sent = statusLine(reported.counts());
    notifier.ready(this.#sent);
    if (manager.socketPath === null) return;
    if (manager.watchdogMs !== null) {
      this.#watchdog = new Watchdog({
        ...reported,
        watchdogMs: manager.watchdogMs,
        feed: () => notifier.alive(),
        logger,
      });
    }
    this.#lookLater();
  }

  /** Tells of a reload around it, and of several at a time around all of them. */
  async around(reload: () => Promise<void>): Promise<void> {
    this.#reloads += 1;
    this.#notifier.reloading();
    try {
      await reload();
    } finally {
      this.#reloads -= 1;
      if (this.#reloads === 0) {
        this.#sent = statusLine(this.#reported.counts());
        this.#notifier.ready(this.#sent);
      }
    }
  }

  /** Call it when the daemon begins to stop: nothing is reported from here on. */
  stop(): void {
    this.#timer?.cancel();
    this.#watchdog?.close();
    this.#notifier.stopping();
  }

  #lookLater(): void {
    this.#timer = this.#reported.clock.setTimer(STATUS_INTERVAL_MS, () => {
      const line = statusLine(this.#reported.counts());
      if (line !== this.#sent && this.#reloads === 0) {
        this.#sent = line;
        this.#notifier.status(line);
      }
      this.#lookLater();
    });
  }
}

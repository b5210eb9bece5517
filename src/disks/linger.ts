// SPDX-License-Identifier: Apache-2.0
import type { DiskClient } from './ports.js';

/**
 * How long a disk's clients must have asked nothing before they are cut off. A request that crosses
 * the cut is never answered, and Linux without a timeout waits for it for ever, so the cut comes
 * when none is likely to be on its way.
 */
export const QUIET_MS = 1000;

/** A client that never rests is cut off all the same, so late: its store must become free. */
export const BUSY_MS_MAX = 10 * 60_000;

/** When the connections of an offline disk are cut. No I/O and no timers. */
export class Linger {
  readonly #lingerMs: number;
  #endBootMs = 0;
  #quietSinceBootMs = 0;
  #requests = new Map<number, number>();

  constructor(lingerMs: number) {
    this.#lingerMs = lingerMs;
  }

  /** Begins anew. Returns how many ms later the first look is due. */
  begin(clients: readonly DiskClient[], nowBootMs: number): number {
    this.#endBootMs = nowBootMs + this.#lingerMs;
    this.#note(clients, nowBootMs);
    return Math.max(0, this.#lingerMs - QUIET_MS);
  }

  /** Returns how many ms later the next look is due; null when it is time for the cut. */
  look(clients: readonly DiskClient[], nowBootMs: number): number | null {
    const same = clients.every(({ id, requests }) => this.#requests.get(id) === requests);
    if (!same) this.#note(clients, nowBootMs);
    const quietBootMs = this.#quietSinceBootMs + Math.min(QUIET_MS, this.#lingerMs);
    const dueBootMs = Math.min(
      Math.max(this.#endBootMs, quietBootMs),
      this.#endBootMs + BUSY_MS_MAX,
    );
    return nowBootMs >= dueBootMs ? null : dueBootMs - nowBootMs;
  }

  #note(clients: readonly DiskClient[], nowBootMs: number): void {
    this.#quietSinceBootMs = nowBootMs;
    this.#requests = new Map(clients.map(({ id, requests }) => [id, requests]));
  }
}

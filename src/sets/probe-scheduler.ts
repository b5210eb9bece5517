// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { VaultAccess } from '../vault/types.js';
import { codes } from './errors.js';
import { ProbeLine, type ProbeReport, type ProbeSubscriber } from './probe-line.js';

/**
 * First probes of one vault's keys begin this far apart: each opens a connection of its own, and a
 * hundred in one instant would keep the daemon from everything else. The first one does not wait.
 */
const START_SPACING_MS = 10;

/** How often it is looked whether the machine was asleep: timers do not count that time. */
const WATCH_MS = 1000;

/** A busy event loop is late by less than this; probing once too often does no harm either. */
const SLEEP_MS_MIN = 2000;

/** What is probed once, however many sets and disks depend on it. */
export interface ProbeKey {
  readonly identity: string;
  readonly kid: string;
}

/** One probe line for each (identity, key version) that anyone depends on. */
export class ProbeScheduler {
  readonly #lines = new Map<string, ProbeLine>();
  /** When the next new line of a vault may begin; CLOCK_BOOTTIME ms. */
  readonly #nextStart = new Map<string, number>();
  #watch: Timer | undefined;
  readonly #options: { vault: VaultAccess; clock: Clock; random: Random; timeoutMs: number };

  constructor(options: { vault: VaultAccess; clock: Clock; random: Random; timeoutMs: number }) {
    this.#options = options;
  }

  /**
   * Begins with a probe at once when the key is new here, or a little later if other keys of its
   * vault have just begun. Returns the end of the subscription.
   */
  subscribe(key: ProbeKey, subscriber: ProbeSubscriber): () => void {
    const id = lineId(key);
    const line = this.#lines.get(id) ?? new ProbeLine({ ...this.#options, ...key });
    this.#lines.set(id, line);
    line.add(subscriber, line.empty ? this.#startDelayMs(key.kid) : 0);
    this.#watch ??= this.#watchSleep();
    return () => {
      line.remove(subscriber.id);
      if (!line.empty || this.#lines.get(id) !== line) return;
      line.close();
      this.#lines.delete(id);
      if (this.#lines.size === 0) this.#unwatch();
    };
  }

  /** One probe that starts after this call, confirmed if it is a denial. */
  async probeNow(key: ProbeKey, subscriberId: string): Promise<ProbeReport> {
    const line = this.#lines.get(lineId(key));
    if (line === undefined) {
      throw new KeyholdError(codes.ERR_SET_CLOSED, `probing ${key.kid}: no set uses the key`);
    }
    return line.probeNow(subscriberId);
  }

  /** The earliest of all, for whom, and when (CLOCK_BOOTTIME ms); undefined if none is planned. */
  nextProbe(): { readonly subscriberId: string; readonly atBootMs: number } | undefined {
    let next: { subscriberId: string; atBootMs: number } | undefined;
    for (const line of this.#lines.values()) {
      const atBootMs = line.nextProbeBootMs;
      if (atBootMs === undefined || (next !== undefined && atBootMs >= next.atBootMs)) continue;
      const [subscriberId = ''] = line.subscriberIds;
      next = { subscriberId, atBootMs };
    }
    return next;
  }

  close(): void {
    this.#unwatch();
    for (const line of this.#lines.values()) line.close();
    this.#lines.clear();
  }

  #startDelayMs(kid: string): number {
    const nowBootMs = this.#options.clock.bootMs();
    const vault = URL.canParse(kid) ? new URL(kid).host : '';
    const startBootMs = Math.max(nowBootMs, this.#nextStart.get(vault) ?? 0);
    this.#nextStart.set(vault, startBootMs + START_SPACING_MS);
    return startBootMs - nowBootMs;
  }

  /**
   * After the machine was asleep the first thing is a probe of every key. Its timer would wait for
   * as long as was left of the interval when the sleep began.
   */
  #watchSleep(): Timer {
    const { clock } = this.#options;
    const expectedBootMs = clock.bootMs() + WATCH_MS;
    return clock.setTimer(WATCH_MS, () => {
      if (clock.bootMs() - expectedBootMs >= SLEEP_MS_MIN) {
        this.#nextStart.clear();
        for (const [id, line] of this.#lines) line.resume(this.#startDelayMs(kidOf(id)));
      }
      this.#watch = this.#watchSleep();
    });
  }

  #unwatch(): void {
    this.#watch?.cancel();
    this.#watch = undefined;
    this.#nextStart.clear();
  }
}

function lineId(key: ProbeKey): string {
  return JSON.stringify([key.identity, key.kid]);
}

function kidOf(id: string): string {
  return (JSON.parse(id) as [identity: string, kid: string])[1];
}

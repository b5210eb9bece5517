// SPDX-License-Identifier: Apache-2.0
import type { ProbeReport } from './probe-line.js';
import type { ProbeScheduler } from './probe-scheduler.js';
import type { SetRecord } from './record.js';

/** Which probe lines a set listens to: one for each version of its keys, as the record has them. */
export class Subscriptions {
  readonly #scheduler: ProbeScheduler;
  readonly #onReport: (report: ProbeReport) => void;
  readonly #ends = new Map<string, () => void>();

  constructor(scheduler: ProbeScheduler, onReport: (report: ProbeReport) => void) {
    this.#scheduler = scheduler;
    this.#onReport = onReport;
  }

  /** Subscribes to what is new in the record or is probed in another rhythm, and ends the rest. */
  follow({ id, identity, keys, probeIntervalMs: intervalMs, leaseMs }: SetRecord): void {
    const wanted = new Map(
      keys.map((key) => [
        JSON.stringify([identity, key.kid, key.canary, intervalMs, leaseMs]),
        key,
      ]),
    );
    // First what ends: a line knows a set once, under its id.
    for (const what of [...this.#ends.keys()]) if (!wanted.has(what)) this.#end(what);
    for (const [what, { kid, canary }] of wanted) {
      if (this.#ends.has(what)) continue;
      const end = this.#scheduler.subscribe(
        { identity, kid },
        {
          id,
          intervalMs,
          leaseMs,
          canary: {
            plaintext: new Uint8Array(Buffer.from(canary.plaintext, 'base64')),
            wrapped: new Uint8Array(Buffer.from(canary.wrapped, 'base64')),
          },
          onReport: this.#onReport,
        },
      );
      this.#ends.set(what, end);
    }
  }

  end(): void {
    for (const what of [...this.#ends.keys()]) this.#end(what);
  }

  #end(what: string): void {
    this.#ends.get(what)?.();
    this.#ends.delete(what);
  }
}

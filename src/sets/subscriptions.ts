// SPDX-License-Identifier: Apache-2.0
import type { ProbeReport } from './probe-line.js';
import type { ProbeScheduler } from './probe-scheduler.js';
import type { SetRecord } from './record.js';

/** Which probe lines a set listens to: one for each version of its keys, as the record has them. */
export class Subscriptions {
  readonly #scheduler: ProbeScheduler;
  readonly #onReport: (report: ProbeReport) => void;
  /** By identity and key version. */
  readonly #members = new Map<string, { readonly as: string; readonly end: () => void }>();

  constructor(scheduler: ProbeScheduler, onReport: (report: ProbeReport) => void) {
    this.#scheduler = scheduler;
    this.#onReport = onReport;
  }

  /**
   * Subscribes to what is new in the record, and ends what is not in it. A version that is only
   * probed otherwise, with another canary or in another rhythm, keeps its line: a probe may be in
   * flight there, and a denial wait for its confirmation.
   */
  follow({ id, identity, keys, probeIntervalMs: intervalMs, leaseMs }: SetRecord): void {
    const wanted = new Map(keys.map((key) => [JSON.stringify([identity, key.kid]), key]));
    for (const what of [...this.#members.keys()]) if (!wanted.has(what)) this.#end(what);
    for (const [what, { kid, canary }] of wanted) {
      const as = JSON.stringify([canary, intervalMs, leaseMs]);
      if (this.#members.get(what)?.as === as) continue;
      // A line knows a set once, under its id: whoever subscribes again is who was there.
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
      this.#members.set(what, { as, end });
    }
  }

  end(): void {
    for (const what of [...this.#members.keys()]) this.#end(what);
  }

  #end(what: string): void {
    this.#members.get(what)?.end();
    this.#members.delete(what);
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { VaultAccess } from '../vault/types.js';
import { codes } from './errors.js';
import { ProbeLine, type ProbeReport, type ProbeSubscriber } from './probe-line.js';

/** What is probed once, however many sets and disks depend on it. */
export interface ProbeKey {
  readonly identity: string;
  readonly kid: string;
}

/** One probe line for each (identity, key version) that anyone depends on. */
export class ProbeScheduler {
  readonly #lines = new Map<string, ProbeLine>();
  readonly #options: { vault: VaultAccess; clock: Clock; random: Random; timeoutMs: number };

  constructor(options: { vault: VaultAccess; clock: Clock; random: Random; timeoutMs: number }) {
    this.#options = options;
  }

  /** Begins with a probe at once when the key is new here. Returns the end of the subscription. */
  subscribe(key: ProbeKey, subscriber: ProbeSubscriber): () => void {
    const id = lineId(key);
    const line = this.#lines.get(id) ?? new ProbeLine({ ...this.#options, ...key });
    this.#lines.set(id, line);
    line.add(subscriber);
    return () => {
      line.remove(subscriber.id);
      if (!line.empty || this.#lines.get(id) !== line) return;
      line.close();
      this.#lines.delete(id);
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

  close(): void {
    for (const line of this.#lines.values()) line.close();
    this.#lines.clear();
  }
}

function lineId(key: ProbeKey): string {
  return JSON.stringify([key.identity, key.kid]);
}

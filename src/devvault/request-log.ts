// SPDX-License-Identifier: Apache-2.0

/** One request that the vault or its token endpoint saw. Never holds a token or a value. */
export interface RequestLogEntry {
  /** ISO 8601, when the request came in. */
  readonly time: string;
  /** A permission's name (`unwrapKey`), `token`, `discovery`, `unknown`. */
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  /** Versioned key id where the request names or got a version. */
  readonly kid?: string;
  readonly clientId?: string;
  readonly requestId: string;
  /** HTTP status; null where no answer was finished. */
  readonly status: number | null;
  /** The inner code, else the code, of a refusal. */
  readonly code?: string;
  /** The kind of the trouble that struck. */
  readonly trouble?: string;
  readonly durationMs: number;
}

const ENTRIES_MAX = 1000;

/** The most recent requests, oldest first. */
export class RequestLog {
  readonly #entries: RequestLogEntry[] = [];

  add(entry: RequestLogEntry): void {
    this.#entries.push(entry);
    if (this.#entries.length > ENTRIES_MAX) this.#entries.shift();
  }

  recent(countMax = ENTRIES_MAX): RequestLogEntry[] {
    return this.#entries.slice(-countMax);
  }
}

// SPDX-License-Identifier: Apache-2.0

/** What one connection may cost before its client is known. */
export interface NegotiationLimits {
  /** Bytes of one option's payload that are buffered. */
  readonly optionBytesMax: number;
  /** Bytes of one option's payload that are skipped to answer it with an error. */
  readonly skippedBytesMax: number;
  /** Options on one connection, besides those that its LIST has earned. */
  readonly optionsMax: number;
  /** Exports named in the replies to all LIST options of one connection. */
  readonly listedExportsMax: number;
  /** Look-ups of the default export, each of which looks at every export there is. */
  readonly defaultLookupsMax: number;
}

/**
 * 8 KiB hold the longest name (4096 bytes) and a thousand information requests; past 64 KiB it is
 * no option but abuse (CVE-2017-15119 drained 4 GiB); the longest real negotiations take about ten
 * options, and three more for each export when a client lists them. 20,000 exports are two full
 * lists of the largest number of disks that Keyhold is made for, about 2 MB: pipelined LIST options
 * would otherwise have the server make that much for each 16 bytes that it receives. A client that
 * means the default export says so about five times (INFO, meta contexts, GO).
 */
export const DEFAULT_LIMITS: NegotiationLimits = {
  optionBytesMax: 8 * 1024,
  skippedBytesMax: 64 * 1024,
  optionsMax: 64,
  listedExportsMax: 20_000,
  defaultLookupsMax: 16,
};

/** `qemu-nbd -L` sends INFO and two LIST_META_CONTEXT for each export that it was shown. */
const OPTIONS_PER_LISTED_EXPORT = 3;

/** Counts what a connection has used of its limits. */
export class OptionBudget {
  readonly #limits: NegotiationLimits;
  #options = 0;
  #listedExports = 0;
  #longestList = 0;
  #defaultLookups = 0;

  constructor(limits: NegotiationLimits) {
    this.#limits = limits;
  }

  /** Counts an option; says in words what is wrong when it is one too many. */
  takeOption(): string | undefined {
    this.#options += 1;
    const max = this.#limits.optionsMax + OPTIONS_PER_LISTED_EXPORT * this.#longestList;
    if (this.#options <= max) return undefined;
    return `option number ${this.#options}, allowed are ${max}`;
  }

  /** Counts a LIST of so many exports; if it is too much says so in words, and counts nothing. */
  takeList(exports: number): string | undefined {
    const total = this.#listedExports + exports;
    const max = this.#limits.listedExportsMax;
    if (total > max) {
      return `this would be ${total} exports listed on this connection, allowed are ${max}`;
    }
    this.#listedExports = total;
    this.#longestList = Math.max(this.#longestList, exports);
    return undefined;
  }

  /** Counts a look-up of the default export; says in words what is wrong with one too many. */
  takeDefaultLookup(): string | undefined {
    this.#defaultLookups += 1;
    const max = this.#limits.defaultLookupsMax;
    if (this.#defaultLookups <= max) return undefined;
    return `the default export was asked for ${this.#defaultLookups} times, allowed are ${max}`;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { quoteName } from '../base/names.js';
import type { BrokenRecord } from '../base/record-store.js';
import { purgedError } from './denials.js';
import { codes } from './errors.js';
import type { LiveSet } from './live-set.js';

/** The sets that are at work, by name, and the names whose records are damaged. */
export class LiveSets {
  readonly #sets = new Map<string, LiveSet>();
  readonly #broken = new Map<string, BrokenRecord>();

  add(live: LiveSet): void {
    this.#sets.set(live.set.name, live);
  }

  addBroken(record: BrokenRecord): void {
    this.#broken.set(record.name, record);
  }

  remove(name: string): void {
    this.#sets.delete(name);
  }

  /** Whether a set or a damaged record has the name. */
  has(name: string): boolean {
    return this.#sets.has(name) || this.#broken.has(name);
  }

  /** In the order in which they came. */
  all(): Iterable<LiveSet> {
    return this.#sets.values();
  }

  sorted(): LiveSet[] {
    return [...this.#sets.values()].sort((a, b) => (a.set.name < b.set.name ? -1 : 1));
  }

  broken(): BrokenRecord[] {
    return [...this.#broken.values()];
  }

  byId(id: string): LiveSet | undefined {
    return [...this.#sets.values()].find(({ set }) => set.id === id);
  }

  /** Throws ERR_SET_NOT_FOUND, or ERR_SET_RECORD when the record is damaged. */
  get(name: string): LiveSet {
    const live = this.#sets.get(name);
    if (live !== undefined) return live;
    const broken = this.#broken.get(name);
    if (broken !== undefined) {
      throw new KeyholdError(
        codes.ERR_SET_RECORD,
        `reading the record of encryption set ${name}: ${broken.path}: ${broken.message}`,
        { fields: { set: name, path: broken.path } },
      );
    }
    throw new KeyholdError(codes.ERR_SET_NOT_FOUND, `no encryption set ${quoteName(name)}`, {
      fields: { set: name },
    });
  }

  /** For what needs a set whose keys still exist; throws as `get`, and for a purged set. */
  usable(name: string): LiveSet {
    const live = this.get(name);
    if (live.set.record.purge !== null) throw purgedError(name);
    return live;
  }
}

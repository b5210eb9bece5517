// SPDX-License-Identifier: Apache-2.0
import { messageOf } from '../base/errors.js';
import type { BrokenRecord } from '../base/record-store.js';
import { peerText } from '../nbd/peer.js';
import type { EraseReport, HeaderReport, SetDiskFacts, SetDisks } from '../sets/ports.js';
import type { WrappedKey } from '../sets/wrapped-keys.js';
import type { DiskRunner } from './disk-runner.js';
import { Limiter } from './limiter.js';

/** Headers that are read or written at once: more would only queue in libuv. */
const HEADERS_AT_ONCE_MAX = 16;

/** The disks of each set, for what happens to the set as a whole. */
export class DisksOfSets implements SetDisks {
  readonly #runners: ReadonlyMap<string, DiskRunner>;
  readonly #broken: () => BrokenRecord[];
  readonly #names: (setId: string) => string[];
  readonly #limiter = new Limiter(HEADERS_AT_ONCE_MAX);

  constructor(options: {
    runners: ReadonlyMap<string, DiskRunner>;
    broken: () => BrokenRecord[];
    /** Disks that are just being created included. */
    names: (setId: string) => string[];
  }) {
    this.#runners = options.runners;
    this.#broken = options.broken;
    this.#names = options.names;
  }

  names(setId: string): string[] {
    return this.#names(setId);
  }

  facts(setId: string): SetDiskFacts[] {
    return this.#of(setId).map((runner) => ({
      name: runner.record.name,
      state: runner.state.state,
      attached: runner.attached,
      clients: runner.clients.map(({ peer }) => peerText(peer)),
    }));
  }

  async headers(setId: string): Promise<HeaderReport[]> {
    return this.#reports(setId, (runner) => runner.keys.report());
  }

  async rewrap(setId: string, keys: readonly WrappedKey[]): Promise<HeaderReport[]> {
    return this.#reports(setId, (runner) => runner.keys.rewrap(keys));
  }

  async followLease(setId: string): Promise<void> {
    await Promise.all(this.#of(setId).map((runner) => runner.keys.followLease()));
  }

  async eraseAll(setId: string): Promise<EraseReport> {
    const erased: string[] = [];
    const failed: Array<{ disk: string; message: string }> = [];
    for (const runner of this.#of(setId)) {
      const disk = runner.record.name;
      try {
        await runner.keys.erase({ force: true });
        erased.push(disk);
      } catch (error) {
        failed.push({ disk, message: messageOf(error) });
      }
    }
    return { erased, failed };
  }

  /**
   * A record that cannot be read may be that of any set, so it speaks against every version. An
   * erased disk has no header any more, and holds up nothing.
   */
  async #reports(
    setId: string,
    of: (runner: DiskRunner) => Promise<HeaderReport>,
  ): Promise<HeaderReport[]> {
    const runners = this.#of(setId).filter(({ state }) => state.reason !== 'erased');
    const reports = await Promise.all(runners.map((runner) => this.#limiter.run(() => of(runner))));
    const broken = this.#broken().map(({ name: disk, path, message }) => ({
      disk,
      kids: null,
      error: `${path}: ${message}`,
    }));
    return [...reports, ...broken];
  }

  #of(setId: string): DiskRunner[] {
    return [...this.#runners.values()].filter(({ record }) => {
      return record.set.id === setId || record.movingTo?.id === setId;
    });
  }
}

// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { SerialQueue } from '../base/serial-queue.js';
import type { DiskNews } from './disk-news.js';
import { codes } from './errors.js';

/** Whose turn it is: everything that happens to one disk, one after the other, until it closes. */
export class DiskTurns {
  readonly #diskName: () => string;
  readonly #news: Pick<DiskNews, 'turnFailed'>;
  readonly #queue = new SerialQueue();
  /**
   * Notices that already stand in the queue: they are read when their turn comes, so one is enough.
   */
  readonly #noted = new Set<string>();
  #closed = false;

  /** `news` tells of failures of work that nobody waits for. */
  constructor(diskName: () => string, news: Pick<DiskNews, 'turnFailed'>) {
    this.#diskName = diskName;
    this.#news = news;
  }

  /** For a command; rejects with ERR_DISK_CLOSED when its turn comes too late. */
  run<T>(doing: string, work: () => Promise<T>): Promise<T> {
    return this.#queue.run(() => {
      this.#assertOpen(doing);
      return work();
    });
  }

  /** What a disk that has closed meanwhile needs no more. */
  async runUnlessClosed(work: () => Promise<void>): Promise<void> {
    await this.#queue.run(async () => {
      if (!this.#closed) await work();
    });
  }

  /** For news that nobody waits for. */
  later(work: () => Promise<void>): void {
    void this.runUnlessClosed(work).catch((error: unknown) => this.#news.turnFailed(error));
  }

  /** The same, unless such a notice waits for its turn already. */
  note(what: string, work: () => Promise<void>): void {
    if (this.#noted.has(what)) return;
    this.#noted.add(what);
    this.later(() => {
      this.#noted.delete(what);
      return work();
    });
  }

  /** Called in a turn: it is the last. */
  close(): void {
    this.#closed = true;
  }

  #assertOpen(doing: string): void {
    if (!this.#closed) return;
    const disk = this.#diskName();
    throw new KeyholdError(
      codes.ERR_DISK_CLOSED,
      `${doing} disk ${disk}: it was deleted, or the daemon is stopping`,
      { fields: { disk } },
    );
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Timer } from '../base/clock.js';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { RecordStore } from '../base/record-store.js';
import type { EmitSetEvent, PurgeReceipt } from './access.js';
import { EncryptionSet } from './encryption-set.js';
import type { SetDisks } from './ports.js';
import type { ProbeScheduler } from './probe-scheduler.js';
import { runPurge } from './purge.js';
import type { SetRecord, StandingDenial } from './record.js';
import { Rewrapper } from './rewrap.js';
import type { WrapContext } from './wrap.js';

/** An interrupted purge, or one that a store kept from finishing, is tried again so often. */
const PURGE_RETRY_MS = 60_000;

export interface LiveSetOptions {
  readonly record: SetRecord;
  readonly records: RecordStore<SetRecord>;
  readonly context: WrapContext;
  readonly scheduler: ProbeScheduler;
  readonly disks: SetDisks;
  readonly logger: Logger;
  readonly emit: EmitSetEvent;
}

/** Latest and longest time from a probe's start to the last key of the set wiped, in ms. */
export interface RevocationTimes {
  readonly lastMs: number;
  readonly maxMs: number;
}

/** A set with what works on it: its access, its rewraps, its record on disk. */
export class LiveSet {
  readonly set: EncryptionSet;
  readonly rewrapper: Rewrapper;
  readonly #options: LiveSetOptions;
  #revocation: RevocationTimes | undefined;
  #purgeTimer: Timer | undefined;
  #closed = false;

  constructor(options: LiveSetOptions) {
    const { record, records, context, scheduler, disks, emit } = options;
    const { vault, custody, clock, platform, unwrapTimeoutMs } = context;
    this.#options = options;
    this.set = new EncryptionSet({
      record,
      vault,
      custody,
      platform,
      scheduler,
      clock,
      unwrapTimeoutMs,
      emit,
      onDenials: (denied) => this.#keepDenials(denied),
    });
    this.rewrapper = new Rewrapper({
      set: this.set,
      disks,
      context,
      save: (changed) => records.save(changed),
      emit,
    });
  }

  get revocation(): RevocationTimes | undefined {
    return this.#revocation;
  }

  noteRevocation(wipedAfterMs: number): void {
    const maxMs = Math.max(this.#revocation?.maxMs ?? 0, wipedAfterMs);
    this.#revocation = { lastMs: wipedAfterMs, maxMs };
  }

  /** Begins to probe. */
  start(): void {
    this.set.start();
  }

  /**
   * Begins to look for newer versions, and goes on with an interrupted rewrap or purge. Only once
   * the set's disks are known: a set without disks would be done at once.
   */
  resume(): void {
    const { purge } = this.set.record;
    if (purge === null) this.rewrapper.start();
    else if (purge.finishedAt === null) this.#purgeLater(0);
  }

  /**
   * Once no rewrap is under way and `assertPurgeable` resolves. What it leaves undone, also when it
   * rejects after it began, goes on by itself.
   */
  async purge(assertPurgeable: () => Promise<void>): Promise<PurgeReceipt> {
    return this.rewrapper.exclusively(async () => {
      await assertPurgeable();
      this.#purgeTimer?.cancel();
      try {
        return await this.#purge();
      } finally {
        const { purge } = this.set.record;
        if (purge !== null && purge.finishedAt === null) this.#purgeLater(PURGE_RETRY_MS);
      }
    });
  }

  async #purge(): Promise<PurgeReceipt> {
    const { records, disks, context, emit } = this.#options;
    const receipt = await runPurge({
      set: this.set,
      disks,
      nowMs: () => context.clock.nowMs(),
      replace: async (record) => {
        await records.save(record);
        this.set.replaceRecord(record);
      },
      replaceShredding: async (record) => {
        await records.saveShredding(record);
        this.set.replaceRecord(record);
      },
    });
    emit('purged', { set: this.set.ref, receipt });
    return receipt;
  }

  close(cause: string): void {
    this.#closed = true;
    this.#purgeTimer?.cancel();
    this.rewrapper.close();
    this.set.close(cause);
  }

  #purgeLater(delayMs: number): void {
    const { context, logger } = this.#options;
    if (this.#closed) return;
    this.#purgeTimer = context.clock.setTimer(delayMs, () => {
      this.purge(() => Promise.resolve()).catch((error: unknown) => {
        logger.error({ set: this.set.name, cause: messageOf(error) }, 'purge does not get on');
      });
    });
  }

  /** Only where a restart could make a denial forgotten that forbids the availability key. */
  #keepDenials(denied: readonly StandingDenial[]): void {
    const { availability, purge } = this.set.record;
    if (availability === null || purge !== null) return;
    this.rewrapper
      .change((record) => ({ ...record, denied: [...denied] }))
      .catch((error: unknown) => {
        if (this.#closed || this.set.record.purge !== null) return;
        this.#options.logger.error(
          { set: this.set.name, cause: messageOf(error) },
          'a denial could not be recorded',
        );
      });
  }
}

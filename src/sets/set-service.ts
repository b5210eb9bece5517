// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { Emitter } from '../base/emitter.js';
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { quoteName, validateName } from '../base/names.js';
import type { Random } from '../base/random.js';
import { type BrokenRecord, RecordStore } from '../base/record-store.js';
import type { SetKeyHandle, VaultAccess } from '../vault/types.js';
import type { SetEvents } from './access.js';
import { type CreateSetOptions, fillCreateSetOptions, prepareSet } from './create-set.js';
import { EncryptionSet } from './encryption-set.js';
import { codes } from './errors.js';
import type { KeyCustody } from './ports.js';
import { ProbeScheduler } from './probe-scheduler.js';
import { type SetRecord, setRecordSchema, validateTimes } from './record.js';
import { type SetCheckView, type SetView, viewCheck, viewSet } from './view.js';

export const PROBE_TIMEOUT_MS_DEFAULT = 5000;

export interface SetServiceOptions {
  readonly stateDir: string;
  readonly vault: VaultAccess;
  readonly custody: KeyCustody;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Limit of one probe and of one unwrap. */
  readonly timeoutMs?: number;
  /** Names of the disks of a set; `disks` knows them. */
  readonly disksUsing: (setId: string) => readonly string[];
}

/** Every encryption set of the daemon: records, probing, access. */
export class SetService {
  readonly events: Emitter<SetEvents>;
  readonly #options: SetServiceOptions;
  readonly #timeoutMs: number;
  readonly #records: RecordStore<SetRecord>;
  readonly #scheduler: ProbeScheduler;
  readonly #sets = new Map<string, EncryptionSet>();
  readonly #broken = new Map<string, BrokenRecord>();
  /** Names that a create or delete is at work on. */
  readonly #busy = new Set<string>();

  constructor(options: SetServiceOptions) {
    const { vault, clock, random, logger } = options;
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? PROBE_TIMEOUT_MS_DEFAULT;
    this.events = new Emitter((error, kind) =>
      logger.error({ kind, cause: messageOf(error) }, 'a listener of set events failed'),
    );
    this.#records = new RecordStore({
      directory: join(options.stateDir, 'sets'),
      schema: setRecordSchema,
      uniqueId: (record) => record.id,
    });
    this.#scheduler = new ProbeScheduler({ vault, clock, random, timeoutMs: this.#timeoutMs });
  }

  /** Reads the records and starts probing. A damaged record breaks that set alone. */
  async load(): Promise<void> {
    const { records, broken } = await this.#records.load();
    for (const record of broken) {
      this.#broken.set(record.name, record);
      this.#options.logger.error(
        { set: record.name, cause: record.message },
        'set record unusable',
      );
    }
    for (const record of records) this.#begin(record);
  }

  list(): EncryptionSet[] {
    return [...this.#sets.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  broken(): BrokenRecord[] {
    return [...this.#broken.values()];
  }

  /** Throws ERR_SET_NOT_FOUND, or ERR_SET_RECORD when the record is damaged. */
  get(name: string): EncryptionSet {
    const set = this.#sets.get(name);
    if (set !== undefined) return set;
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

  byId(id: string): EncryptionSet | undefined {
    return [...this.#sets.values()].find((set) => set.id === id);
  }

  view(name: string): SetView {
    const set = this.get(name);
    return viewSet(set, this.#options.disksUsing(set.id));
  }

  views(): SetView[] {
    return this.list().map((set) => this.view(set.name));
  }

  /** Probes the set's keys now; denials are confirmed and acted on before it resolves. */
  async check(name: string): Promise<SetCheckView> {
    const set = this.get(name);
    await set.probe();
    return viewCheck(set);
  }

  /**
   * Makes a set: set key generated and wrapped, unwrapped again by the vault, canary proved, record
   * written. If the call fails nothing of it remains.
   */
  async create(options: CreateSetOptions): Promise<SetView> {
    const filled = fillCreateSetOptions(options);
    validateName(filled.name, 'encryption set');
    validateTimes(filled.name, filled, this.#timeoutMs);
    return this.#exclusively(filled.name, async () => {
      this.#assertNew(filled.name);
      const { vault, custody, random, clock } = this.#options;
      const context = { vault, custody, random, clock, unwrapTimeoutMs: this.#timeoutMs };
      const { record, key } = await prepareSet(filled, context);
      const set = await this.#prove(record, key);
      this.#sets.set(record.name, set);
      const { kid } = record.keys[0] ?? { kid: '' };
      this.events.emit('set-key', { set: set.ref, action: 'generated', kid });
      this.events.emit('created', { set: set.ref, kid });
      return this.view(record.name);
    });
  }

  /** Refused while disks refer to the set. */
  async delete(name: string): Promise<void> {
    await this.#exclusively(name, async () => {
      const set = this.get(name);
      const disks = this.#options.disksUsing(set.id);
      if (disks.length > 0) {
        throw new KeyholdError(
          codes.ERR_SET_IN_USE,
          `deleting encryption set ${name}: ${disks.length} disks belong to it, expected none: ` +
            disks.slice(0, 5).join(', '),
          { fields: { set: name, disks: disks.length } },
        );
      }
      // Hidden first, so that no new disk can join it meanwhile.
      this.#sets.delete(name);
      try {
        await this.#records.remove(name);
      } catch (error) {
        this.#sets.set(name, set);
        throw error;
      }
      set.close('deleted');
      this.events.emit('deleted', { set: set.ref });
    });
  }

  /** Ends probing and every lease, wipes every set key. */
  close(): void {
    this.#scheduler.close();
    for (const set of this.#sets.values()) set.close('shutdown');
  }

  #begin(record: SetRecord): EncryptionSet {
    const set = this.#assemble(record);
    this.#sets.set(record.name, set);
    set.start();
    return set;
  }

  #assemble(record: SetRecord): EncryptionSet {
    const { vault, custody, clock } = this.#options;
    return new EncryptionSet({
      record,
      vault,
      custody,
      clock,
      scheduler: this.#scheduler,
      unwrapTimeoutMs: this.#timeoutMs,
      emit: (kind, event) => this.events.emit(kind, event),
    });
  }

  /** Probes the new canary, writes the record; undoes everything when either fails. */
  async #prove(record: SetRecord, key: SetKeyHandle): Promise<EncryptionSet> {
    const set = this.#assemble(record);
    set.start();
    try {
      const [report] = await set.probe();
      if (set.access.kind !== 'granted') {
        const { verdict } = report ?? {};
        throw new KeyholdError(
          codes.ERR_SET_PROBE,
          `creating encryption set ${record.name}: probing ${record.keys[0]?.kid}: expected PROOF, ` +
            `got ${verdict?.kind} ${verdict?.code ?? ''}: ${verdict?.message}`,
          { fields: { set: record.name, verdict: verdict?.kind, requestId: verdict?.requestId } },
        );
      }
      // Not before: native code wipes a key whose lease was never renewed.
      set.adoptSetKey(key);
      await this.#records.save(record);
      return set;
    } catch (error) {
      key.wipe();
      set.close('not created');
      await this.#records.remove(record.name).catch(() => undefined);
      throw error;
    }
  }

  #assertNew(name: string): void {
    if (!this.#sets.has(name) && !this.#broken.has(name)) return;
    throw new KeyholdError(
      codes.ERR_SET_EXISTS,
      `creating encryption set ${name}: ${this.#records.pathOf(name)} exists already`,
      { fields: { set: name } },
    );
  }

  async #exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy.has(name)) {
      throw new KeyholdError(
        codes.ERR_SET_BUSY,
        `encryption set ${name}: another command is at work on this name`,
        { fields: { set: name } },
      );
    }
    this.#busy.add(name);
    try {
      return await work();
    } finally {
      this.#busy.delete(name);
    }
  }
}

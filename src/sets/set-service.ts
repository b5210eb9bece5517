// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { Emitter } from '../base/emitter.js';
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { validateName } from '../base/names.js';
import type { Random } from '../base/random.js';
import { type BrokenRecord, RecordStore } from '../base/record-store.js';
import type { SetKeyHandle, VaultAccess } from '../vault/types.js';
import type { PurgeReceipt, SetEvents } from './access.js';
import {
  type CreateSetOptions,
  fillCreateSetOptions,
  prepareSet,
  type SetPolicy,
} from './create-set.js';
import { drillError, DrillVault } from './drill.js';
import type { EncryptionSet } from './encryption-set.js';
import { codes } from './errors.js';
import { impactOf, type Scenario, type SetImpact } from './impact.js';
import { LiveSet } from './live-set.js';
import { LiveSets } from './live-sets.js';
import { type PlatformKeySource, platformKeySource } from './platform.js';
import type { HeaderReport, KeyCustody, SetDisks } from './ports.js';
import { ProbeScheduler } from './probe-scheduler.js';
import { assertPurgeable } from './purge.js';
import { type SetRecord, setRecordSchema, validateTimes } from './record.js';
import type { Rewrapper } from './rewrap.js';
import { type SetCheckView, type SetView, viewCheck, viewSet } from './view.js';
import type { WrapContext } from './wrap.js';

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
  /** Throws ERR_PLATFORM_KEY_MISSING when the host has none, as if left out. */
  readonly platform?: PlatformKeySource;
  /** Called only after construction: sets and disks know each other. */
  readonly disks: () => SetDisks;
}

/** Every encryption set of the daemon: records, access, and what is done with their keys. */
export class SetService {
  readonly events: Emitter<SetEvents>;
  readonly #options: SetServiceOptions;
  readonly #context: WrapContext;
  readonly #records: RecordStore<SetRecord>;
  readonly #scheduler: ProbeScheduler;
  readonly #drills: DrillVault;
  readonly #sets = new LiveSets();
  /** Names that a create or delete is at work on. */
  readonly #busy = new Set<string>();

  constructor(options: SetServiceOptions) {
    const { custody, clock, random, logger, platform = platformKeySource(undefined) } = options;
    this.#drills = new DrillVault({ vault: options.vault, clock });
    const vault = this.#drills;
    const unwrapTimeoutMs = options.timeoutMs ?? PROBE_TIMEOUT_MS_DEFAULT;
    this.#options = options;
    this.#context = { vault, custody, clock, random, platform, unwrapTimeoutMs };
    this.events = new Emitter((error, kind) =>
      logger.error({ kind, cause: messageOf(error) }, 'a listener of set events failed'),
    );
    this.#records = new RecordStore({
      directory: join(options.stateDir, 'sets'),
      schema: setRecordSchema,
      uniqueId: (record) => record.id,
    });
    this.#scheduler = new ProbeScheduler({ vault, clock, random, timeoutMs: unwrapTimeoutMs });
  }

  /**
   * Reads the records and starts probing. A damaged record breaks that set alone. The disks are
   * read next, then follows `resume`.
   */
  async load(): Promise<void> {
    const { records, broken } = await this.#records.load();
    for (const record of broken) {
      this.#sets.addBroken(record);
      this.#options.logger.error(
        { set: record.name, cause: record.message },
        'set record unusable',
      );
    }
    for (const record of records) {
      const live = this.#assemble(record);
      this.#sets.add(live);
      live.start();
    }
  }

  /** Goes on with what a crash left half done, and looks for newer versions from now on. */
  resume(): void {
    for (const live of this.#sets.all()) live.resume();
  }

  list(): EncryptionSet[] {
    return this.#sets.sorted().map(({ set }) => set);
  }

  broken(): BrokenRecord[] {
    return this.#sets.broken();
  }

  /** Throws ERR_SET_NOT_FOUND, or ERR_SET_RECORD when the record is damaged. */
  get(name: string): EncryptionSet {
    return this.#sets.get(name).set;
  }

  /** The earliest probe that is planned; null: none is, or every one is under way. */
  nextProbe(): { readonly set: string; readonly inMs: number } | null {
    const next = this.#scheduler.nextProbe();
    const set = next === undefined ? undefined : this.byId(next.subscriberId);
    if (next === undefined || set === undefined) return null;
    return { set: set.name, inMs: Math.max(0, next.atBootMs - this.#options.clock.bootMs()) };
  }

  byId(id: string): EncryptionSet | undefined {
    return this.#sets.byId(id)?.set;
  }

  /** Without what only the headers know. */
  view(name: string): SetView {
    return this.#view(this.#sets.get(name), null);
  }

  views(): SetView[] {
    return this.#sets.sorted().map((live) => this.#view(live, null));
  }

  /** With every header of the set read now: which version each depends on. */
  async show(name: string): Promise<SetView> {
    const live = this.#sets.get(name);
    const headers = await this.#options.disks().headers(live.set.id);
    return this.#view(live, headers);
  }

  /** Probes the set's keys now; denials are confirmed and acted on before it resolves. */
  async check(name: string): Promise<SetCheckView> {
    const { set } = this.#sets.get(name);
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
    validateTimes(filled.name, filled, this.#context.unwrapTimeoutMs);
    return this.#exclusively(filled.name, async () => {
      this.#assertNew(filled.name);
      const { record, key } = await prepareSet(filled, this.#context);
      const live = await this.#prove(record, key);
      this.#sets.add(live);
      const { ref } = live.set;
      const kid = live.set.wrappedKeys[0]?.kid ?? '';
      this.events.emit('set-key', { set: ref, action: 'generated', kid });
      this.events.emit('created', { set: ref, kid });
      return this.#view(live, []);
    });
  }

  /** Changes the policy of a set; throws ERR_SET_OPTION, and then nothing has changed. */
  async update(name: string, changes: Partial<SetPolicy>): Promise<SetView> {
    const live = this.#sets.usable(name);
    await live.rewrapper.change((record) => {
      const changed = { ...record, ...changes };
      validateTimes(name, changed, this.#context.unwrapTimeoutMs);
      if (changed.revokeWhen === 'all' && !record.keys.some(({ slot }) => slot === 2)) {
        throw new KeyholdError(
          codes.ERR_SET_OPTION,
          `encryption set ${name}: revoke-when is all, expected any in a set with one customer key`,
          { fields: { set: name } },
        );
      }
      return changed;
    });
    await this.#options.disks().followLease(live.set.id);
    this.events.emit('changed', { set: live.set.ref, what: Object.keys(changes).join(', ') });
    return this.show(name);
  }

  /** Looks at the newest versions of the set's keys now, and rewraps (docs/KEYS.md section 2). */
  async rotate(name: string): Promise<SetView> {
    await this.#sets.usable(name).rewrapper.rotate();
    return this.show(name);
  }

  /** Puts the set on another customer key, or on the platform key. */
  async assign(name: string, target: Parameters<Rewrapper['assign']>[0]): Promise<SetView> {
    await this.#sets.usable(name).rewrapper.assign(target);
    return this.show(name);
  }

  impact(name: string, question: { scenario: Scenario; keyVersion?: string }): SetImpact {
    const { set } = this.#sets.get(name);
    const nowMs = this.#context.clock.nowMs();
    return impactOf(set, this.#options.disks().facts(set.id), { ...question, nowMs });
  }

  /**
   * Simulates the scenario for the set's own keys until `endDrill`, or for `durationMs`: what
   * follows is real, disks included. Throws ERR_SET_DRILL for a key that another set uses too.
   */
  beginDrill(name: string, request: { scenario: Scenario; durationMs: number }): SetView {
    const live = this.#sets.usable(name);
    const kids = live.set.record.keys.map(({ kid }) => kid);
    if (kids.length === 0) throw drillError(name, 'it has no customer key that could be denied');
    const other = this.list().find(
      (set) => set !== live.set && set.record.keys.some(({ kid }) => kids.includes(kid)),
    );
    if (other !== undefined) {
      throw drillError(name, `set ${other.name} uses the same key, expected a key of its own`);
    }
    this.#drills.begin({ set: name, kids, ...request }, () =>
      this.#tellDrill(live, request, false),
    );
    this.#tellDrill(live, request, true);
    return this.#view(live, null);
  }

  /** Throws ERR_SET_DRILL when none is on. Resolves when the vaults have been asked again. */
  async endDrill(name: string): Promise<SetView> {
    const live = this.#sets.get(name);
    const drill = this.#drills.end(name);
    if (drill === undefined) throw drillError(name, 'none is on');
    this.#tellDrill(live, drill, false);
    await live.set.probe();
    return this.#view(live, null);
  }

  #tellDrill({ set }: LiveSet, { scenario }: { scenario: Scenario }, on: boolean): void {
    this.events.emit('drill', { set: set.ref, on, scenario });
  }

  /** Cryptographic erasure (docs/KEYS.md section 6). */
  async purge(name: string, confirmation: string): Promise<PurgeReceipt> {
    return this.#exclusively(name, async () => {
      const live = this.#sets.get(name);
      return live.purge(async () => {
        // What a drill says is no reason to destroy anything.
        if (this.#drills.of(name) !== undefined) {
          throw drillError(name, 'one is on, expected none for a purge');
        }
        await assertPurgeable(live.set, confirmation);
      });
    });
  }

  /**
   * Runs work that writes a header of this set which the set does not know of yet: no rewrap, purge
   * or deletion of the set happens meanwhile.
   */
  async hold<T>(name: string, work: (set: EncryptionSet) => Promise<T>): Promise<T> {
    const live = this.#sets.usable(name);
    return live.rewrapper.hold(() => work(live.set));
  }

  /** What a receipt measured: for `set show`. */
  noteRevocation(setId: string, wipedAfterMs: number): void {
    this.#sets.byId(setId)?.noteRevocation(wipedAfterMs);
  }

  /** Refused while disks refer to the set. */
  async delete(name: string): Promise<void> {
    await this.#exclusively(name, async () => {
      const live = this.#sets.get(name);
      await live.rewrapper.exclusively(() => this.#remove(live));
    });
  }

  async #remove(live: LiveSet): Promise<void> {
    const { id, name, ref } = live.set;
    const disks = this.#options.disks().names(id);
    if (disks.length > 0) {
      throw new KeyholdError(
        codes.ERR_SET_IN_USE,
        `deleting encryption set ${name}: ${disks.length} disks belong to it, expected none: ` +
          disks.slice(0, 5).join(', '),
        { fields: { set: name, disks: disks.length } },
      );
    }
    // Hidden first, so that no new disk can join it meanwhile.
    this.#sets.remove(name);
    try {
      await this.#records.remove(name);
    } catch (error) {
      this.#sets.add(live);
      throw error;
    }
    live.close('deleted');
    this.events.emit('deleted', { set: ref });
  }

  /** Ends probing and every lease, wipes every set key. */
  close(): void {
    this.#drills.close();
    this.#scheduler.close();
    for (const live of this.#sets.all()) live.close('shutdown');
  }

  #view(live: LiveSet, headers: HeaderReport[] | null): SetView {
    const { set, rewrapper, revocation } = live;
    const disks = this.#options.disks().names(set.id);
    return viewSet(set, {
      disks,
      headers,
      trouble: rewrapper.trouble,
      revocation,
      drill: this.#drills.of(set.name),
    });
  }

  #assemble(record: SetRecord): LiveSet {
    const { logger } = this.#options;
    const disks = this.#options.disks();
    return new LiveSet({
      record,
      records: this.#records,
      context: this.#context,
      scheduler: this.#scheduler,
      disks,
      logger,
      emit: (kind, event) => this.events.emit(kind, event),
    });
  }

  /** Probes the new canaries, writes the record; undoes everything when either fails. */
  async #prove(record: SetRecord, key: SetKeyHandle): Promise<LiveSet> {
    const live = this.#assemble(record);
    const { set } = live;
    live.start();
    try {
      const reports = await set.probe();
      const bad = reports.find(({ verdict }) => verdict.kind !== 'PROOF');
      if (set.access.kind !== 'granted' || bad !== undefined) {
        const { verdict, kid } = bad ?? {};
        throw new KeyholdError(
          codes.ERR_SET_PROBE,
          `creating encryption set ${record.name}: probing ${kid}: expected PROOF, ` +
            `got ${verdict?.kind} ${verdict?.code ?? ''}: ${verdict?.message}`,
          { fields: { set: record.name, verdict: verdict?.kind, requestId: verdict?.requestId } },
        );
      }
      // Not before: native code wipes a key whose lease was never renewed.
      set.adoptSetKey(key);
      await this.#records.save(record);
      live.resume();
      return live;
    } catch (error) {
      key.wipe();
      live.close('not created');
      await this.#records.remove(record.name).catch(() => undefined);
      throw error;
    }
  }

  #assertNew(name: string): void {
    if (!this.#sets.has(name)) return;
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

// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { Emitter } from '../base/emitter.js';
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { quoteName } from '../base/names.js';
import type { Random } from '../base/random.js';
import { type BrokenRecord, RecordStore } from '../base/record-store.js';
import type { ExportDirectory } from '../nbd/exports.js';
import type { Peer } from '../nbd/peer.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { KeyCustody, SetDisks } from '../sets/ports.js';
import type { SetService } from '../sets/set-service.js';
import { assertConfirmed } from './confirmation.js';
import { type CreateDiskOptions, createStore, planDisk } from './create-disk.js';
import type { AccessChange } from './disk-access.js';
import { DiskRunner } from './disk-runner.js';
import { codes } from './errors.js';
import type { DiskEvents } from './events.js';
import { createExportDirectory } from './export-directory.js';
import { HeaderStore } from './header-store.js';
import type { KeyExportRequest } from './key-export.js';
import { type PlatformKeySource, platformKeySource } from '../sets/platform.js';
import { Limiter } from './limiter.js';
import type { DiskClient, DiskPlane } from './ports.js';
import { type DiskRecord, diskRecordSchema } from './record.js';
import { DisksOfSets } from './set-disks.js';
import { type DiskView, viewDisk } from './view.js';

/** A revoked disk in restart mode is kept this long after its last client has gone. */
export const GRACE_MS_DEFAULT = 60_000;

/** Clients get this long to read that the disk shut down before their connections are closed. */
export const LINGER_MS_DEFAULT = 30_000;

/**
 * A whole host's disks come back at once: more stores opened in parallel would only queue in libuv.
 */
const OPENING_AT_ONCE_MAX = 16;

export interface DiskServiceOptions {
  readonly stateDir: string;
  readonly sets: SetService;
  readonly plane: DiskPlane;
  readonly custody: KeyCustody;
  /** Left out: the host has no platform key. */
  readonly platform?: PlatformKeySource;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly graceMs?: number;
  readonly lingerMs?: number;
}

/** Every disk of the daemon: records, states, commands. */
export class DiskService {
  readonly events: Emitter<DiskEvents>;
  /** What sets see of their disks. */
  readonly ofSets: SetDisks;
  readonly #options: DiskServiceOptions;
  readonly #records: RecordStore<DiskRecord>;
  readonly #headers: HeaderStore;
  readonly #platform: PlatformKeySource;
  readonly #opening = new Limiter(OPENING_AT_ONCE_MAX);
  readonly #runners = new Map<string, DiskRunner>();
  readonly #broken = new Map<string, BrokenRecord>();
  /** Names that a create or delete is at work on, with the set that a new disk will belong to. */
  readonly #busy = new Map<string, string | undefined>();
  readonly #unsubscribe: ReadonlyArray<() => void>;
  #closing = false;

  constructor(options: DiskServiceOptions) {
    const { logger, random, sets } = options;
    this.#options = options;
    this.events = new Emitter((error, kind) =>
      logger.error({ kind, cause: messageOf(error) }, 'a listener of disk events failed'),
    );
    this.#records = new RecordStore({
      directory: join(options.stateDir, 'disks'),
      schema: diskRecordSchema,
      uniqueId: (record) => record.uuid,
    });
    const platform = options.platform ?? platformKeySource(undefined);
    this.#platform = platform;
    this.#headers = new HeaderStore({ random, platform, plane: options.plane });
    this.ofSets = new DisksOfSets({
      runners: this.#runners,
      broken: () => this.broken(),
      names: (setId) => this.namesUsing(setId),
    });
    const changed = (event: { set: { id: string } }): void => this.#noteAccess(event.set.id);
    this.#unsubscribe = [
      // A grant by a PROOF is followed by `proof`.
      sets.events.on('granted', (event) => {
        if (event.by !== 'vault') changed(event);
      }),
      sets.events.on('denied', changed),
      sets.events.on('lapsed', changed),
      // Every PROOF, not only the one that changed the access: it retries whatever failed before.
      sets.events.on('proof', changed),
    ];
  }

  /**
   * Reads the records; attached disks come online with the first PROOF of their sets. After
   * sets.load().
   */
  async load(): Promise<void> {
    const { records, broken } = await this.#records.load();
    for (const record of broken) {
      this.#broken.set(record.name, record);
      this.#options.logger.error(
        { disk: record.name, cause: record.message },
        'disk record unusable',
      );
    }
    for (const record of records) this.#runners.set(record.name, this.#runnerFor(record));
    for (const runner of this.#runners.values()) {
      if (runner.record.movingTo !== null) await this.#settleMove(runner);
      runner.noteAccess();
    }
  }

  broken(): BrokenRecord[] {
    return [...this.#broken.values()];
  }

  /** Names of a set's disks, those that are just being created or moved to it included. */
  namesUsing(setId: string): string[] {
    const created = [...this.#busy].filter(([, id]) => id === setId).map(([name]) => name);
    const existing = [...this.#runners.values()]
      .filter(({ record }) => record.set.id === setId || record.movingTo?.id === setId)
      .map((runner) => runner.record.name);
    return [...new Set([...existing, ...created])].sort();
  }

  view(name: string): DiskView {
    return viewDisk(this.#get(name));
  }

  views(): DiskView[] {
    return [...this.eachView()];
  }

  /** Views in order of names, each made when it is asked for, without disks deleted meanwhile. */
  *eachView(): Generator<DiskView> {
    for (const name of [...this.#runners.keys()].sort()) {
      const runner = this.#runners.get(name);
      if (runner !== undefined) yield viewDisk(runner);
    }
  }

  /** How many there are and serve: cheaper than views, for what asks every second. */
  count(): { total: number; online: number } {
    let online = 0;
    for (const { state } of this.#runners.values()) if (state.state === 'online') online += 1;
    return { total: this.#runners.size, online };
  }

  clients(name: string): DiskClient[] {
    return this.#get(name).clients;
  }

  /** What this NBD client sees: disks that are online or suspended and admit it. */
  exportsFor(peer: Peer): ExportDirectory {
    const refused = (refusal: DiskEvents['refused']): void => this.events.emit('refused', refusal);
    return createExportDirectory(peer, { runners: this.#runners, refused });
  }

  /**
   * DEK, store with header, record; the disk is then offline(never-attached). If the call fails
   * nothing of it remains. Needs access to the set's key.
   */
  async create(options: CreateDiskOptions): Promise<DiskView> {
    const { sets, stateDir, random, clock } = this.#options;
    const set = sets.get(options.set);
    const context = {
      set,
      stateDir,
      uuid: random.uuid(),
      nowMs: clock.nowMs(),
      double: set.record.double,
    };
    const record = planDisk(options, context);
    return this.#exclusively(record.name, set.id, async () => {
      this.#assertNew(record);
      await this.#refreshAccess(options.set);
      return sets.hold(options.set, () => this.#createIn(set, record));
    });
  }

  async #createIn(set: EncryptionSet, record: DiskRecord): Promise<DiskView> {
    const { random, custody, plane } = this.#options;
    const [headers, platform] = [this.#headers, this.#platform];
    const created = await createStore(record, { set, custody, headers, plane, random, platform });
    try {
      await this.#records.save(record);
    } catch (error) {
      await this.#records.remove(record.name).catch(() => undefined);
      await created.remove();
      throw error;
    }
    const runner = this.#runnerFor(record);
    this.#runners.set(record.name, runner);
    const { sizeBytes, allow } = record;
    const store = record.store.path;
    this.events.emit('created', { disk: runner.ref, sizeBytes, store, allow });
    return viewDisk(runner);
  }

  /**
   * Probes first when access is not granted as far as is known, so that a key just enabled is seen.
   */
  async attach(name: string): Promise<DiskView> {
    const runner = this.#forCommand(name);
    await this.#refreshAccess(runner.record.set.name);
    await runner.attach();
    return viewDisk(runner);
  }

  async detach(name: string): Promise<DiskView> {
    const runner = this.#forCommand(name);
    await runner.detach();
    return viewDisk(runner);
  }

  async restart(name: string): Promise<DiskView> {
    const runner = this.#forCommand(name);
    await this.#refreshAccess(runner.record.set.name);
    await runner.restart();
    return viewDisk(runner);
  }

  /**
   * Changes who may use the disk. Sessions of peers that may no longer are closed: `disconnected`
   * of them. If the call fails nothing has changed.
   */
  async changeAllow(
    name: string,
    change: AccessChange,
  ): Promise<{ allow: readonly string[]; disconnected: number }> {
    const runner = this.#forCommand(name);
    const disconnected = await runner.changeAllow(change);
    return { allow: runner.record.allow, disconnected };
  }

  /** Seals the disk's DEK under the key of another set; data and sessions go on. */
  async move(name: string, setName: string): Promise<DiskView> {
    const runner = this.#forCommand(name);
    this.#options.sets.get(setName);
    await this.#refreshAccess(runner.record.set.name);
    await this.#refreshAccess(setName);
    await this.#options.sets.hold(setName, (target) => runner.keys.move(target));
    return viewDisk(runner);
  }

  /** Destroys the header of an offline disk: its data is unreadable for ever. */
  async erase(name: string, confirmation: string): Promise<DiskView> {
    const runner = this.#forCommand(name);
    assertConfirmed('erasing disk', name, confirmation);
    await runner.keys.erase();
    return viewDisk(runner);
  }

  /** Writes the DEK of a disk to a new file of this host (docs/KEYS.md section 8). */
  async exportKey(name: string, request: KeyExportRequest): Promise<void> {
    await this.#forCommand(name).keys.exportKey(request);
  }

  /**
   * Refused unless the disk is offline. The store stays, wherever it lies, unless `deleteStore`:
   * whoever deletes a disk by mistake still has its data, and the key that the header names.
   */
  async delete(name: string, options: { deleteStore: boolean }): Promise<void> {
    const runner = this.#get(name);
    await this.#exclusively(name, undefined, async () => {
      await runner.remove(options);
      this.#runners.delete(name);
      this.events.emit('deleted', { disk: runner.ref, storeRemoved: options.deleteStore });
    });
  }

  /** Takes every disk offline; their records keep them attached for the next start. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const end of this.#unsubscribe) end();
    await Promise.all([...this.#runners.values()].map((runner) => runner.shutdown()));
  }

  #forCommand(name: string): DiskRunner {
    if (this.#closing) throw closedError(name);
    return this.#get(name);
  }

  #get(name: string): DiskRunner {
    const runner = this.#runners.get(name);
    if (runner !== undefined) return runner;
    const broken = this.#broken.get(name);
    if (broken !== undefined) {
      throw new KeyholdError(
        codes.ERR_DISK_RECORD,
        `reading the record of disk ${name}: ${broken.path}: ${broken.message}`,
        { fields: { disk: name, path: broken.path } },
      );
    }
    throw new KeyholdError(codes.ERR_DISK_NOT_FOUND, `no disk ${quoteName(name)}`, {
      fields: { disk: name },
    });
  }

  #runnerFor(record: DiskRecord): DiskRunner {
    const { sets, plane, clock, random, custody } = this.#options;
    return new DiskRunner({
      record,
      custody,
      set: sets.byId(record.set.id),
      setById: (id) => sets.byId(id),
      plane,
      headers: this.#headers,
      records: this.#records,
      opening: this.#opening,
      clock,
      random,
      graceMs: this.#options.graceMs ?? GRACE_MS_DEFAULT,
      lingerMs: this.#options.lingerMs ?? LINGER_MS_DEFAULT,
      emit: (kind, event) => this.events.emit(kind, event),
    });
  }

  async #settleMove(runner: DiskRunner): Promise<void> {
    const { logger } = this.#options;
    try {
      await runner.keys.settleMove();
    } catch (error) {
      const disk = runner.record.name;
      logger.error({ disk, cause: messageOf(error) }, 'an interrupted move cannot be settled');
    }
  }

  #noteAccess(setId: string): void {
    for (const runner of this.#runners.values()) {
      if (runner.record.set.id === setId) runner.noteAccess();
    }
  }

  async #refreshAccess(setName: string): Promise<void> {
    const set = this.#options.sets.list().find((candidate) => candidate.name === setName);
    if (set === undefined || set.access.kind === 'granted') return;
    await set.probe();
  }

  #assertNew({ name, store }: DiskRecord): void {
    if (this.#runners.has(name) || this.#broken.has(name)) {
      throw new KeyholdError(
        codes.ERR_DISK_EXISTS,
        `creating disk ${name}: ${this.#records.pathOf(name)} exists already`,
        { fields: { disk: name } },
      );
    }
    const other = [...this.#runners.values()].find(
      (runner) => runner.record.store.path === store.path,
    );
    if (other === undefined) return;
    throw new KeyholdError(
      codes.ERR_STORE_EXISTS,
      `creating disk ${name}: store ${store.path} is that of disk ${other.record.name}`,
      { fields: { disk: name, other: other.record.name } },
    );
  }

  async #exclusively<T>(
    name: string,
    setId: string | undefined,
    work: () => Promise<T>,
  ): Promise<T> {
    if (this.#closing) throw closedError(name);
    if (this.#busy.has(name)) {
      throw new KeyholdError(
        codes.ERR_DISK_BUSY,
        `disk ${name}: another command is creating or deleting it`,
        { fields: { disk: name } },
      );
    }
    this.#busy.set(name, setId);
    try {
      return await work();
    } finally {
      this.#busy.delete(name);
    }
  }
}

function closedError(name: string): KeyholdError {
  return new KeyholdError(codes.ERR_DISK_CLOSED, `disk ${name}: the daemon is stopping`, {
    fields: { disk: name },
  });
}

// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSilentLogger } from '../../src/base/logger.js';
import type { Random } from '../../src/base/random.js';
import { type CreateDiskOptions } from '../../src/disks/create-disk.js';
import { DiskService } from '../../src/disks/disk-service.js';
import type { DiskEvents } from '../../src/disks/events.js';
import { platformKeySource } from '../../src/sets/platform.js';
import type { SetEvents } from '../../src/sets/access.js';
import type { CreateSetOptions } from '../../src/sets/create-set.js';
import { SetService } from '../../src/sets/set-service.js';
import { FakeClock, ProcessClock } from './fake-clock.js';
import { FakePlane, type FakePlaneDisk } from './fake-plane.js';
import { FakePlatformKey } from './fake-seal.js';
import { FakeCustody } from './fake-custody.js';
import { FakeVault } from './fake-vault.js';
import { fixedRandom } from './fixed-random.js';

export const KEY_URL = 'https://vault.example/keys/k/v1';

export type Told =
  | { readonly kind: keyof SetEvents; readonly event: unknown }
  | { readonly kind: keyof DiskEvents; readonly event: unknown };

const SET_EVENTS = [
  'verdict',
  'proof',
  'granted',
  'denied',
  'lapsed',
  'alarm',
  'set-key',
  'created',
  'deleted',
  'availability',
  'changed',
  'rewrapped',
  'retired',
  'rotation',
  'purged',
  'drill',
] as const;
const DISK_EVENTS = [
  'created',
  'deleted',
  'state',
  'unlocked',
  'suspended',
  'offline-receipt',
  'offline-failed',
  'clients-disconnected',
  'open-failed',
  'header-damaged',
  'store-error',
  'store-buffered',
  'record-error',
  'clients',
  'allow-changed',
  'client-expelled',
  'refused',
  'header-rewrapped',
  'moved',
  'erased',
] as const;

/** Sets and disks on a real state directory, with fake clock, vault, custody and data plane. */
export class World {
  readonly clock: FakeClock;
  readonly custody: FakeCustody;
  readonly vault: FakeVault;
  readonly plane: FakePlane;
  readonly sets: SetService;
  readonly disks: DiskService;
  readonly stateDir: string;
  /** The host's; none unless a test sets it. */
  platform: FakePlatformKey | undefined;
  readonly told: Told[] = [];
  readonly #random: Random;
  readonly #processClock: ProcessClock;

  private constructor(stateDir: string, from?: World) {
    this.stateDir = stateDir;
    this.clock = from?.clock ?? new FakeClock();
    this.custody = from?.custody ?? new FakeCustody(this.clock);
    this.vault = from?.vault ?? new FakeVault(this.clock, this.custody);
    this.#random = from === undefined ? fixedRandom() : from.#random;
    this.#processClock = new ProcessClock(this.clock);
    this.plane = new FakePlane(this.#processClock);
    this.platform = from?.platform;
    const common = {
      stateDir,
      clock: this.#processClock,
      custody: this.custody,
      random: this.#random,
      logger: createSilentLogger(),
    };
    this.sets = new SetService({
      ...common,
      vault: this.vault,
      disks: () => this.disks.ofSets,
      platform: () => platformKeySource(this.platform)(),
    });
    this.disks = new DiskService({
      ...common,
      sets: this.sets,
      plane: this.plane,
      platform: () => platformKeySource(this.platform)(),
    });
    for (const kind of SET_EVENTS) {
      this.sets.events.on(kind, (event) => this.told.push({ kind, event }));
    }
    for (const kind of DISK_EVENTS) {
      this.disks.events.on(kind, (event) => this.told.push({ kind, event }));
    }
  }

  static async create(): Promise<World> {
    const world = new World(await mkdtemp(join(tmpdir(), 'keyhold-world-')));
    await world.load();
    return world;
  }

  async load(): Promise<void> {
    await this.sets.load();
    await this.disks.load();
    this.sets.resume();
  }

  /** The daemon after a restart: same directory, vault and clock, nothing in memory. */
  async reborn(options: { crash?: boolean; load?: boolean } = {}): Promise<World> {
    if (options.crash === true) {
      this.kill();
    } else {
      await this.during(this.disks.close());
      this.sets.close();
    }
    this.vault.hangUp();
    const world = new World(this.stateDir, this);
    if (options.load !== false) await world.load();
    return world;
  }

  /**
   * What a killed process leaves of its memory and timers: nothing. File operations that are under
   * way go on, unless they die with it (dying-files.ts).
   */
  kill(): void {
    this.#processClock.kill();
    this.vault.hangUp();
    for (const disk of this.plane.open.values()) disk.kill();
    for (const key of this.custody.liveKeys) key.wipe();
    this.sets.close();
  }

  async destroy(): Promise<void> {
    await this.during(this.disks.close());
    this.sets.close();
    await rm(this.stateDir, { recursive: true, force: true });
  }

  /** Lets the clock run until `work` is done: for calls that wait for timers. */
  async during<T>(work: Promise<T>, stepMs = 50): Promise<T> {
    const progress = { done: false };
    const watched = work.finally(() => {
      progress.done = true;
    });
    watched.catch(() => undefined);
    for (let step = 0; step < 2000; step += 1) {
      await this.rest();
      if (progress.done) break;
      await this.clock.advance(stepMs);
    }
    return watched;
  }

  /** Moves the clock, and gives real file operations time to end. */
  async pass(durationMs: number): Promise<void> {
    await this.clock.advance(durationMs);
    await this.rest();
  }

  /** Waits until only the fake clock can bring anything further: no file operation is under way. */
  async rest(): Promise<void> {
    for (let quietTurns = 0; quietTurns < 3;) {
      await this.clock.settle();
      if (fileOperations() === 0) quietTurns += 1;
      else {
        quietTurns = 0;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  async createSet(options: Partial<CreateSetOptions> = {}): Promise<void> {
    const filled = { name: 's', keyUrl: KEY_URL, identity: 'main', mode: 'immediate', ...options };
    await this.during(this.sets.create(filled as CreateSetOptions));
  }

  async createDisk(options: Partial<CreateDiskOptions> = {}): Promise<void> {
    await this.during(this.disks.create({ name: 'd', set: 's', sizeBytes: 1 << 20, ...options }));
  }

  /** A set `s` with a disk `d` that is online. */
  static async withDisk(options: Partial<CreateSetOptions> = {}): Promise<World> {
    const world = await World.create();
    await world.createSet(options);
    await world.createDisk();
    await world.during(world.disks.attach('d'));
    return world;
  }

  planeDisk(name = 'd'): FakePlaneDisk {
    const disk = this.plane.open.get(name);
    if (disk === undefined) throw new Error(`plane has no disk ${name}`);
    return disk;
  }

  /** `online`, `online revoked`, `suspended`, `offline(reason)`. */
  state(name = 'd'): string {
    const { state, reason, revoked } = this.disks.view(name);
    if (reason !== null) return `${state}(${reason})`;
    return revoked ? `${state} revoked` : state;
  }

  events<K extends keyof DiskEvents>(kind: K): Array<DiskEvents[K]> {
    return this.told
      .filter((told) => told.kind === kind)
      .map((told) => told.event as DiskEvents[K]);
  }

  setEvents<K extends keyof SetEvents>(kind: K): Array<SetEvents[K]> {
    return this.told.filter((told) => told.kind === kind).map((told) => told.event as SetEvents[K]);
  }
}

/** Requests to the file system that the event loop waits for. */
function fileOperations(): number {
  return process.getActiveResourcesInfo().filter((resource) => /^(FSReq|CloseReq)/.test(resource))
    .length;
}

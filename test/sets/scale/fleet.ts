// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSilentLogger } from '../../../src/base/logger.js';
import type { Random } from '../../../src/base/random.js';
import type { EncryptionSet } from '../../../src/sets/encryption-set.js';
import type { KeyCustody, LeaseHandle } from '../../../src/sets/ports.js';
import type { SetDisks } from '../../../src/sets/ports.js';
import { SetService } from '../../../src/sets/set-service.js';
import type { ClosableVaultAccess } from '../../../src/vault/access.js';
import { VaultBudget } from '../../../src/vault/budget.js';
import { budgeted } from '../../../src/vault/budgeted.js';
import type { SetKeyHandle } from '../../../src/vault/types.js';
import { type KeyKind, VaultModel } from './vault-model.js';
import { seededFraction, VirtualClock } from './virtual-clock.js';

export const INTERVAL_MS = 10_000;
export const LEASE_MS = 15 * 60_000;

/** How long a disk waits before it asks for its key again after a failure. */
const RETRY_MS = 1000;

class SimLease implements LeaseHandle {
  #deadlineBootMs = 0;
  renew(proofStartBootMs: number, durationMs: number): void {
    this.#deadlineBootMs = Math.max(this.#deadlineBootMs, proofStartBootMs + durationMs);
  }
  end(): void {
    this.#deadlineBootMs = 0;
  }
  deadlineBootMs(): number {
    return this.#deadlineBootMs;
  }
}

class SimKey implements SetKeyHandle {
  wiped = false;
  wipe(): void {
    this.wiped = true;
  }
}

/** Keys without bytes: what is simulated is when they come and go. */
function simCustody(kind: KeyKind): KeyCustody {
  const custody: Partial<KeyCustody> = {
    generateSetKey: () => new SimKey(),
    wrapSetKey: () => new Uint8Array(randomBytes(kind.sizeBits / 8)),
    sameSetKey: () => true,
    createLease: () => new SimLease(),
    bindLease: () => undefined,
  };
  return custody as KeyCustody;
}

export interface FleetOptions {
  readonly stateDir: string;
  readonly kind: KeyKind;
  readonly seed: number;
  readonly disksPerSet: number;
  /** Calls go to the vault as they come: what the budget is there to prevent. */
  readonly unbudgeted?: boolean;
}

/** The simulated disks are counters: no header, no record. */
const NO_DISKS: SetDisks = {
  names: () => [],
  facts: () => [],
  headers: () => Promise.resolve([]),
  rewrap: () => Promise.resolve([]),
  followLease: () => Promise.resolve(),
  eraseAll: () => Promise.resolve({ erased: [], failed: [] }),
};

/**
 * A daemon's sets, with the real service, schedulers, caches and budget, on a modelled vault and in
 * virtual time. A disk is online from when it was lent its set's key until access ends.
 */
export class Fleet {
  readonly clock = new VirtualClock();
  readonly model: VaultModel;
  readonly budget: VaultBudget;
  readonly vault: ClosableVaultAccess;
  readonly sets: SetService;
  /** Boot times of the events of each set. */
  readonly deniedBootMs = new Map<string, number>();
  readonly provedBootMs = new Map<string, number>();
  readonly startedBootMs: number;
  lapses = 0;
  keyFailures = 0;
  disksOnline = 0;
  lastOnlineBootMs = 0;
  readonly #onlineBySet = new Map<string, number>();
  readonly #disksPerSet: number;

  constructor({ stateDir, kind, seed, disksPerSet, unbudgeted }: FleetOptions) {
    const { clock } = this;
    const fraction = seededFraction(seed);
    const random: Random = {
      bytes: (lengthBytes) => new Uint8Array(randomBytes(lengthBytes)),
      uuid: () => crypto.randomUUID(),
      fraction,
    };
    this.#disksPerSet = disksPerSet;
    this.startedBootMs = clock.bootMs();
    this.model = new VaultModel({ clock, kind, fraction, adopt: () => new SimKey() });
    this.budget = new VaultBudget({ clock, random });
    this.vault =
      unbudgeted === true ? this.model : budgeted(this.model, { budget: this.budget, clock });
    this.sets = new SetService({
      stateDir,
      vault: this.vault,
      custody: simCustody(kind),
      clock,
      random,
      logger: createSilentLogger(),
      disks: () => NO_DISKS,
    });
    this.#watch();
  }

  /** A state directory with sets whose keys all lie in one vault. */
  static async prepare(kind: KeyKind, setCount: number): Promise<string> {
    const stateDir = await mkdtemp(join(tmpdir(), 'keyhold-scale-'));
    const fleet = new Fleet({ stateDir, kind, seed: 1, disksPerSet: 0 });
    await fleet.sets.load();
    const names = Array.from({ length: setCount }, (_, index) => `s${index}`);
    const created = Promise.all(
      names.map((name) =>
        fleet.sets.create({ name, keyUrl: keyUrl(name), identity: 'main', mode: 'immediate' }),
      ),
    );
    const progress = { done: false };
    void created.catch(() => undefined).finally(() => (progress.done = true));
    while (!progress.done) {
      await fleet.run(500);
      // Records are written for real.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await created;
    fleet.close();
    return stateDir;
  }

  static async remove(stateDir: string): Promise<void> {
    await rm(stateDir, { recursive: true, force: true });
  }

  /** Lets virtual time pass. */
  async run(durationMs: number): Promise<void> {
    await this.clock.run(this.clock.bootMs() + durationMs);
  }

  close(): void {
    this.sets.close();
    this.vault.close();
  }

  #watch(): void {
    const { clock, sets } = this;
    sets.events.on('granted', ({ set }) => this.#attachAll(sets.get(set.name)));
    sets.events.on('proof', ({ set }) => this.provedBootMs.set(set.name, clock.bootMs()));
    sets.events.on('denied', ({ set }) => {
      this.deniedBootMs.set(set.name, clock.bootMs());
      this.#offline(set.name);
    });
    sets.events.on('lapsed', ({ set }) => {
      this.lapses += 1;
      this.#offline(set.name);
    });
  }

  #attachAll(set: EncryptionSet): void {
    for (let disk = 0; disk < this.#disksPerSet; disk += 1) void this.#attach(set);
  }

  async #attach(set: EncryptionSet): Promise<void> {
    while (set.access.kind === 'granted') {
      try {
        await set.useSetKey(() => {
          this.disksOnline += 1;
          this.#onlineBySet.set(set.name, (this.#onlineBySet.get(set.name) ?? 0) + 1);
          this.lastOnlineBootMs = this.clock.bootMs();
        });
        return;
      } catch {
        this.keyFailures += 1;
        await this.clock.wait(RETRY_MS);
      }
    }
  }

  #offline(name: string): void {
    this.disksOnline -= this.#onlineBySet.get(name) ?? 0;
    this.#onlineBySet.delete(name);
  }
}

/** Without version, so that a look finds the newest. */
export function keyUrl(name: string): string {
  return `https://vault.example/keys/${name}`;
}

// SPDX-License-Identifier: Apache-2.0
import type { EncryptionSet } from '../../src/sets/encryption-set.js';
import { counts, type SetRecord } from '../../src/sets/record.js';
import type { FakePlaneDisk } from './fake-plane.js';
import type { FakePlatformKey } from './fake-seal.js';
import { type FakeSetKey } from './fake-custody.js';
import { FakeVault } from './fake-vault.js';
import { type Durable, readDurable } from './key-durable.js';
import type { Command } from './key-steps.js';
import type { World } from './world.js';

/** Commands that may have a set key in memory whatever the set's access is. */
const REWRAPS: ReadonlySet<Command['kind']> = new Set(['rotate', 'assign', 'assign-platform']);

/** Knows the promises of docs/KEYS.md and whether a world keeps them. */
export class KeyJudge {
  readonly #platformKey: FakePlatformKey;
  readonly #accusations: string[] = [];
  /** DEKs as the disks were created with, and set keys as they were first seen. */
  readonly #deks = new Map<string, Buffer>();
  readonly #setKeys = new Map<string, Buffer>();
  /** Disks whose header may be destroyed, and those that were told to be. */
  readonly #erasing = new Set<string>();
  readonly #erased = new Set<string>();
  readonly #purgeBegun = new Set<string>();
  /** Of each set the versions that were denied since their last PROOF. */
  readonly #denied = new Map<string, Set<string>>();
  #busy: Command[] = [];
  #restarted = false;

  constructor(platformKey: FakePlatformKey) {
    this.#platformKey = platformKey;
  }

  accuse(what: string): void {
    this.#accusations.push(what);
  }

  begin(command: Command, world: World): void {
    this.#busy.push(command);
    if (command.kind !== 'erase') return;
    const view = world.disks.views().find(({ name }) => name === command.disk);
    if (view?.state === 'offline') this.#erasing.add(view.uuid);
  }

  finish(command: Command): void {
    this.#busy = this.#busy.filter((other) => other !== command);
  }

  /** The process is another one. */
  forget(): void {
    this.#busy = [];
    this.#restarted = true;
  }

  watch(world: World, dead: () => boolean): void {
    this.#watchVault(world);
    const { sets, disks } = world;
    sets.events.on('verdict', ({ set, kid, verdict }) => {
      const denied = this.#denied.get(set.id) ?? new Set();
      this.#denied.set(set.id, denied);
      if (verdict.kind === 'DENIED') denied.add(kid);
      if (verdict.kind === 'PROOF') denied.delete(kid);
    });
    sets.events.on('granted', ({ set }) => {
      if (sets.get(set.name).record.purge !== null) this.accuse(`${set.name} granted: purged`);
    });
    sets.events.on('denied', ({ set }) => {
      for (const disk of servingOf(world, sets.get(set.name))) {
        if (sets.get(set.name).record.mode === 'restart') continue;
        this.accuse(`${disk.spec.name} has its DEK although ${set.name} was just denied`);
      }
    });
    disks.events.on('unlocked', ({ disk }) => {
      const { kind } = sets.get(disk.set.name).access;
      if (kind !== 'granted') this.accuse(`${disk.name} unlocked while access is ${kind}`);
    });
    disks.events.on('offline-failed', ({ disk, code, message }) => {
      if (!dead()) this.accuse(`${disk.name} offline-failed: ${code} ${message}`);
    });
    disks.events.on('erased', ({ disk }) => {
      this.#erasing.add(disk.uuid);
      if (!dead()) this.#erased.add(disk.uuid);
    });
  }

  /** Only at rest: nothing but the clock may bring anything further. */
  async assertInvariants(world: World): Promise<void> {
    const durable = await readDurable(world, this.#platformKey);
    if (this.#restarted) this.#remember(durable);
    for (const set of world.sets.list()) this.#judgeSet(world, set);
    for (const key of world.custody.liveKeys) this.#judgeSetKey(world, key);
    for (const disk of world.plane.open.values()) this.#judgeServing(world, disk);
    for (const disk of durable.disks) this.#judgeHeader(durable, disk);
    for (const record of durable.sets.values()) this.#judgePurge(record);
    await this.#judgeSafeToDisable(world, durable);
    for (const { name, uuid, reason } of world.disks.views()) {
      if (this.#erased.has(uuid) && reason !== 'erased') this.accuse(`${name} was erased`);
    }
    if (this.#accusations.length > 0) throw new Error(this.#accusations.join('\n'));
  }

  /** With every vault, store and platform key there, and time to act on it. */
  async assertHealed(world: World): Promise<void> {
    await this.assertInvariants(world);
    for (const { record, access } of world.sets.list()) {
      const { name, purge, keys, spreading } = record;
      if (purge !== null) {
        if (purge.finishedAt === null) throw new Error(`the purge of ${name} does not end`);
        continue;
      }
      if (access.kind !== 'granted') throw new Error(`set ${name} is ${access.kind}`);
      const stale = keys.filter(({ role }) => role !== 'current').map(({ kid }) => kid);
      if (stale.length > 0 || spreading) {
        const { rotationTrouble } = world.sets.view(name);
        const why = JSON.stringify(rotationTrouble);
        throw new Error(`the rewrap of ${name} does not end: ${stale.join(' ')} ${why}`);
      }
    }
    for (const { name, uuid, set, attached, state, reason, message } of world.disks.views()) {
      if (world.sets.get(set).record.purge !== null || reason === 'erased') continue;
      if (attached !== (state === 'online')) {
        throw new Error(`disk ${name} is ${state} (${String(reason)}: ${String(message)})`);
      }
      const dek = world.plane.open.get(name)?.dek;
      if (attached && dek?.equals(this.#deks.get(uuid) ?? Buffer.of()) !== true) {
        throw new Error(`disk ${name} has not the DEK that it was made with`);
      }
    }
  }

  #isBusy(set: string, kinds: ReadonlySet<Command['kind']>): boolean {
    return this.#busy.some((command) => {
      return kinds.has(command.kind) && 'set' in command && command.set === set;
    });
  }

  #judgeSet(world: World, { record, access, name }: EncryptionSet): void {
    if (record.purge !== null && access.kind === 'granted') this.accuse(`${name} is purged`);
    if (access.kind !== 'granted' || access.by !== 'availability') return;
    for (const { kid } of record.keys.filter(counts)) {
      if (this.#denied.get(record.id)?.has(kid) !== true) continue;
      this.accuse(`${name} is granted by its availability key, and ${kid} was denied`);
    }
  }

  #judgeSetKey(world: World, key: FakeSetKey): void {
    const owner = [...this.#setKeys].find(([, bytes]) => bytes.equals(key.bytes))?.[0];
    const set = owner === undefined ? undefined : world.sets.byId(owner);
    if (set === undefined) return;
    if (set.access.kind === 'granted' || this.#isBusy(set.name, REWRAPS)) return;
    this.accuse(`the key of ${set.name} is in memory while access is ${set.access.kind}`);
  }

  #judgeServing(world: World, { spec, dek }: FakePlaneDisk): void {
    if (dek === undefined) return;
    const view = world.disks.views().find(({ uuid }) => uuid === spec.uuid);
    if (view === undefined) return;
    const where = `${spec.name} of ${view.set}, ${view.state}`;
    if (this.#erased.has(spec.uuid)) this.accuse(`${where}: it was erased, and has a DEK`);
    const known = this.#deks.get(spec.uuid);
    if (known !== undefined && !dek.equals(known)) this.accuse(`${where}: another DEK`);
    const set = world.sets.get(view.set);
    if (set.record.purge !== null && !this.#isBusy(set.name, new Set(['purge']))) {
      this.accuse(`${where}: its set was purged, and it has a DEK`);
    }
    if (!set.hasLease || set.record.mode === 'restart') return;
    const holds = set.lease.deadlineBootMs() > world.clock.bootMs();
    // Until an assignment has ended, a probe's time limit after the new key's PROOF at most, disks
    // of a set that comes from the platform key are bound as before: to no lease.
    if (holds || this.#isBusy(set.name, REWRAPS)) return;
    this.accuse(`${where}: a DEK without a lease, access is ${set.access.kind}`);
  }

  #judgeHeader(
    { sets }: Durable,
    { record, header, setKeys, dek }: Durable['disks'][number],
  ): void {
    if (header === undefined) return;
    const { token } = header;
    const where = `the header of ${record.name} (${token.set.name})`;
    const set = sets.get(token.set.id);
    if (set === undefined) {
      this.accuse(`${where} belongs to no set`);
      return;
    }
    const belongs = [record.set.id, record.movingTo?.id].includes(set.id);
    if (!belongs) this.accuse(`${where}: the record says ${record.set.name}`);
    if (set.purge !== null) return;
    const kids = token.wrappedSetKeys.map(({ kid }) => kid);
    const usable = namesOf(set);
    const named = `${where} names ${kids.join(' ')}, the record ${usable.join(' ')}`;
    // Between a customer key and the platform key the record is enough until the header follows.
    const platform = set.platform !== null || kids.some((kid) => kid.startsWith('platform:'));
    if (!kids.some((kid) => usable.includes(kid)) && !(platform && set.spreading)) {
      this.accuse(named);
    }
    const known = this.#setKeys.get(set.id) ?? setKeys[0];
    if (known !== undefined) this.#setKeys.set(set.id, known);
    if (!setKeys.every((key) => known?.equals(key))) this.accuse(`${where}: another set key`);
    if (dek === undefined) {
      this.accuse(`${where} opens with none of ${kids.join(' ')}`);
      return;
    }
    const before = this.#deks.get(record.uuid);
    if (before === undefined) this.#deks.set(record.uuid, dek);
    else if (!before.equals(dek)) this.accuse(`${where}: another DEK`);
  }

  #judgePurge({ id, name, keys, platform, availability, purge }: SetRecord): void {
    const left = keys.length > 0 || platform !== null || availability !== null;
    if (purge === null) return;
    if (!left) this.#purgeBegun.add(id);
    else if (this.#purgeBegun.has(id)) this.accuse(`${name}: a set key after the purge`);
  }

  async #judgeSafeToDisable(world: World, { disks }: Durable): Promise<void> {
    for (const { name, id, record } of world.sets.list()) {
      const view = await world.sets.show(name);
      const safe = [...view.keys, ...view.retired].filter((key) => key.safeToDisable === true);
      for (const { id: kid } of safe) {
        if (namesOf(record).includes(kid)) this.accuse(`${kid} safe: the record of ${name} has it`);
        for (const { header, record: disk } of disks) {
          if (header?.token.set.id !== id) continue;
          if (!header.token.wrappedSetKeys.some((key) => key.kid === kid)) continue;
          this.accuse(`${kid} safe: the header of ${disk.name} in ${name} names it`);
        }
      }
    }
  }

  /** What was only in memory is lost; what the record says stands. */
  #remember({ sets }: Durable): void {
    this.#restarted = false;
    for (const { id, denied } of sets.values()) {
      const kids = new Set(denied.map(({ kid }) => kid));
      const seen = [...(this.#denied.get(id) ?? [])].filter((kid) => kids.has(kid));
      this.#denied.set(id, new Set(seen));
    }
  }

  /** One probe of a set's canary in flight for each (identity, kid); one unwrap of a set key. */
  #watchVault(world: World): void {
    const { vault } = world;
    // eslint-disable-next-line @typescript-eslint/unbound-method -- called on the vault below
    const { probe, unwrapSetKey: unwrap } = FakeVault.prototype;
    const inFlight = new Set<string>();
    const once = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
      if (inFlight.has(what)) this.accuse(`two at once: ${what}`);
      inFlight.add(what);
      try {
        return await work();
      } finally {
        inFlight.delete(what);
      }
    };
    vault.probe = (request) => {
      const asked = Buffer.from(request.canary.wrapped).toString('base64');
      const ofSet = world.sets.list().some(({ record }) => {
        return record.keys.some(({ canary }) => canary.wrapped === asked);
      });
      const ask = (): Promise<Awaited<ReturnType<typeof probe>>> => probe.call(vault, request);
      return ofSet ? once(`probe of ${request.kid}`, ask) : ask();
    };
    vault.unwrapSetKey = (request) => {
      const wrapped = Buffer.from(request.wrapped).toString('base64');
      const what = `unwrap of ${request.kid} ${wrapped.slice(0, 20)}`;
      const ask = (): ReturnType<typeof unwrap> => unwrap.call(vault, request);
      // A rewrap of a set that is not granted has its own.
      return this.#busy.some(({ kind }) => REWRAPS.has(kind)) ? ask() : once(what, ask);
    };
  }
}

/** Disks of the set that have a DEK. */
function servingOf(world: World, { id }: EncryptionSet): FakePlaneDisk[] {
  return [...world.plane.open.values()].filter(({ spec, dek }) => {
    const view = world.disks.views().find(({ uuid }) => uuid === spec.uuid);
    return dek !== undefined && view !== undefined && world.sets.get(view.set).id === id;
  });
}

function namesOf({ keys, platform }: SetRecord): string[] {
  const kids = keys.map(({ kid }) => kid);
  return platform === null ? kids : [...kids, `platform:${platform.keyId}`];
}

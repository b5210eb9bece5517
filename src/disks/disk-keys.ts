// SPDX-License-Identifier: Apache-2.0
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { encodeDekAad } from '../luks2/dek-aad.js';
import type { HeaderMetadata } from '../luks2/metadata.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { HeaderReport, KeyCustody } from '../sets/ports.js';
import type { WrappedKey } from '../sets/wrapped-keys.js';
import type { LifecycleEvent } from './control.js';
import type { DiskHands } from './disk-hands.js';
import { codes } from './errors.js';
import type { DiskRef, DiskStateView, EmitDiskEvent } from './events.js';
import { dekOf, type HeaderStore } from './header-store.js';
import { exportKey, type KeyExportRequest, validateKeyExport } from './key-export.js';
import type { DiskRecord } from './record.js';

/** The disk that a DiskKeys works on; its runner. */
export interface DiskSeat {
  ref(): DiskRef;
  record(): DiskRecord;
  state(): DiskStateView;
  set(): EncryptionSet | undefined;
  readonly hands: DiskHands;
  /** Writes the record; if it rejects nothing has changed. */
  save(record: DiskRecord): Promise<void>;
  /** From now on the disk belongs to this set. */
  join(set: EncryptionSet): void;
  process(event: LifecycleEvent): Promise<void>;
}

export interface DiskKeysOptions {
  readonly seat: DiskSeat;
  readonly headers: HeaderStore;
  readonly custody: KeyCustody;
  readonly emit: EmitDiskEvent;
  /** Undefined when the set's record cannot be used. */
  readonly setById: (id: string) => EncryptionSet | undefined;
  /** Runs work in the disk's turn: nothing else happens to it meanwhile. */
  readonly inTurn: <T>(doing: string, work: () => Promise<T>) => Promise<T>;
}

/** What is done with the key of one disk besides using it (docs/KEYS.md sections 2 and 6). */
export class DiskKeys {
  readonly #options: DiskKeysOptions;

  constructor(options: DiskKeysOptions) {
    this.#options = options;
  }

  /**
   * What the header depends on, if it is one of this set; undefined if not, and when the disk was
   * erased. Never rejects.
   */
  async report(setId: string): Promise<HeaderReport | undefined> {
    const { seat, headers } = this.#options;
    const disk = seat.ref().name;
    if (isErased(seat.state())) return undefined;
    try {
      const metadata = await headers.read(seat.record());
      if (metadata.token.set.id !== setId) return undefined;
      return { disk, kids: kidsOf(metadata), error: null };
    } catch (error) {
      return { disk, kids: null, error: messageOf(error) };
    }
  }

  /**
   * Makes a header of this set carry exactly these wrapped set keys. Resolves as `report` does;
   * never rejects.
   */
  async rewrap(setId: string, keys: readonly WrappedKey[]): Promise<HeaderReport | undefined> {
    const { seat, inTurn } = this.#options;
    const before = await this.report(setId);
    const moves = seat.record().movingTo !== null;
    if (!moves && (before === undefined || carries(before, keys))) return before;
    try {
      return await inTurn('rewrapping', () => this.#rewrapInTurn(setId, keys));
    } catch (error) {
      return { disk: seat.ref().name, kids: null, error: messageOf(error) };
    }
  }

  async #rewrapInTurn(
    setId: string,
    keys: readonly WrappedKey[],
  ): Promise<HeaderReport | undefined> {
    const { seat, headers, emit } = this.#options;
    // Until its turn came the disk may have moved away or been erased.
    const before = await this.report(setId);
    if (before?.kids == null || carries(before, keys)) return before;
    const updated = await headers.update(seat.record(), (metadata) => ({
      ...metadata,
      token: { ...metadata.token, wrappedSetKeys: keys },
    }));
    const kids = kidsOf(updated);
    emit('header-rewrapped', { disk: seat.ref(), kids });
    return { disk: seat.ref().name, kids, error: null };
  }

  /** Binds the disk to the lease of its set as the set's record now wants it. */
  async followLease(): Promise<void> {
    const { seat, inTurn } = this.#options;
    await inTurn('binding', async () => {
      const set = seat.set();
      if (set !== undefined) await this.#bind(set);
    });
  }

  /**
   * Writes the disk's DEK to a new file. The keys of the set are probed first: what has left cannot
   * be called back. If it rejects there is no file.
   */
  async exportKey(request: KeyExportRequest): Promise<void> {
    const { seat, inTurn } = this.#options;
    validateKeyExport(seat.record(), request);
    await seat.set()?.probe();
    await inTurn('exporting the key of', () => exportKey(this.#options, request));
  }

  /**
   * Destroys the disk's header: its data is unreadable for ever. Refused unless offline. If it
   * rejects before anything was overwritten, nothing has changed.
   */
  async erase(): Promise<void> {
    const { seat, inTurn } = this.#options;
    await inTurn('erasing', async () => {
      if (isErased(seat.state())) return;
      const { name: disk } = seat.ref();
      const { state: actual } = seat.state();
      if (actual !== 'offline') {
        throw new KeyholdError(
          codes.ERR_DISK_ONLINE,
          `erasing disk ${disk}: it is ${actual}, expected offline`,
          { fields: { disk, actual, expected: 'offline' } },
        );
      }
      await this.#eraseInTurn();
    });
  }

  /**
   * The same whatever the state, as part of the purge of a set. Resolves to false, and nothing has
   * changed, when a move that was interrupted has left the disk to another set.
   */
  async eraseWith(setId: string): Promise<boolean> {
    const { seat, headers, inTurn } = this.#options;
    return inTurn('erasing', async () => {
      if (isErased(seat.state())) return true;
      if (seat.record().movingTo !== null) {
        const { token } = await headers.read(seat.record());
        if (token.set.id !== setId) return false;
      }
      await this.#eraseInTurn();
      return true;
    });
  }

  async #eraseInTurn(): Promise<void> {
    const { seat, headers, emit } = this.#options;
    await seat.process({ kind: 'shutdown' });
    const discarded = await headers.erase(seat.record());
    await seat.process({ kind: 'erased' });
    emit('erased', { disk: seat.ref(), store: seat.record().store.path, discarded });
  }

  /**
   * Seals the DEK under the key of another set, whatever the disk's state; data and sessions go on.
   * docs/KEYS.md section 2 has the durable steps. If it rejects the disk belongs to the set that
   * its header names; where that cannot be read, the next attach or start finds out.
   */
  async move(target: EncryptionSet): Promise<void> {
    const { seat, emit, inTurn } = this.#options;
    await inTurn('moving', async () => {
      const source = seat.set();
      const { name: disk } = seat.ref();
      if (source === undefined) throw new Error(`disk ${disk} has no encryption set`);
      if (source.id === target.id) return;
      assertMovable(seat, target);
      await seat.save({ ...seat.record(), movingTo: target.ref });
      try {
        await this.#reseal(source, target);
      } catch (error) {
        await this.settleMoveInTurn().catch(() => undefined);
        throw error;
      }
      await seat.save({ ...seat.record(), set: target.ref, movingTo: null });
      seat.join(target);
      await this.#bind(target);
      emit('moved', { disk: seat.ref(), from: source.ref });
    });
  }

  async settleMove(): Promise<void> {
    await this.#options.inTurn('settling a move of', () => this.settleMoveInTurn());
  }

  /** After a move that was interrupted: the header says which set the disk belongs to. */
  async settleMoveInTurn(): Promise<void> {
    const { seat, headers, setById } = this.#options;
    const { movingTo } = seat.record();
    if (movingTo === null) return;
    const { token } = await headers.read(seat.record());
    const target = setById(movingTo.id);
    if (token.set.id === movingTo.id && target !== undefined) {
      await seat.save({ ...seat.record(), set: target.ref, movingTo: null });
      seat.join(target);
    } else if (token.set.id === seat.record().set.id) {
      await seat.save({ ...seat.record(), movingTo: null });
    }
  }

  /**
   * A lease that does not hold is refused by the data plane: then the disk loses its key, as its
   * set's access says. Its unlocking binds it.
   */
  async #bind(set: EncryptionSet): Promise<void> {
    const { seat } = this.#options;
    try {
      seat.hands.followLease(set);
    } catch (error) {
      if (codeOf(error) !== 'ERR_SET_KEY_WIPED') throw error;
    }
    await seat.process({ kind: 'access' });
  }

  async #reseal(source: EncryptionSet, target: EncryptionSet): Promise<void> {
    const { seat, headers, custody } = this.#options;
    const metadata = await headers.read(seat.record());
    const { token } = metadata;
    const binding = { diskUuid: token.diskUuid, dekGeneration: token.dekGeneration };
    const { setKeyGeneration } = target.record;
    const dek = dekOf(metadata);
    const aad = encodeDekAad({ ...binding, setId: target.id, setKeyGeneration });
    const sealedDek = await source.useSetKey((from) =>
      target.useSetKey((to) => custody.resealDek({ from, to, dek, aad })),
    );
    const updated = await headers.update(seat.record(), (present) => ({
      ...present,
      token: {
        ...present.token,
        set: target.ref,
        setKeyGeneration,
        wrappedSetKeys: target.wrappedKeys,
        sealedDek,
      },
    }));
    seat.hands.noteHeader(updated);
  }
}

function isErased({ reason }: DiskStateView): boolean {
  return reason === 'erased';
}

function kidsOf({ token }: HeaderMetadata): string[] {
  return token.wrappedSetKeys.map(({ kid }) => kid);
}

function carries({ kids }: HeaderReport, keys: readonly WrappedKey[]): boolean {
  return kids?.length === keys.length && keys.every(({ kid }) => kids.includes(kid));
}

/** Throws what keeps the disk where it is. */
function assertMovable(seat: DiskSeat, target: EncryptionSet): void {
  const { name: disk } = seat.ref();
  if (isErased(seat.state())) {
    throw new KeyholdError(codes.ERR_DISK_UNUSABLE, `moving disk ${disk}: it was erased`, {
      fields: { disk },
    });
  }
  const from = seat.set()?.record.double ?? false;
  const to = target.record.double;
  if (from !== to) {
    const named = (double: boolean): string => (double ? 'double' : 'single');
    throw new KeyholdError(
      codes.ERR_DISK_LAYERS,
      `moving disk ${disk} to encryption set ${target.name}: that set encrypts ${named(to)}, ` +
        `expected ${named(from)} as the disk is`,
      { fields: { disk, set: target.name } },
    );
  }
  seat.set()?.assertGranted();
  target.assertGranted();
}

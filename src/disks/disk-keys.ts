// SPDX-License-Identifier: Apache-2.0
import { KeyholdError, messageOf } from '../base/errors.js';
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
  /** Runs work in the disk's turn: nothing else happens to it meanwhile. */
  readonly inTurn: <T>(doing: string, work: () => Promise<T>) => Promise<T>;
}

/** What is done with the key of one disk besides using it (docs/KEYS.md sections 2 and 6). */
export class DiskKeys {
  readonly #options: DiskKeysOptions;

  constructor(options: DiskKeysOptions) {
    this.#options = options;
  }

  /** What the header depends on; never rejects. */
  async report(): Promise<HeaderReport> {
    const { seat, headers } = this.#options;
    const disk = seat.ref().name;
    if (isErased(seat.state())) return { disk, kids: [], error: null };
    try {
      return { disk, kids: kidsOf(await headers.read(seat.record())), error: null };
    } catch (error) {
      return { disk, kids: null, error: messageOf(error) };
    }
  }

  /** Makes the header carry exactly these wrapped set keys; never rejects. */
  async rewrap(keys: readonly WrappedKey[]): Promise<HeaderReport> {
    const { seat, headers, emit, inTurn } = this.#options;
    const before = await this.report();
    const wanted = keys.map(({ kid }) => kid);
    const { kids: found } = before;
    if (isErased(seat.state())) return before;
    if (found?.length === wanted.length && wanted.every((kid) => found.includes(kid))) {
      return before;
    }
    const { name: disk } = seat.ref();
    try {
      return await inTurn('rewrapping', async () => {
        const { token } = await headers.update(seat.record(), (metadata) => ({
          ...metadata,
          token: { ...metadata.token, wrappedSetKeys: keys },
        }));
        const kids = token.wrappedSetKeys.map(({ kid }) => kid);
        emit('header-rewrapped', { disk: seat.ref(), kids });
        return { disk, kids, error: null };
      });
    } catch (error) {
      return { disk, kids: null, error: messageOf(error) };
    }
  }

  /** Binds a serving disk to the lease of its set as the set's record now wants it. */
  async followLease(): Promise<void> {
    const { seat, inTurn } = this.#options;
    await inTurn('binding', () => {
      const set = seat.set();
      if (set !== undefined) seat.hands.followLease(set);
      return Promise.resolve();
    });
  }

  /**
   * Destroys the disk's header: its data is unreadable for ever. Without `force` refused unless
   * offline. If it rejects before anything was overwritten, nothing has changed.
   */
  async erase({ force }: { force: boolean }): Promise<void> {
    const { seat, headers, emit, inTurn } = this.#options;
    await inTurn('erasing', async () => {
      if (isErased(seat.state())) return;
      const { name: disk } = seat.ref();
      const { state: actual } = seat.state();
      if (actual !== 'offline' && !force) {
        throw new KeyholdError(
          codes.ERR_DISK_ONLINE,
          `erasing disk ${disk}: it is ${actual}, expected offline`,
          { fields: { disk, actual, expected: 'offline' } },
        );
      }
      await seat.process({ kind: 'shutdown' });
      const discarded = await headers.erase(seat.record());
      await seat.process({ kind: 'erased' });
      emit('erased', { disk: seat.ref(), store: seat.record().store.path, discarded });
    });
  }

  /**
   * Seals the DEK under the key of another set, whatever the disk's state; data and sessions go on.
   * docs/KEYS.md section 2 has the durable steps. If it rejects in the first step nothing has
   * changed; after that the next start finishes or undoes it.
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
      await this.#reseal(source, target);
      await seat.save({ ...seat.record(), set: target.ref, movingTo: null });
      const from = source.ref;
      seat.join(target);
      seat.hands.followLease(target);
      emit('moved', { disk: seat.ref(), from });
    });
  }

  /** After a crash in the middle of a move: the header says which set the disk belongs to. */
  async settleMove(byId: (id: string) => EncryptionSet | undefined): Promise<void> {
    const { seat, headers, inTurn } = this.#options;
    await inTurn('settling a move of', async () => {
      const { movingTo } = seat.record();
      if (movingTo === null) return;
      const { token } = await headers.read(seat.record());
      const target = byId(movingTo.id);
      if (token.set.id === movingTo.id && target !== undefined) {
        await seat.save({ ...seat.record(), set: target.ref, movingTo: null });
        seat.join(target);
      } else if (token.set.id === seat.record().set.id) {
        await seat.save({ ...seat.record(), movingTo: null });
      }
    });
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

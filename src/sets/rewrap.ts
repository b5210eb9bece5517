// SPDX-License-Identifier: Apache-2.0
import type { Timer } from '../base/clock.js';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { SerialQueue } from '../base/serial-queue.js';
import type { CustomerKey } from '../vault/types.js';
import type { EmitSetEvent, RotationTrouble } from './access.js';
import { assertOtherKey } from './create-set.js';
import { purgedError } from './denials.js';
import type { EncryptionSet } from './encryption-set.js';
import { codes } from './errors.js';
import type { HeaderReport, SetDisks } from './ports.js';
import { RETIRED_MAX, SET_KEYS_MAX, type SetKeyRecord, type SetRecord } from './record.js';
import { makeHostSeal } from './set-key-source.js';
import { wrappedKeysOf } from './wrapped-keys.js';
import {
  expiryOf,
  type LendKey,
  proveCanary,
  wrapUnder,
  wrapWith,
  type WrapContext,
} from './wrap.js';

/*
 * Same set key, another version or another key: docs/KEYS.md section 2 has the states and the order
 * of durable steps. One of these for each set; whatever it does goes through its queue.
 */

/** The first pause after a failed look; it doubles, up to the rotation interval. */
const RETRY_MS = 5000;

/** Sets do not look in step. */
const JITTER = 0.1;

export interface RewrapperOptions {
  readonly set: EncryptionSet;
  readonly disks: SetDisks;
  readonly context: WrapContext;
  /** Writes the record; when it rejects the record on disk is what it was. */
  readonly save: (record: SetRecord) => Promise<void>;
  readonly emit: EmitSetEvent;
}

export class Rewrapper {
  readonly #options: RewrapperOptions;
  readonly #queue = new SerialQueue();
  /** What goes on beside the queue and must see the set's keys as they are: see `hold`. */
  readonly #held = new Set<Promise<unknown>>();
  #timer: Timer | undefined;
  #trouble: RotationTrouble | undefined;
  #closed = false;

  constructor(options: RewrapperOptions) {
    this.#options = options;
  }

  get trouble(): RotationTrouble | undefined {
    return this.#trouble;
  }

  /** Begins to look at newer versions, and goes on with what a crash left half done. */
  start(): void {
    this.#schedule(this.#isUnfinished() ? 0 : this.#record.rotationIntervalMs);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** Looks at the newest versions now. Rejects with what kept it from finishing. */
  async rotate(): Promise<void> {
    await this.exclusively(() => this.#look());
  }

  /**
   * Puts the set on another customer key, or on the platform key. When it resolves the record and
   * every header that can be written name the new one; if it rejects before the record was written
   * nothing has changed.
   */
  async assign(target: { url: string; slot: SetKeyRecord['slot'] } | 'platform'): Promise<void> {
    await this.exclusively(async () => {
      this.#assertUsable();
      await this.#options.set.useSetKeyForRewrap((lend) =>
        target === 'platform' ? this.#assignPlatform(lend) : this.#assignKey(target, lend),
      );
      await this.#spread();
    });
  }

  /** Runs a change of the record that has nothing to do with keys, in turn with those that have. */
  async change(edit: (record: SetRecord) => SetRecord): Promise<void> {
    await this.#queue.run(async () => {
      this.#assertUsable();
      await this.#replace(edit(this.#record));
    });
  }

  /**
   * Runs work that changes what the set's keys are, in turn: nothing that `hold` lets run is under
   * way meanwhile.
   */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#queue.run(async () => {
      await Promise.allSettled([...this.#held]);
      return work();
    });
  }

  /**
   * Runs work that takes the set's keys as they are, for a header that the set does not know of
   * yet. Any number of these go on at once, but the keys stay until each has ended.
   */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    const { held } = await this.#queue.run(() => {
      this.#assertUsable();
      const begun = work();
      this.#held.add(begun);
      const end = (): void => void this.#held.delete(begun);
      begun.then(end, end);
      return Promise.resolve({ held: begun });
    });
    return held;
  }

  /** Throws ERR_SET_CLOSED or ERR_SET_PURGED: things may have changed in the queue. */
  #assertUsable(): void {
    const { name, purge } = this.#record;
    if (this.#closed) throw closedError(name);
    if (purge !== null) throw purgedError(name);
  }

  get #record(): SetRecord {
    return this.#options.set.record;
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    if (this.#closed) return;
    const { clock, random } = this.#options.context;
    const jittered = delayMs * (1 - JITTER * random.fraction());
    this.#timer = clock.setTimer(jittered, () => void this.#lookBySelf());
  }

  async #lookBySelf(): Promise<void> {
    if (this.#isWorthALook()) await this.rotate().catch(() => undefined);
    const { rotationIntervalMs } = this.#record;
    // After a start the first PROOF is still to come.
    if (this.#options.set.access.kind === 'unknown' && this.#isUnfinished()) {
      this.#schedule(Math.min(RETRY_MS, rotationIntervalMs));
      return;
    }
    const retryMs = RETRY_MS * 2 ** Math.min((this.#trouble?.attempts ?? 1) - 1, 16);
    const failed = this.#trouble !== undefined;
    this.#schedule(failed ? Math.min(retryMs, rotationIntervalMs) : rotationIntervalMs);
  }

  #isUnfinished(): boolean {
    const { spreading, keys } = this.#record;
    return spreading || keys.some(({ role }) => role !== 'current');
  }

  /**
   * While the vault denies or is silent there is nothing new to be had from it; but the date of an
   * expired key may have been moved.
   */
  #isWorthALook(): boolean {
    const { access } = this.#options.set;
    if (this.#closed || this.#record.purge !== null) return false;
    if (access.kind === 'denied') return access.denial.reason === 'key-expired';
    return access.kind === 'granted';
  }

  async #look(): Promise<void> {
    this.#assertUsable();
    try {
      for (const key of this.#record.keys.filter(({ role }) => role === 'current')) {
        await this.#lookAt(key);
      }
      await this.#spread();
      this.#noteTrouble(undefined);
    } catch (error) {
      this.#noteTrouble(error);
      throw error;
    }
  }

  async #lookAt(key: SetKeyRecord): Promise<void> {
    const { set, context } = this.#options;
    const { identity, allowPurgeable } = this.#record;
    const url = key.versionless ? key.url : key.kid;
    const newest = await context.vault.fetchCustomerKey({ identity, url, allowPurgeable });
    if (newest.kid === key.kid) return this.#noteExpiry(key, newest);
    await set.useSetKeyForRewrap((lend) => this.#adopt(key, newest, lend));
  }

  async #noteExpiry(key: SetKeyRecord, seen: CustomerKey): Promise<void> {
    const expiresAt = expiryOf(seen);
    if (expiresAt === key.expiresAt) return;
    const keys = this.#record.keys.map((other) =>
      other.kid === key.kid ? { ...other, expiresAt } : other,
    );
    await this.#replace({ ...this.#record, keys });
  }

  /** A newer version of the same customer key. */
  async #adopt(previous: SetKeyRecord, newest: CustomerKey, lend: LendKey): Promise<void> {
    this.#assertRoom();
    const { context } = this.#options;
    const { name: set, identity, allowPurgeable } = this.#record;
    const { url, slot } = previous;
    const request = { set, identity, url, slot, allowPurgeable, lend };
    const made = await wrapWith(newest, request, context);
    const key = { ...made, versionless: previous.versionless };
    await proveCanary(key, { set, identity }, context);
    const keys = this.#record.keys
      .filter(({ kid }) => kid !== key.kid)
      .map((other) =>
        other.kid === previous.kid ? { ...other, role: 'retiring' as const } : other,
      );
    const retired = this.#record.retired.filter(({ kid }) => kid !== key.kid);
    await this.#replace({ ...this.#record, keys: [key, ...keys], retired, spreading: true });
    this.#tellRewrapped('rotation', [previous.kid]);
  }

  async #assignKey(
    { url, slot }: { url: string; slot: SetKeyRecord['slot'] },
    lend: LendKey,
  ): Promise<void> {
    this.#assertRoom();
    const { context } = this.#options;
    const { name: set, identity, allowPurgeable, keys: before } = this.#record;
    const key = await wrapUnder({ set, identity, url, slot, allowPurgeable, lend }, context);
    const current = before.filter(({ role }) => role === 'current');
    assertOtherKey(
      set,
      key,
      current.find((other) => other.slot !== slot),
    );
    if (slot === 2 && !current.some((other) => other.slot === 1)) {
      throw new KeyholdError(
        codes.ERR_SET_OPTION,
        `encryption set ${set}: a second customer key without a first one`,
        { fields: { set } },
      );
    }
    await proveCanary(key, { set, identity }, context);
    const keys = before
      .filter(({ kid }) => kid !== key.kid)
      .map((other) => (other.slot === slot ? { ...other, role: 'replaced' as const } : other));
    await this.#replace({
      ...this.#record,
      keys: [key, ...keys].sort((a, b) => a.slot - b.slot),
      retired: this.#record.retired.filter(({ kid }) => kid !== key.kid),
      platform: null,
      spreading: true,
    });
    this.#tellRewrapped('assignment', namesOf(before));
    await this.#options.set.probe();
    await this.#options.disks.followLease(this.#record.id);
  }

  async #assignPlatform(lend: LendKey): Promise<void> {
    const { context, disks } = this.#options;
    const { id: setId, setKeyGeneration: generation, keys: before } = this.#record;
    const platform = context.platform();
    const nowMs = context.clock.nowMs();
    const seal = await lend((key) =>
      makeHostSeal(context.custody, {
        platform,
        key,
        purpose: 'platform',
        setId,
        generation,
        nowMs,
      }),
    );
    await this.#replace({
      ...this.#record,
      keys: [],
      platform: seal,
      availability: null,
      revokeWhen: 'any',
      denied: [],
      spreading: true,
    });
    this.#tellRewrapped('assignment', namesOf(before));
    await disks.followLease(setId);
  }

  /** Headers first, then the record without what none of them needs any more. */
  async #spread(): Promise<void> {
    const stale = this.#record.keys.filter(({ role }) => role !== 'current');
    if (stale.length === 0 && !this.#record.spreading) return;
    const { disks, emit, set, context } = this.#options;
    const wanted = wrappedKeysOf(this.#record);
    const reports = await disks.rewrap(this.#record.id, wanted);
    const retirable = stale.filter(({ kid }) => dependents(reports, kid).length === 0);
    const kids = retirable.map(({ kid }) => kid);
    const unfinished = reports.filter(({ kids: found }) => !sameNames(found, wanted));
    const retiredAt = new Date(context.clock.nowMs()).toISOString();
    const retired = retirable.map(({ kid, slot }) => ({ kid, slot, retiredAt }));
    await this.#replace({
      ...this.#record,
      keys: this.#record.keys.filter(({ kid }) => !kids.includes(kid)),
      retired: [...retired, ...this.#record.retired.filter(({ kid }) => !kids.includes(kid))].slice(
        0,
        RETIRED_MAX,
      ),
      spreading: unfinished.length > 0,
    });
    if (kids.length > 0) emit('retired', { set: set.ref, kids });
    const [first] = unfinished;
    if (first !== undefined) throw unfinishedError(set.name, first, unfinished.length);
  }

  async #replace(record: SetRecord): Promise<void> {
    if (JSON.stringify(record) === JSON.stringify(this.#record)) return;
    if (this.#closed) throw closedError(record.name);
    await this.#options.save(record);
    this.#options.set.replaceRecord(record);
  }

  #assertRoom(): void {
    const { name, keys } = this.#record;
    if (keys.length < SET_KEYS_MAX) return;
    throw new KeyholdError(
      codes.ERR_SET_VERSIONS,
      `encryption set ${name}: headers depend on ${keys.length} key versions, expected fewer than ` +
        `${SET_KEYS_MAX} before another one`,
      { fields: { set: name, versions: keys.length } },
    );
  }

  #tellRewrapped(cause: 'rotation' | 'assignment', previous: readonly string[]): void {
    const { set, emit } = this.#options;
    const kids = wrappedKeysOf(this.#record).map(({ kid }) => kid);
    emit('rewrapped', { set: set.ref, cause, kids, previous });
  }

  #noteTrouble(error: unknown): void {
    const before = this.#trouble;
    const { set, emit, context } = this.#options;
    this.#trouble =
      error === undefined
        ? undefined
        : {
            code: codeOf(error) ?? 'ERR_INTERNAL',
            message: messageOf(error),
            sinceMs: before?.sinceMs ?? context.clock.nowMs(),
            attempts: (before?.attempts ?? 0) + 1,
          };
    if (before?.code !== this.#trouble?.code) {
      emit('rotation', { set: set.ref, trouble: this.#trouble ?? null });
    }
  }
}

function closedError(set: string): KeyholdError {
  return new KeyholdError(codes.ERR_SET_CLOSED, `rewrapping encryption set ${set}: it was closed`, {
    fields: { set },
  });
}

/** Disks whose header names this version, or does not tell. */
export function dependents(reports: readonly HeaderReport[], kid: string): HeaderReport[] {
  return reports.filter(({ kids }) => kids === null || kids.includes(kid));
}

function namesOf(keys: readonly SetKeyRecord[]): string[] {
  return keys.filter(({ role }) => role === 'current').map(({ kid }) => kid);
}

function sameNames(
  found: readonly string[] | null,
  wanted: ReadonlyArray<{ readonly kid: string }>,
): boolean {
  if (found === null) return false;
  const names = wanted.map(({ kid }) => kid);
  return found.length === names.length && names.every((kid) => found.includes(kid));
}

function unfinishedError(set: string, first: HeaderReport, count: number): KeyholdError {
  const why = first.error ?? `its header names ${(first.kids ?? []).join(', ')}`;
  return new KeyholdError(
    codes.ERR_SET_SPREAD,
    `rewrapping encryption set ${set}: ${count} headers are not updated yet, ` +
      `first that of disk ${first.disk}: ${why}`,
    { fields: { set, disk: first.disk, headers: count } },
  );
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import type { SetKeyHandle, Verdict, VaultAccess } from '../vault/types.js';
import type { Alarm, Denial, EmitSetEvent, GrantedBy, SetAccess, SetIdentity } from './access.js';
import {
  denialOf,
  expiredVerdict,
  purgedError,
  refusedAccess,
  standingDenials,
  standingState,
} from './denials.js';
import {
  deniedKeys,
  hasExpired,
  isBelieved,
  isRevoked,
  type KeyState,
  mayUseAvailability,
  type PolicyInput,
  UNPROBED,
  warningsOf,
} from './policy.js';
import { SetAlarm } from './alarm.js';
import type { KeyCustody, LeaseHandle, PlatformKeyHandle } from './ports.js';
import { type ProbeReport, probeTimeoutMs } from './probe-line.js';
import type { ProbeScheduler } from './probe-scheduler.js';
import { counts, type SetKeyRecord, type SetRecord, type StandingDenial } from './record.js';
import { SetKeyCache } from './set-key-cache.js';
import { SetKeySource } from './set-key-source.js';
import { Subscriptions } from './subscriptions.js';
import type { LendKey } from './wrap.js';
import { type WrappedKey, wrappedKeysOf } from './wrapped-keys.js';

/** Timers do not count machine suspend, the lease does: look again at least this often. */
const LEASE_CHECK_MS_MAX = 30_000;

/** The availability key takes over at the latest when so few probe intervals are left. */
const AVAILABILITY_INTERVALS_LEFT = 2;

export interface EncryptionSetOptions {
  readonly record: SetRecord;
  readonly vault: VaultAccess;
  readonly custody: KeyCustody;
  /** Throws when the host has no platform key. */
  readonly platform: () => PlatformKeyHandle;
  readonly scheduler: ProbeScheduler;
  readonly clock: Clock;
  readonly unwrapTimeoutMs: number;
  readonly emit: EmitSetEvent;
  /** The denials that stand are others: they outlive a restart where the record keeps them. */
  readonly onDenials?: (denied: readonly StandingDenial[]) => void;
}

/** The last verdict of one customer key version, for people. */
export interface KeyStatus extends KeyState {
  readonly key: SetKeyRecord;
}

/**
 * One encryption set at work: keeps the lease by the verdicts of its keys, holds the set key while
 * the lease holds, and knows at any moment whether disks may have their keys. What verdicts come to
 * is decided in policy.ts.
 */
export class EncryptionSet {
  readonly lease: LeaseHandle;
  readonly #options: EncryptionSetOptions;
  readonly #setKey: SetKeyCache;
  readonly #source: SetKeySource;
  readonly #subscriptions: Subscriptions;
  readonly #alarm: SetAlarm;
  readonly #keyStates = new Map<string, KeyState>();
  #record: SetRecord;
  #access: SetAccess;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: EncryptionSetOptions) {
    const { record, custody, clock, emit } = options;
    this.#record = record;
    this.lease = custody.createLease();
    this.#options = options;
    this.#access = { kind: 'unknown', sinceMs: clock.nowMs() };
    this.#alarm = new SetAlarm({ set: this.ref, clock, emit });
    this.#source = new SetKeySource({
      ...options,
      set: this.ref,
      record: () => this.#record,
      timeoutMs: options.unwrapTimeoutMs,
      isDenied: (key) => deniedKeys(this.#policy()).includes(key),
      mayUseAvailability: () => mayUseAvailability(this.#policy()),
      onUnwrapDenied: () => void this.probe().catch(() => undefined),
    });
    this.#setKey = new SetKeyCache({
      set: this.ref,
      custody,
      lease: this.lease,
      emit,
      assertGranted: () => this.assertGranted(),
      obtain: (by) => this.#source.obtain(by),
    });
    this.#subscriptions = new Subscriptions(options.scheduler, (report) => this.#onReport(report));
    for (const denial of record.denied) {
      if (record.keys.some(({ kid }) => kid === denial.kid)) {
        this.#keyStates.set(denial.kid, standingState(denial));
      }
    }
  }

  get record(): SetRecord {
    return this.#record;
  }

  get ref(): SetIdentity {
    return { id: this.#record.id, name: this.#record.name };
  }

  get id(): string {
    return this.#record.id;
  }

  get name(): string {
    return this.#record.name;
  }

  /** What the set may do now; a lease that ended unnoticed is noticed here. */
  get access(): SetAccess {
    this.#checkLease();
    return this.#access;
  }

  get alarm(): Alarm | undefined {
    return this.#alarm.current;
  }

  get warnings(): string[] {
    return warningsOf(this.#policy());
  }

  /** Undefined while there is no lease: never proved, denied or lapsed, or on the platform key. */
  get leaseMsLeft(): number | undefined {
    if (this.access.kind !== 'granted' || !this.hasLease) return undefined;
    return Math.max(0, this.lease.deadlineBootMs() - this.#options.clock.bootMs());
  }

  /** False on the platform key, which nobody can take away. */
  get hasLease(): boolean {
    return this.#record.platform === null;
  }

  /** Native code wipes the disks' keys when the lease ends. */
  get leaseEnforced(): boolean {
    return this.hasLease && this.#record.mode === 'immediate';
  }

  /** What headers carry: docs/KEYS.md section 1. */
  get wrappedKeys(): WrappedKey[] {
    return wrappedKeysOf(this.#record);
  }

  keyStatus(): KeyStatus[] {
    return this.#record.keys.map((key) => ({ key, ...this.#stateOf(key.kid) }));
  }

  /** Starts probing; a set on the platform key is granted at once. */
  start(): void {
    this.#subscriptions.follow(this.#record);
    this.#reconsider();
  }

  /**
   * From now on the set is what `record` says: other keys, another policy. Access is judged anew
   * by what is known of the keys; a key that is new here is probed first.
   */
  replaceRecord(record: SetRecord): void {
    const hadLease = this.hasLease;
    this.#record = record;
    if (this.#closed) return;
    for (const kid of this.#keyStates.keys()) {
      if (!record.keys.some((key) => key.kid === kid)) this.#keyStates.delete(kid);
    }
    if (hadLease !== this.hasLease) this.#setKey.wipe('another kind of key');
    this.#subscriptions.follow(record);
    this.#reconsider();
  }

  /** Probes every key now; denials come back confirmed. Access has changed when it resolves. */
  async probe(): Promise<ProbeReport[]> {
    const { identity, keys, id } = this.#record;
    const { scheduler } = this.#options;
    return Promise.all(keys.map(({ kid }) => scheduler.probeNow({ identity, kid }, id)));
  }

  /**
   * Lends the set key to `use`, which must not keep the handle. Throws ERR_SET_DENIED or
   * ERR_SET_LAPSED when access is not granted, and what the vault threw when the key had to be
   * unwrapped and was not.
   */
  async useSetKey<T>(use: (key: SetKeyHandle) => T): Promise<T> {
    return this.#setKey.use(use);
  }

  /**
   * Lends the set key for wrapping it anew, also while access is not granted, by any way that is
   * open (docs/KEYS.md section 2). Throws ERR_SET_KEY_UNAVAILABLE naming what was tried.
   */
  async useSetKeyForRewrap<T>(work: (lend: LendKey) => Promise<T>): Promise<T> {
    if (this.access.kind === 'granted') return work((use) => this.useSetKey(use));
    const key = await this.#source.obtainForRewrap();
    try {
      return await work((use) => Promise.resolve(use(key)));
    } finally {
      key.wipe();
    }
  }

  /** Takes over the set key that creation made and verified. */
  adoptSetKey(key: SetKeyHandle): void {
    this.#setKey.adopt(key, this.assertGranted());
  }

  /** Returns what access is granted by. */
  assertGranted(): GrantedBy {
    const { access } = this;
    if (access.kind === 'granted') return access.by;
    if (this.#record.purge !== null) throw purgedError(this.name);
    throw refusedAccess(this.ref, access, this.alarm);
  }

  /** Ends probing and the lease, wipes the key. */
  close(cause: string): void {
    this.#closed = true;
    this.#subscriptions.end();
    this.#timer?.cancel();
    this.lease.end();
    this.#setKey.wipe(cause);
    this.#access = { kind: 'unknown', sinceMs: this.#options.clock.nowMs() };
  }

  #policy(): PolicyInput {
    return {
      record: this.#record,
      stateOf: (kid) => this.#stateOf(kid),
      nowMs: this.#options.clock.nowMs(),
    };
  }

  #stateOf(kid: string): KeyState {
    return this.#keyStates.get(kid) ?? UNPROBED;
  }

  #onReport(report: ProbeReport): void {
    const { verdict, kid, denial } = report;
    const key = this.#record.keys.find((candidate) => candidate.kid === kid);
    if (key === undefined) return;
    this.#checkLease();
    const before = this.#stateOf(kid);
    const believed = denial === 'confirmed' && isBelieved(verdict, this.#record, this.#access.kind);
    const same = before.verdict?.kind === verdict.kind;
    this.#keyStates.set(kid, {
      verdict,
      sinceMs: same ? before.sinceMs : this.#options.clock.nowMs(),
      denied: verdict.kind === 'PROOF' ? false : before.denied || believed,
      suspect: verdict.kind === 'DENIED' || (before.suspect && verdict.kind !== 'PROOF'),
    });
    const { identity } = this.#record;
    const { keyVersion } = key;
    const tell = (): void =>
      this.#options.emit('verdict', { set: this.ref, identity, kid, keyVersion, verdict, denial });
    // A denial is acted on before it is told: records and log lines take milliseconds, for which
    // the keys would stand in memory.
    if (!believed) tell();
    if (counts(key) && this.#record.purge === null) this.#digest(key, report, believed);
    if (believed) tell();
    const { denied, suspect } = this.#stateOf(kid);
    if (before.denied !== denied || before.suspect !== suspect) {
      this.#noteDenials(report.firstSeenMs);
    }
  }

  /** What a verdict of a key that counts means for the set. */
  #digest(key: SetKeyRecord, report: ProbeReport, believed: boolean): void {
    const { verdict, firstSeenMs } = report;
    const policy = this.#policy();
    if (isRevoked(policy)) {
      const expired = hasExpired(this.#record, key, policy.nowMs);
      if (believed) this.#revoke(key, { verdict, firstSeenMs });
      else if (expired && !this.#stateOf(key.kid).denied) {
        this.#revoke(key, { verdict: expiredVerdict(key, verdict), firstSeenMs: undefined });
      } else if (verdict.kind === 'NO-ANSWER') this.#alarm.raise(verdict);
      return;
    }
    if (verdict.kind === 'PROOF') this.#onProof(verdict);
    else this.#onSilence(verdict);
  }

  #onProof(verdict: Verdict): void {
    const { clock } = this.#options;
    // A proof that took longer than the lease proves nothing about now.
    if (verdict.startedBootMs + this.#record.leaseMs <= clock.bootMs()) return;
    if (this.#access.kind === 'granted' && this.#access.by === 'availability') {
      this.#options.emit('availability', {
        set: this.ref,
        used: false,
        cause: 'the vault answers',
      });
    }
    this.#updateAlarm(verdict);
    this.#grant(verdict, 'vault');
    this.#options.emit('proof', { set: this.ref });
  }

  /** NO-ANSWER, or a denial that is not believed yet. */
  #onSilence(verdict: Verdict): void {
    this.#updateAlarm(verdict);
    const access = this.#access;
    const standsIn = access.kind === 'granted' && access.by === 'availability';
    if (!mayUseAvailability(this.#policy())) {
      if (standsIn) this.#endAvailability(verdict);
      return;
    }
    if (!standsIn && access.kind === 'granted' && !this.#leaseRunsOut()) return;
    if (access.kind === 'denied') return;
    this.#standIn(verdict, standsIn);
  }

  /** Whether the lease might end before the next verdict, which a silent vault delays. */
  #leaseRunsOut(): boolean {
    const { clock, unwrapTimeoutMs } = this.#options;
    const { probeIntervalMs } = this.#record;
    const leftMs = this.lease.deadlineBootMs() - clock.bootMs();
    const roundMs = probeIntervalMs + probeTimeoutMs(unwrapTimeoutMs, probeIntervalMs);
    return leftMs <= Math.max(AVAILABILITY_INTERVALS_LEFT * probeIntervalMs, roundMs);
  }

  #standIn(verdict: Verdict, already: boolean): void {
    this.#grant(verdict, 'availability');
    if (already) return;
    const cause = verdict.code ?? verdict.class;
    this.#options.emit('availability', { set: this.ref, used: true, cause });
  }

  /** Ended at once by any denial: what it granted is taken back until the vault has spoken. */
  #endAvailability(verdict: Verdict): void {
    this.lease.end();
    this.#options.emit('availability', { set: this.ref, used: false, cause: verdict.message });
    this.#lapse(verdict);
  }

  #grant(verdict: Verdict | undefined, by: GrantedBy): void {
    const { clock } = this.#options;
    if (verdict !== undefined) {
      // A proof is as old as its probe; silence is known of only when the probe has ended.
      const fromBootMs = by === 'availability' ? clock.bootMs() : verdict.startedBootMs;
      this.lease.renew(fromBootMs, this.#record.leaseMs);
    }
    this.#armTimer();
    const previous = this.#access.kind;
    const sinceMs = previous === 'granted' ? this.#access.sinceMs : clock.nowMs();
    this.#access = { kind: 'granted', sinceMs, by, verdict };
    if (previous !== 'granted') this.#options.emit('granted', { set: this.ref, previous, by });
  }

  #revoke(
    key: SetKeyRecord,
    { verdict, firstSeenMs }: { verdict: Verdict; firstSeenMs: number | undefined },
  ): void {
    const { clock } = this.#options;
    const previous = this.#access;
    const standing = previous.kind === 'denied' && previous.denial.kid === key.kid;
    const denial: Denial = denialOf(key, {
      verdict,
      firstSeenMs: standing ? previous.denial.firstSeenMs : (firstSeenMs ?? clock.nowMs()),
      confirmedBootMs: clock.bootMs(),
    });
    if (standing && previous.denial.reason === denial.reason) return;
    this.lease.end(); // native code wipes the disks' keys before this returns
    this.#timer?.cancel();
    this.#setKey.wipe(denial.reason);
    this.#access = { kind: 'denied', sinceMs: clock.nowMs(), denial };
    this.#alarm.lower();
    this.#options.emit('denied', { set: this.ref, previous: previous.kind, denial });
  }

  /** Judges access by what is known, after a start or a change of the record. */
  #reconsider(): void {
    const { clock } = this.#options;
    const policy = this.#policy();
    if (this.#record.purge !== null) {
      this.#setKey.wipe('purged');
      this.lease.end();
      this.#access = { kind: 'unknown', sinceMs: clock.nowMs() };
      return;
    }
    const [denied] = deniedKeys(policy);
    if (denied !== undefined && isRevoked(policy)) {
      const { denied: believed, verdict: last, sinceMs: firstSeenMs } = this.#stateOf(denied.kid);
      const verdict = believed && last !== undefined ? last : expiredVerdict(denied, last);
      this.#revoke(denied, { verdict, firstSeenMs });
      return;
    }
    if (!this.hasLease) this.#grant(undefined, 'platform');
    else if (this.#access.kind === 'denied' || this.#grantedBy() === 'platform') {
      this.#access = { kind: 'unknown', sinceMs: clock.nowMs() };
    }
  }

  #grantedBy(): GrantedBy | undefined {
    return this.#access.kind === 'granted' ? this.#access.by : undefined;
  }

  #armTimer(): void {
    const { clock } = this.#options;
    this.#timer?.cancel();
    if (!this.hasLease) return;
    const leftMs = this.lease.deadlineBootMs() - clock.bootMs();
    this.#timer = clock.setTimer(Math.min(Math.max(0, leftMs), LEASE_CHECK_MS_MAX), () => {
      this.#checkLease();
      if (this.#access.kind === 'granted') this.#armTimer();
    });
  }

  #checkLease(): void {
    if (this.#access.kind !== 'granted' || this.#access.by === 'platform') return;
    if (this.#options.clock.bootMs() < this.lease.deadlineBootMs()) return;
    this.#lapse(this.keyStatus()[0]?.verdict);
  }

  #lapse(verdict: Verdict | undefined): void {
    this.#timer?.cancel();
    this.#setKey.wipe('lapsed');
    this.#access = { kind: 'lapsed', sinceMs: this.#options.clock.nowMs(), verdict };
    this.#options.emit('lapsed', { set: this.ref, verdict });
  }

  #noteDenials(firstSeenMs: number | undefined): void {
    const nowMs = firstSeenMs ?? this.#options.clock.nowMs();
    this.#options.onDenials?.(standingDenials(this.keyStatus(), nowMs));
  }

  /** Stands while a key that counts gives no answer, or is denied without revoking the set. */
  #updateAlarm(verdict: Verdict): void {
    const troubled = this.keyStatus().find(
      (status) => counts(status.key) && (status.denied || status.verdict?.kind === 'NO-ANSWER'),
    );
    if (troubled?.verdict !== undefined) this.#alarm.raise(troubled.verdict);
    else if (verdict.kind !== 'DENIED') this.#alarm.lower();
  }
}

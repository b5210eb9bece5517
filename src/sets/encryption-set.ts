// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { SetKeyHandle, Verdict, VaultAccess } from '../vault/types.js';
import type { Alarm, Denial, EmitSetEvent, SetAccess, SetIdentity } from './access.js';
import { codes } from './errors.js';
import type { KeyCustody, LeaseHandle } from './ports.js';
import type { ProbeReport } from './probe-line.js';
import type { ProbeScheduler } from './probe-scheduler.js';
import type { SetKeyRecord, SetRecord } from './record.js';
import { SetKeyCache } from './set-key-cache.js';

/** Timers do not count machine suspend, the lease does: look again at least this often. */
const LEASE_CHECK_MS_MAX = 30_000;

export interface EncryptionSetOptions {
  readonly record: SetRecord;
  readonly vault: VaultAccess;
  readonly custody: KeyCustody;
  readonly scheduler: ProbeScheduler;
  readonly clock: Clock;
  readonly unwrapTimeoutMs: number;
  readonly emit: EmitSetEvent;
}

/** The last verdict of one customer key, for people. */
export interface KeyStatus {
  readonly key: SetKeyRecord;
  readonly verdict: Verdict | undefined;
  /** Since when the verdict has been of this kind. */
  readonly sinceMs: number | undefined;
}

interface KeyState {
  readonly verdict: Verdict;
  readonly sinceMs: number;
  readonly denied: boolean;
}

/** A set key under its customer keys, as headers carry it. */
export interface WrappedKey {
  readonly kid: string;
  readonly alg: 'RSA-OAEP-256';
  readonly value: Uint8Array;
}

/**
 * One encryption set at work: keeps the lease by the verdicts of its keys, holds the set key while
 * the lease holds, and knows at any moment whether disks may have their keys.
 */
export class EncryptionSet {
  readonly record: SetRecord;
  readonly lease: LeaseHandle;
  readonly #options: EncryptionSetOptions;
  readonly #setKey: SetKeyCache;
  readonly #keyStates = new Map<string, KeyState>();
  #access: SetAccess;
  #alarm: Alarm | undefined;
  #timer: Timer | undefined;
  #subscriptions: Array<() => void> = [];

  constructor(options: EncryptionSetOptions) {
    const { record, vault, custody, clock, emit } = options;
    this.record = record;
    this.lease = custody.createLease();
    this.#options = options;
    this.#access = { kind: 'unknown', sinceMs: clock.nowMs() };
    this.#setKey = new SetKeyCache({
      set: this.ref,
      identity: record.identity,
      keys: record.keys,
      vault,
      custody,
      lease: this.lease,
      timeoutMs: options.unwrapTimeoutMs,
      emit,
      assertGranted: () => this.assertGranted(),
      onUnwrapDenied: () => void this.probe().catch(() => undefined),
    });
  }

  get ref(): SetIdentity {
    return { id: this.record.id, name: this.record.name };
  }

  get id(): string {
    return this.record.id;
  }

  get name(): string {
    return this.record.name;
  }

  /** What the set may do now; a lease that ended unnoticed is noticed here. */
  get access(): SetAccess {
    this.#checkLease();
    return this.#access;
  }

  get alarm(): Alarm | undefined {
    return this.#alarm;
  }

  /** Undefined while there is no lease: never proved, denied or lapsed. */
  get leaseMsLeft(): number | undefined {
    if (this.access.kind !== 'granted') return undefined;
    return Math.max(0, this.lease.deadlineBootMs() - this.#options.clock.bootMs());
  }

  get wrappedKeys(): WrappedKey[] {
    return this.record.keys.map(({ kid, wrappedSetKey }) => ({
      kid,
      alg: 'RSA-OAEP-256',
      value: new Uint8Array(Buffer.from(wrappedSetKey, 'base64')),
    }));
  }

  keyStatus(): KeyStatus[] {
    return this.record.keys.map((key) => {
      const state = this.#keyStates.get(key.kid);
      return { key, verdict: state?.verdict, sinceMs: state?.sinceMs };
    });
  }

  /** Starts probing. */
  start(): void {
    const { identity, probeIntervalMs: intervalMs, leaseMs, keys, id } = this.record;
    this.#subscriptions = keys.map(({ kid, canary }) =>
      this.#options.scheduler.subscribe(
        { identity, kid },
        {
          id,
          intervalMs,
          leaseMs,
          canary: {
            plaintext: new Uint8Array(Buffer.from(canary.plaintext, 'base64')),
            wrapped: new Uint8Array(Buffer.from(canary.wrapped, 'base64')),
          },
          onReport: (report) => this.#onReport(report),
        },
      ),
    );
  }

  /** Probes every key now; denials come back confirmed. Access has changed when it resolves. */
  async probe(): Promise<ProbeReport[]> {
    const { identity, keys, id } = this.record;
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

  /** Takes over the set key that creation made and verified. */
  adoptSetKey(key: SetKeyHandle): void {
    this.#setKey.adopt(key);
  }

  assertGranted(): void {
    const access = this.access;
    if (access.kind === 'granted') return;
    if (access.kind === 'denied') {
      const { reason, keyVersion, verdict } = access.denial;
      throw new KeyholdError(
        codes.ERR_SET_DENIED,
        `using the key of encryption set ${this.name}: ${reason}: ${verdict.message}`,
        { fields: { set: this.name, reason, keyVersion, requestId: verdict.requestId } },
      );
    }
    const last = this.#alarm === undefined ? '' : ` (${this.#alarm.message})`;
    const what =
      access.kind === 'lapsed'
        ? 'the lease has ended without an answer from the vault'
        : 'the vault has not proved access yet';
    throw new KeyholdError(
      codes.ERR_SET_LAPSED,
      `using the key of encryption set ${this.name}: ${what}${last}`,
      { fields: { set: this.name, access: access.kind } },
    );
  }

  /** Ends probing and the lease, wipes the key. */
  close(cause: string): void {
    for (const end of this.#subscriptions) end();
    this.#subscriptions = [];
    this.#timer?.cancel();
    this.lease.end();
    this.#setKey.wipe(cause);
    this.#access = { kind: 'unknown', sinceMs: this.#options.clock.nowMs() };
  }

  #onReport(report: ProbeReport): void {
    const { verdict, kid, denial } = report;
    const key = this.record.keys.find((candidate) => candidate.kid === kid);
    if (key === undefined) return;
    this.#checkLease();
    const before = this.#keyStates.get(kid);
    const same = before?.verdict.kind === verdict.kind;
    const believed = denial === 'confirmed' && this.#believes(verdict);
    this.#keyStates.set(kid, {
      verdict,
      sinceMs: same ? before.sinceMs : this.#options.clock.nowMs(),
      denied: verdict.kind === 'PROOF' ? false : (before?.denied ?? false) || believed,
    });
    const { identity } = this.record;
    const { keyVersion } = key;
    const tell = (): void =>
      this.#options.emit('verdict', { set: this.ref, identity, kid, keyVersion, verdict, denial });
    // A denial is acted on before it is told: records and log lines take milliseconds, for which
    // the keys would stand in memory.
    if (!believed) tell();
    if (verdict.kind === 'PROOF') this.#onProof(verdict);
    else if (believed) this.#onDenied(key, report);
    else if (verdict.kind === 'NO-ANSWER') this.#raiseAlarm(verdict);
    if (believed) tell();
  }

  /**
   * The loss of the identity may be an accident: it runs the lease out, and counts once it has
   * ended.
   */
  #believes(verdict: Verdict): boolean {
    if (verdict.kind === 'DENIED') return true;
    return verdict.class === 'denied-identity' && this.#access.kind !== 'granted';
  }

  #onProof(verdict: Verdict): void {
    if ([...this.#keyStates.values()].some((state) => state.denied)) return;
    const { clock } = this.#options;
    // A proof that took longer than the lease proves nothing about now.
    if (verdict.startedBootMs + this.record.leaseMs <= clock.bootMs()) return;
    this.lease.renew(verdict.startedBootMs, this.record.leaseMs);
    this.#armTimer();
    this.#lowerAlarm();
    const previous = this.#access.kind;
    const sinceMs = previous === 'granted' ? this.#access.sinceMs : clock.nowMs();
    this.#access = { kind: 'granted', sinceMs, verdict };
    if (previous !== 'granted') this.#options.emit('granted', { set: this.ref, previous });
    this.#options.emit('proof', { set: this.ref });
  }

  #onDenied(key: SetKeyRecord, { verdict, firstSeenMs }: ProbeReport): void {
    const { clock } = this.#options;
    const previous = this.#access;
    const reason = verdict.reason ?? 'identity-denied';
    const standing = previous.kind === 'denied' && previous.denial.kid === key.kid;
    if (standing && previous.denial.reason === reason) return;
    const confirmedBootMs = clock.bootMs();
    this.lease.end(); // native code wipes the disks' keys before this returns
    this.#timer?.cancel();
    this.#setKey.wipe(reason);
    const denial: Denial = {
      reason,
      kid: key.kid,
      keyVersion: key.keyVersion,
      verdict,
      firstSeenMs: standing ? previous.denial.firstSeenMs : (firstSeenMs ?? clock.nowMs()),
      confirmedBootMs,
    };
    this.#access = { kind: 'denied', sinceMs: clock.nowMs(), denial };
    this.#lowerAlarm();
    this.#options.emit('denied', { set: this.ref, previous: previous.kind, denial });
  }

  #armTimer(): void {
    const { clock } = this.#options;
    this.#timer?.cancel();
    const leftMs = this.lease.deadlineBootMs() - clock.bootMs();
    this.#timer = clock.setTimer(Math.min(Math.max(0, leftMs), LEASE_CHECK_MS_MAX), () => {
      this.#checkLease();
      if (this.#access.kind === 'granted') this.#armTimer();
    });
  }

  #checkLease(): void {
    const { clock, emit } = this.#options;
    if (this.#access.kind !== 'granted') return;
    if (clock.bootMs() < this.lease.deadlineBootMs()) return;
    this.#timer?.cancel();
    const { verdict } = this.keyStatus()[0] ?? {};
    this.#setKey.wipe('lapsed');
    this.#access = { kind: 'lapsed', sinceMs: clock.nowMs(), verdict };
    emit('lapsed', { set: this.ref, verdict });
  }

  #raiseAlarm(verdict: Verdict): void {
    const alarm: Alarm = {
      sinceMs: this.#alarm?.sinceMs ?? this.#options.clock.nowMs(),
      code: verdict.code ?? verdict.class,
      message: verdict.message,
    };
    const raised = this.#alarm === undefined;
    this.#alarm = alarm;
    if (raised) this.#options.emit('alarm', { set: this.ref, raised: true, alarm });
  }

  #lowerAlarm(): void {
    const alarm = this.#alarm;
    this.#alarm = undefined;
    if (alarm !== undefined) this.#options.emit('alarm', { set: this.ref, raised: false, alarm });
  }
}

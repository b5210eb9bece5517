// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Canary, ProbeTurn, Verdict, VaultAccess } from '../vault/types.js';
import { CLEAR, type Confirmation, observe } from './confirmation.js';
import { codes } from './errors.js';

/** The first pause after a NO-ANSWER; it doubles, up to the interval. */
const NO_ANSWER_PAUSE_MS = 500;

/**
 * Probes start up to this much earlier than the interval says, so that many keys do not march in
 * step.
 */
const JITTER = 0.1;

/** Pauses after a NO-ANSWER are shorter by up to this: keys that failed together spread out. */
const NO_ANSWER_JITTER = 0.3;

/** A probe that has not even timed out this long after its timeout is given up. */
const WATCHDOG_MS = 2000;

/** A vault may need this long for one answer however short the interval is. */
const TIMEOUT_MS_MIN = 2000;

const TOO_MANY_REQUESTS = 429;

/** One verdict with what it means for those who depend on the key. */
export interface ProbeReport {
  readonly kid: string;
  readonly verdict: Verdict;
  /** Whether a denial is believed: `confirmed` stays until a PROOF. */
  readonly denial: 'none' | 'suspected' | 'confirmed';
  /** Wall time at which the run of denials began; undefined without one. */
  readonly firstSeenMs: number | undefined;
}

/** A set that depends on the key. */
export interface ProbeSubscriber {
  readonly id: string;
  readonly canary: Canary;
  readonly intervalMs: number;
  /** What a proof is good for; without it no lease hastens probes that the vault holds back. */
  readonly leaseMs?: number;
  readonly onReport: (report: ProbeReport) => void;
}

export interface ProbeLineOptions {
  readonly identity: string;
  readonly kid: string;
  readonly vault: VaultAccess;
  readonly clock: Clock;
  readonly random: Random;
  readonly timeoutMs: number;
}

interface Waiter {
  readonly subscriberId: string;
  /** The first probe that started after the wish. */
  readonly round: number;
  readonly resolve: (report: ProbeReport) => void;
  readonly reject: (error: Error) => void;
}

interface Member extends ProbeSubscriber {
  /** The vault answered, but not with this set's canary: others' proofs do not count for it. */
  readonly spoiled: boolean;
}

/** The longest a probe may take; a lease must outlast it together with the interval. */
export function probeTimeoutMs(timeoutMs: number, intervalMs: number): number {
  return Math.min(timeoutMs, Math.max(TIMEOUT_MS_MIN, intervalMs));
}

/**
 * Probes one (identity, key version) for any number of sets: one probe in flight, in the rhythm of
 * the most demanding set, faster while a denial awaits confirmation.
 */
export class ProbeLine {
  readonly #options: ProbeLineOptions;
  readonly #members = new Map<string, Member>();
  #waiters: Waiter[] = [];
  #confirmation: Confirmation = CLEAR;
  /** Whose canary raised the suspicion: confirmation asks with the same one. */
  #suspectId: string | undefined;
  #round = 0;
  #inFlight = false;
  #closed = false;
  #noAnswers = 0;
  #lastStartBootMs: number | undefined;
  #lastProofBootMs: number | undefined;
  #timer: Timer | undefined;
  /** Of the timer. */
  #nextBootMs: number | undefined;

  constructor(options: ProbeLineOptions) {
    this.#options = options;
  }

  /** CLOCK_BOOTTIME ms; undefined while a probe is under way or nobody wants any. */
  get nextProbeBootMs(): number | undefined {
    return this.#inFlight || this.empty ? undefined : this.#nextBootMs;
  }

  /** Who depends on it, in the order in which they came. */
  get subscriberIds(): string[] {
    return [...this.#members.keys()];
  }

  get empty(): boolean {
    return this.#members.size === 0;
  }

  /** `firstDelayMs` postpones the very first probe of the line. */
  add(subscriber: ProbeSubscriber, firstDelayMs = 0): void {
    const first = this.#lastStartBootMs === undefined && this.empty;
    this.#members.set(subscriber.id, { ...subscriber, spoiled: false });
    if (this.#inFlight) return;
    const usualMs = this.#confirmation.kind === 'suspected' ? 0 : this.#untilNextMs();
    this.#schedule(first ? firstDelayMs : usualMs);
  }

  /** The machine was asleep: whatever was known is old, and the next probe is due. */
  resume(delayMs: number): void {
    this.#noAnswers = 0;
    this.#lastStartBootMs = undefined;
    if (!this.#inFlight && !this.empty) this.#schedule(delayMs);
  }

  remove(subscriberId: string): void {
    this.#members.delete(subscriberId);
    this.#rejectWaiters((waiter) => waiter.subscriberId === subscriberId);
    if (this.empty) this.#timer?.cancel();
  }

  /**
   * Probes now, with the subscriber's own canary, until the answer needs no confirmation any more.
   */
  probeNow(subscriberId: string): Promise<ProbeReport> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ subscriberId, round: this.#round + 1, resolve, reject });
      if (this.#closed || !this.#members.has(subscriberId)) {
        this.#rejectWaiters((waiter) => waiter.subscriberId === subscriberId);
      }
      void this.#probe();
    });
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#members.clear();
    this.#rejectWaiters(() => true);
  }

  async #probe(): Promise<void> {
    if (this.#inFlight || this.#closed || this.empty) return;
    this.#timer?.cancel();
    this.#inFlight = true;
    const turn = await this.#turn();
    // Who is asked for is decided now: there may have been time for wishes, and for leaving.
    const member = this.#pick();
    if (member === undefined) {
      this.#inFlight = false;
      return;
    }
    this.#round += 1;
    this.#lastStartBootMs = this.#options.clock.bootMs();
    const verdict = await this.#ask(member, turn);
    this.#inFlight = false;
    this.#digest(member, verdict);
  }

  /** Waits for the vault's budget, but never so long that the lease suffers. */
  async #turn(): Promise<ProbeTurn | undefined> {
    const { vault, kid, clock } = this.#options;
    const wrapped = this.#pick()?.canary.wrapped;
    if (vault.probeTurn === undefined || wrapped === undefined) return undefined;
    const latestBootMs = this.#latestBootMs(clock.bootMs());
    return vault.probeTurn({ kid, wrapped, urgent: this.#isUrgent(), latestBootMs });
  }

  /**
   * A certain denial is confirmed before anything else, but a vault that gives no answers is not
   * pressed. One that may still be propagating takes its time anyway.
   */
  #isUrgent(): boolean {
    const confirmation = this.#confirmation;
    if (confirmation.kind !== 'suspected') return false;
    return confirmation.evidence === 'certain' && confirmation.noAnswers === 0;
  }

  /**
   * Until when the next probe may be put off, by the vault's wish or by ours: at most for half of
   * what is left of the lease, so that a lease which nears its end is asked for more and more
   * often. Undefined without a lease, which then cannot be lost.
   */
  #latestBootMs(nowBootMs: number): number | undefined {
    const leases = [...this.#members.values()].flatMap(({ leaseMs }) => leaseMs ?? []);
    if (leases.length === 0 || this.#lastProofBootMs === undefined) return undefined;
    const leftMs = this.#lastProofBootMs + Math.min(...leases) - nowBootMs;
    return leftMs > 0 ? nowBootMs + leftMs / 2 : undefined;
  }

  #pick(): Member | undefined {
    const wanted = this.#suspectId ?? this.#waiters[0]?.subscriberId;
    const preferred = wanted === undefined ? undefined : this.#members.get(wanted);
    if (preferred !== undefined) return preferred;
    const members = [...this.#members.values()];
    return members.find((member) => !member.spoiled) ?? members[0];
  }

  /** Never throws and always ends. */
  async #ask(member: Member, turn: ProbeTurn | undefined): Promise<Verdict> {
    const { vault, identity, kid, clock } = this.#options;
    const startedBootMs = clock.bootMs();
    const failed = (code: string, message: string): Verdict => ({
      kind: 'NO-ANSWER',
      class: 'no-answer',
      code,
      message,
      startedBootMs,
      durationMs: clock.bootMs() - startedBootMs,
    });
    const timeoutMs = probeTimeoutMs(this.#options.timeoutMs, this.#intervalMs());
    let watchdog: Timer | undefined;
    const expired = new Promise<Verdict>((resolve) => {
      watchdog = clock.setTimer(timeoutMs + WATCHDOG_MS, () =>
        resolve(failed('TIMEOUT', 'the probe did not end by itself')),
      );
    });
    const fresh = this.#confirmation.kind === 'suspected';
    try {
      const { canary } = member;
      const probe = vault.probe({ identity, kid, canary, fresh, timeoutMs, turn });
      return await Promise.race([probe, expired]);
    } catch (error) {
      return failed('INTERNAL', messageOf(error));
    } finally {
      watchdog?.cancel();
    }
  }

  #digest(asked: Member, verdict: Verdict): void {
    if (this.#closed) return;
    const { confirmation, recheckMs } = observe(
      this.#confirmation,
      verdict,
      this.#options.clock.nowMs(),
    );
    this.#confirmation = confirmation;
    if (verdict.kind === 'PROOF') this.#lastProofBootMs = verdict.startedBootMs;
    this.#noAnswers = verdict.kind === 'NO-ANSWER' ? this.#noAnswers + 1 : 0;
    const denial = confirmation.kind === 'clear' ? 'none' : confirmation.kind;
    const firstSeenMs = confirmation.kind === 'clear' ? undefined : confirmation.firstSeenMs;
    const report: ProbeReport = { kid: this.#options.kid, verdict, denial, firstSeenMs };
    const recipients = this.#recipients(asked.id, verdict);
    const settled = confirmation.kind !== 'suspected' || recheckMs === undefined;
    this.#suspectId = settled ? undefined : asked.id;
    this.#noteIntegrity(asked.id, { verdict, settled });
    for (const member of recipients) member.onReport(report);
    if (settled) this.#resolveWaiters(recipients, report);
    if (this.empty) return;
    this.#schedule(this.#pauseMs(verdict, recheckMs));
  }

  #pauseMs(verdict: Verdict, recheckMs: number | undefined): number {
    const usualMs = this.#usualPauseMs(verdict);
    if (recheckMs === undefined) return usualMs;
    // A suspicion is cleared up soon, but not against a vault that is already overwhelmed.
    const throttled = verdict.httpStatus === TOO_MANY_REQUESTS;
    return throttled ? Math.max(recheckMs, Math.min(usualMs, this.#intervalMs())) : recheckMs;
  }

  /**
   * Who may believe the verdict: a plaintext, right or wrong, speaks for the canary that was asked.
   */
  #recipients(askedId: string, verdict: Verdict): Member[] {
    return [...this.#members.values()].filter((member) => {
      if (member.id === askedId) return true;
      if (verdict.kind === 'PROOF') return !member.spoiled;
      return verdict.class !== 'integrity';
    });
  }

  #noteIntegrity(
    askedId: string,
    { verdict, settled }: { verdict: Verdict; settled: boolean },
  ): void {
    const member = this.#members.get(askedId);
    if (member === undefined) return;
    if (verdict.kind === 'PROOF') this.#members.set(askedId, { ...member, spoiled: false });
    if (verdict.class !== 'integrity' || !settled) return;
    this.#members.set(askedId, { ...member, spoiled: true });
    // The other sets are probed with their own canaries, from a clean slate.
    if (this.#members.size > 1) this.#confirmation = CLEAR;
  }

  #usualPauseMs(verdict: Verdict): number {
    if (this.#waiters.length > 0) return 0;
    if (verdict.kind !== 'NO-ANSWER') return this.#untilNextMs();
    const growingMs = NO_ANSWER_PAUSE_MS * 2 ** Math.min(this.#noAnswers - 1, 16);
    const jitter = 1 - NO_ANSWER_JITTER * this.#options.random.fraction();
    // Never later than the rhythm has it, however long it took to get no answer.
    const restMs = Math.max(NO_ANSWER_PAUSE_MS, this.#untilNextMs());
    const backOffMs = Math.min(growingMs * jitter, restMs);
    return Math.max(backOffMs, this.#obeyedMs(verdict.retryAfterMs ?? 0));
  }

  /** Retry-After as far as the lease permits. */
  #obeyedMs(retryAfterMs: number): number {
    const nowBootMs = this.#options.clock.bootMs();
    const latestBootMs = this.#latestBootMs(nowBootMs);
    return latestBootMs === undefined
      ? retryAfterMs
      : Math.min(retryAfterMs, latestBootMs - nowBootMs);
  }

  #untilNextMs(): number {
    if (this.#lastStartBootMs === undefined) return 0;
    const jittered = this.#intervalMs() * (1 - JITTER * this.#options.random.fraction());
    return Math.max(0, this.#lastStartBootMs + jittered - this.#options.clock.bootMs());
  }

  #intervalMs(): number {
    return Math.min(...[...this.#members.values()].map((member) => member.intervalMs));
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    this.#nextBootMs = this.#options.clock.bootMs() + delayMs;
    this.#timer = this.#options.clock.setTimer(delayMs, () => void this.#probe());
  }

  #resolveWaiters(recipients: readonly Member[], report: ProbeReport): void {
    const reached = new Set(recipients.map((member) => member.id));
    const done = (waiter: Waiter): boolean =>
      waiter.round <= this.#round && reached.has(waiter.subscriberId);
    const ready = this.#waiters.filter(done);
    this.#waiters = this.#waiters.filter((waiter) => !done(waiter));
    for (const waiter of ready) waiter.resolve(report);
  }

  #rejectWaiters(which: (waiter: Waiter) => boolean): void {
    const gone = this.#waiters.filter(which);
    this.#waiters = this.#waiters.filter((waiter) => !which(waiter));
    for (const waiter of gone) {
      waiter.reject(new KeyholdError(codes.ERR_SET_CLOSED, 'probing a key: the set was closed'));
    }
  }
}

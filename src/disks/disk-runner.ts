// SPDX-License-Identifier: Apache-2.0
import { assertNever, KeyholdError } from '../base/errors.js';
import type { RecordStore } from '../base/record-store.js';
import type { Peer } from '../nbd/peer.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import type { KeyCustody } from '../sets/ports.js';
import { type AccessChange, changeRules, DiskAccess } from './disk-access.js';
import { decisionOn } from './decision.js';
import { type Decision, DiskHands, type DiskHandsOptions } from './disk-hands.js';
import { DiskKeys, type DiskSeat } from './disk-keys.js';
import { DiskNews } from './disk-news.js';
import { DiskTimers } from './disk-timers.js';
import { DiskTurns } from './disk-turns.js';
import { codes } from './errors.js';
import type { DiskCause, DiskRef, DiskStateView } from './events.js';
import { failureFacts, initialControl, keyAccessOf, recordFor } from './facts.js';
import type {
  DiskControl,
  Effect,
  LifecycleContext,
  LifecycleEvent,
  OfflineFacts,
  TimerName,
} from './control.js';
import { transition } from './lifecycle.js';
import { Linger } from './linger.js';
import type { DiskClient, PlaneDiskEvent } from './ports.js';
import type { DiskRecord } from './record.js';
import { failureError, refusalError, viewState } from './state-view.js';
import { deleteStoreOf } from './store-file.js';

export interface DiskRunnerOptions extends Omit<
  DiskHandsOptions,
  'onPlaneEvent' | 'record' | 'set'
> {
  readonly record: DiskRecord;
  readonly set: EncryptionSet | undefined;
  readonly setById: (id: string) => EncryptionSet | undefined;
  readonly custody: KeyCustody;
  readonly records: RecordStore<DiskRecord>;
  /** How long a revoked disk outlives its last client. */
  readonly graceMs: number;
  /** How long connections stay open after going offline. */
  readonly lingerMs: number;
}

/**
 * One disk: its state, and the one event loop through which everything that happens to it goes, one
 * event after the other. What happens is decided by `transition`, and done by DiskHands.
 */
export class DiskRunner {
  /** What is done with the disk's key besides using it. */
  readonly keys: DiskKeys;
  readonly #options: DiskRunnerOptions;
  readonly #hands: DiskHands;
  #record: DiskRecord;
  #set: EncryptionSet | undefined;
  #control: DiskControl;
  #onlineRequestId: string | null = null;
  readonly #timers: DiskTimers;
  readonly #linger: Linger;
  readonly #access: DiskAccess;
  readonly #news: DiskNews;
  readonly #turns: DiskTurns;
  /** Why the last open or resume failed, for the command that wanted it. */
  #failure: unknown;

  constructor(options: DiskRunnerOptions) {
    this.#options = options;
    this.#record = options.record;
    this.#set = options.set;
    this.#access = new DiskAccess(options.record.allow);
    this.#timers = new DiskTimers(options.clock, (timer) => this.#timerFired(timer));
    this.#linger = new Linger(options.lingerMs);
    this.#control = initialControl(options.record, options.clock.nowMs());
    this.#hands = new DiskHands({
      ...options,
      record: () => this.#record,
      set: () => this.#set,
      onPlaneEvent: (event) => this.#onPlaneEvent(event),
    });
    this.#news = new DiskNews(options.emit, () => this.ref);
    this.#turns = new DiskTurns(() => this.ref.name, this.#news);
    this.keys = this.#createKeys();
  }

  get ref(): DiskRef {
    const { name, uuid, set } = this.#record;
    return { name, uuid, set };
  }

  get record(): DiskRecord {
    return this.#record;
  }

  get set(): EncryptionSet | undefined {
    return this.#set;
  }

  get attached(): boolean {
    return this.#control.attached;
  }

  get clients(): DiskClient[] {
    return this.#hands.clients();
  }

  get state(): DiskStateView {
    return this.#view(this.#control);
  }

  /** Resolves when the disk is online; else it rejects, and the intent is what it was. */
  async attach(): Promise<void> {
    await this.#command({ kind: 'attach' });
  }

  async detach(): Promise<void> {
    await this.#command({ kind: 'detach' });
  }

  /**
   * Rejects when the key is not accessible: then the disk is offline, and heals when it is again.
   */
  async restart(): Promise<void> {
    await this.#command({ kind: 'restart' });
  }

  /** Whether a peer may choose this disk now. */
  admits(peer: Peer): boolean {
    return this.#access.admitsNewcomer(peer);
  }

  /**
   * Changes the allow list; resolves with the number of sessions that lost their right and are
   * closed. If it rejects, the list and the sessions are as they were.
   */
  async changeAllow(change: AccessChange): Promise<number> {
    let closed = 0;
    await this.#turns.run('changing the allow list of', async () => {
      const { name, allow: before } = this.#record;
      const allow = changeRules(before, { ...change, disk: name });
      if (allow.join('\n') === before.join('\n')) return;
      await this.#access.change(allow, () => this.#save({ ...this.#record, allow }));
      const added = allow.filter((rule) => !before.includes(rule));
      const removed = before.filter((rule) => !allow.includes(rule));
      this.#news.allowChanged(added, removed);
      closed = this.#expel();
    });
    return closed;
  }

  /** The set's access may have changed. */
  noteAccess(): void {
    this.#note('access');
  }

  /** Takes the disk offline without touching its record. */
  async shutdown(): Promise<void> {
    await this.#turns.runUnlessClosed(async () => {
      await this.#process({ kind: 'shutdown' });
      this.#close();
    });
  }

  /**
   * Removes the store if told so, then the record. Refused unless offline. Afterwards the runner is
   * closed.
   */
  async remove(options: { deleteStore: boolean }): Promise<void> {
    const { name } = this.#record;
    await this.#turns.run('deleting', async () => {
      const { state } = this.state;
      if (state !== 'offline') {
        throw new KeyholdError(
          codes.ERR_DISK_ONLINE,
          `deleting disk ${name}: it is ${state}, expected offline`,
          { fields: { disk: name, actual: state, expected: 'offline' } },
        );
      }
      this.#timers.stopAll();
      await this.#hands.disconnect();
      if (options.deleteStore) await deleteStoreOf(this.#record);
      await this.#options.records.remove(name);
      this.#close();
    });
  }

  async #command(event: LifecycleEvent & { kind: 'attach' | 'detach' | 'restart' }): Promise<void> {
    await this.#turns.run(`${event.kind}ing`, async () => {
      this.#failure = undefined;
      await this.#process(event);
      if (this.#failure === undefined) return;
      const failed = { disk: this.ref.name, state: this.state, error: this.#failure };
      throw failureError(event.kind, failed);
    });
  }

  #createKeys(): DiskKeys {
    const seat: DiskSeat = {
      ref: () => this.ref,
      record: () => this.#record,
      state: () => this.state,
      set: () => this.#set,
      hands: this.#hands,
      save: (record) => this.#write(record),
      join: (set) => void (this.#set = set),
      process: (event) => this.#process(event),
    };
    const inTurn = <T>(doing: string, work: () => Promise<T>): Promise<T> =>
      this.#turns.run(doing, work);
    return new DiskKeys({ ...this.#options, seat, inTurn });
  }

  #note(what: 'access' | 'clients'): void {
    this.#turns.note(what, () => this.#process({ kind: what }));
  }

  /** Whether news is stale shows when its turn comes: a resume may stand before it in the queue. */
  #notify(event: LifecycleEvent): void {
    this.#turns.later(async () => {
      const stale = event.kind === 'lease-ended' && this.#hands.isStale(event.keyWipedBootMs);
      if (!stale) await this.#process(event);
    });
  }

  async #process(event: LifecycleEvent, inherited?: DiskCause): Promise<void> {
    const before = this.#control;
    const { control, effects } = transition(before, event, this.#context());
    const nowBootMs = this.#options.clock.bootMs();
    const decision = decisionOn(event, { access: this.#set?.access, nowBootMs, inherited });
    const [first] = effects;
    const recordFirst = first?.kind === 'record' && first.required;
    this.#control = control;
    if (recordFirst) {
      try {
        await (first.opening === true ? this.#saveOpening() : this.#save());
      } catch (error) {
        this.#control = before;
        throw error;
      }
    }
    if (event.kind === 'lease-ended' && before.phase.kind === 'online') {
      this.#news.wipedByNative(event.keyWipedBootMs);
    }
    this.#news.moved(this.#view(before), this.state, decision.cause);
    for (const effect of recordFirst ? effects.slice(1) : effects) {
      const followUp = await this.#perform(effect, decision);
      if (followUp !== undefined) await this.#process(followUp, decision.cause);
    }
  }

  async #perform(effect: Effect, decision: Decision): Promise<LifecycleEvent | undefined> {
    switch (effect.kind) {
      case 'record':
        await this.#save().catch((error: unknown) => this.#news.recordFailed(error));
        return undefined;
      case 'open':
        return this.#open(effect.attachedBefore);
      case 'resume':
        return this.#resume();
      case 'suspend':
        await this.#hands.suspend();
        return undefined;
      case 'go-offline':
        await this.#hands.goOffline(effect.facts, decision);
        return undefined;
      case 'disconnect':
        this.#timers.stop('linger');
        await this.#hands.disconnect();
        return undefined;
      case 'start-timer':
        this.#timers.start(effect.timer, this.#delayMsOf(effect.timer));
        return undefined;
      case 'stop-timer':
        this.#timers.stop(effect.timer);
        return undefined;
      case 'refuse':
        throw refusalError(decision.cause, this.ref.name, effect);
      default:
        return assertNever(effect, 'effect');
    }
  }

  async #open(attachedBefore: boolean): Promise<LifecycleEvent> {
    try {
      await this.keys.settleMoveInTurn();
      await this.#hands.open();
      this.#noteOnline();
      return { kind: 'opened' };
    } catch (error) {
      return { kind: 'open-failed', facts: this.#failed(error), attachedBefore };
    }
  }

  async #resume(): Promise<LifecycleEvent> {
    try {
      await this.#hands.resume();
      this.#noteOnline();
      return { kind: 'resumed' };
    } catch (error) {
      return { kind: 'resume-failed', facts: this.#failed(error) };
    }
  }

  #noteOnline(): void {
    const access = this.#set?.access;
    this.#onlineRequestId = access?.kind === 'granted' ? (access.verdict?.requestId ?? null) : null;
  }

  #failed(error: unknown): OfflineFacts {
    this.#failure = error;
    const nowMs = this.#options.clock.nowMs();
    const facts = failureFacts(error, keyAccessOf(this.#set, nowMs), nowMs);
    this.#news.openFailed(facts.reason, error);
    return facts;
  }

  #context(): LifecycleContext {
    const { clock } = this.#options;
    const set = this.#set;
    const nowMs = clock.nowMs();
    return {
      mode: set?.record.mode ?? 'immediate',
      holdOnHeal: set?.record.holdOnHeal ?? false,
      access: keyAccessOf(set, nowMs),
      clients: this.#hands.clients().length,
      nowMs,
    };
  }

  /** As if the disk that is being opened were online. */
  async #saveOpening(): Promise<void> {
    await this.#write({ ...this.#record, attached: this.#control.attached, offline: null });
  }

  async #save(base = this.#record): Promise<void> {
    await this.#write(recordFor(base, this.#control));
  }

  async #write(record: DiskRecord): Promise<void> {
    // A host that starts again brings its disks to where their records say they were.
    if (JSON.stringify(record) === JSON.stringify(this.#record)) return;
    await this.#options.records.save(record);
    this.#record = record;
  }

  #view(control: DiskControl): DiskStateView {
    return viewState(control, { set: this.#set, requestId: this.#onlineRequestId });
  }

  #onPlaneEvent(event: PlaneDiskEvent): void {
    switch (event.kind) {
      case 'lease-ended':
        this.#notify(event);
        break;
      case 'store-error':
      case 'store-buffered':
        this.#news.ofStore(event);
        break;
      case 'client-connected':
        // Its choice of this disk may be older than a change of the list.
        this.#expel();
        this.#noteClients(event.clients);
        break;
      case 'client-disconnected':
        this.#noteClients(event.clients);
        break;
      default:
        assertNever(event, 'plane event');
    }
  }

  #noteClients(clients: number): void {
    this.#news.clients(clients);
    this.#note('clients');
  }

  #expel(): number {
    return this.#hands.expel((peer) => this.#access.admitsSession(peer));
  }

  #delayMsOf(timer: TimerName): number {
    const { clock, graceMs } = this.#options;
    if (timer === 'linger') return this.#linger.begin(this.clients, clock.bootMs());
    return timer === 'grace' ? graceMs : (this.#set?.record.suspendTimeoutMs ?? 0);
  }

  #timerFired(timer: TimerName): void {
    const { clock } = this.#options;
    const againMs = timer === 'linger' ? this.#linger.look(this.clients, clock.bootMs()) : null;
    if (againMs === null) this.#notify({ kind: 'timer', timer });
    else this.#timers.start(timer, againMs);
  }

  #close(): void {
    this.#timers.stopAll();
    this.#turns.close();
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { AdminEvent } from '../admin/api.js';
import type { AuditLog } from '../audit/audit-log.js';
import type { Clock } from '../base/clock.js';
import { codeOf, messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { DiskEvents } from '../disks/events.js';
import type { DiskService } from '../disks/disk-service.js';
import type { Metrics } from '../metrics/metrics.js';
import { peerText } from '../nbd/peer.js';
import type { SetEvents } from '../sets/access.js';
import type { SetService } from '../sets/set-service.js';
import type { Alarms } from './alarms.js';
import { RecordBudget } from './record-budget.js';

const AUDIT_ALARM = 'audit';

/** Verdicts that a revocation metric counts: a denial took the disk offline, nobody's command. */
const DENIAL_CAUSE: ReadonlySet<string> = new Set(['access', 'restart', 'grace-timeout']);

interface TrailOptions {
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly alarms: Alarms;
  readonly logger: Logger;
}

/**
 * Carries what happens to those who watch: every key use and state change becomes an audit record,
 * an event of the stream and a log line; revocations and probes are measured. A full disk under the
 * audit log raises an alarm and stops nothing but the export of a key: refusing to act would keep
 * revoked disks online.
 */
export class Trail {
  readonly #options: TrailOptions;
  readonly #listeners = new Set<(event: AdminEvent) => void>();
  /** Last verdict per set and key: only changes are worth a record, the rest is in the metrics. */
  readonly #lastVerdicts = new Map<string, string>();
  readonly #denials: RecordBudget;

  constructor(options: TrailOptions) {
    this.#options = options;
    this.#denials = new RecordBudget(options.clock);
  }

  subscribe(listener: (event: AdminEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves when the record is durable or its failure has raised the alarm. */
  async record(kind: string, fields: Readonly<Record<string, unknown>>): Promise<void> {
    await this.demand(kind, fields).catch(() => undefined); // the alarm stands
  }

  /**
   * The same for what must not happen without a record: rejects, after raising the alarm, with what
   * kept it from being durable.
   */
  async demand(kind: string, fields: Readonly<Record<string, unknown>>): Promise<void> {
    const { audit, alarms, logger, metrics } = this.#options;
    logger.info({ event: kind, ...fields }, kind);
    try {
      const { seq, time } = await audit.append(kind, fields);
      metrics.observeAuditRecord();
      alarms.clear(AUDIT_ALARM);
      for (const listener of this.#listeners) listener({ ...fields, seq, time, kind });
    } catch (error) {
      metrics.observeAuditFailure();
      alarms.raise(AUDIT_ALARM, messageOf(error));
      logger.error({ event: kind, code: codeOf(error), cause: messageOf(error) }, 'audit failed');
      throw error;
    }
  }

  watchSets(sets: SetService): void {
    const { events } = sets;
    events.on('verdict', (event) => this.#verdict(event));
    events.on('granted', ({ set, previous, by }) =>
      this.#note('set-granted', { set: set.name, previous, by }),
    );
    events.on('denied', ({ set, previous, denial }) =>
      this.#note('set-denied', {
        set: set.name,
        previous,
        reason: denial.reason,
        kid: denial.kid,
        code: denial.verdict.code,
        vaultRequestId: denial.verdict.requestId,
        firstSeen: new Date(denial.firstSeenMs).toISOString(),
      }),
    );
    events.on('lapsed', ({ set, verdict }) =>
      this.#note('set-lapsed', { set: set.name, lastCode: verdict?.code }),
    );
    events.on('alarm', (event) => this.#setAlarm(event));
    events.on('set-key', ({ set, action, ...facts }) =>
      this.#note(`set-key-${action}`, { set: set.name, ...facts }),
    );
    events.on('created', ({ set, kid }) =>
      this.#note('set-created', { set: set.name, id: set.id, kid }),
    );
    events.on('deleted', ({ set }) => this.#note('set-deleted', { set: set.name, id: set.id }));
    this.#watchKeys(sets);
  }

  #watchKeys({ events }: SetService): void {
    events.on('availability', ({ set, used, cause }) => {
      const name = `availability key ${set.name}`;
      if (used) this.#options.alarms.raise(name, `stands in for the vault: ${cause}`);
      else this.#options.alarms.clear(name);
      this.#note(used ? 'availability-used' : 'availability-ended', { set: set.name, cause });
    });
    events.on('changed', ({ set, what }) => this.#note('set-changed', { set: set.name, what }));
    events.on('rewrapped', ({ set, ...facts }) =>
      this.#note('set-rewrapped', { set: set.name, ...facts }),
    );
    events.on('retired', ({ set, kids }) => this.#note('key-retired', { set: set.name, kids }));
    events.on('rotation', ({ set, trouble }) => {
      const name = `rotation ${set.name}`;
      if (trouble === null) this.#options.alarms.clear(name);
      else this.#options.alarms.raise(name, `${trouble.code}: ${trouble.message}`);
      const kind = trouble === null ? 'rotation-recovered' : 'rotation-failed';
      this.#note(kind, { set: set.name, code: trouble?.code, message: trouble?.message });
    });
    events.on('drill', ({ set, on, scenario }) =>
      this.#note(on ? 'drill-began' : 'drill-ended', { set: set.name, scenario }),
    );
    events.on('purged', ({ set, receipt }) =>
      this.#note('set-purged', { set: set.name, id: set.id, ...receipt }),
    );
  }

  watchDisks(disks: DiskService): void {
    const { events } = disks;
    events.on('created', ({ disk, ...facts }) => this.#disk('disk-created', disk, facts));
    events.on('deleted', ({ disk, ...facts }) => this.#disk('disk-deleted', disk, facts));
    events.on('state', ({ disk, cause, previous, current }) =>
      this.#disk('disk-state', disk, {
        cause,
        previous: previous.state,
        state: current.state,
        reason: current.reason,
        revoked: current.revoked,
        keyVersion: current.keyVersion,
        vaultRequestId: current.vaultRequestId,
        message: current.message,
      }),
    );
    events.on('unlocked', ({ disk, ...facts }) => this.#disk('dek-unsealed', disk, facts));
    events.on('suspended', ({ disk, ...facts }) => this.#disk('disk-suspended', disk, facts));
    events.on('offline-receipt', (event) => {
      this.#options.alarms.clear(`disk ${event.disk.name}`);
      this.#receipt(event);
    });
    events.on('offline-failed', ({ disk, ...facts }) => {
      // The key may still be in memory: nothing is more urgent.
      this.#options.alarms.raise(`disk ${disk.name}`, `going offline failed: ${facts.message}`);
      this.#disk('disk-offline-failed', disk, facts);
    });
    events.on('clients-disconnected', ({ disk, ...facts }) =>
      this.#disk('clients-disconnected', disk, facts),
    );
    events.on('open-failed', ({ disk, ...facts }) => this.#disk('disk-open-failed', disk, facts));
    events.on('header-damaged', ({ disk, ...facts }) => this.#disk('header-damaged', disk, facts));
    events.on('store-error', ({ disk, ...facts }) => this.#disk('store-error', disk, facts));
    events.on('store-buffered', ({ disk, ...facts }) => this.#disk('store-buffered', disk, facts));
    events.on('record-error', ({ disk, ...facts }) => this.#disk('record-error', disk, facts));
    events.on('allow-changed', ({ disk, ...facts }) =>
      this.#disk('disk-allow-changed', disk, facts),
    );
    events.on('header-rewrapped', ({ disk, kids }) =>
      this.#disk('header-rewrapped', disk, { kids }),
    );
    events.on('moved', ({ disk, from }) => this.#disk('disk-moved', disk, { from: from.name }));
    events.on('erased', ({ disk, ...facts }) => this.#disk('disk-erased', disk, facts));
    events.on('client-expelled', ({ disk, peer }) =>
      this.#disk('client-expelled', disk, { peer: peerText(peer) }),
    );
    events.on('refused', (refusal) => this.#refusal(refusal));
  }

  #note(kind: string, fields: Readonly<Record<string, unknown>>): void {
    void this.record(kind, fields);
  }

  #disk(
    kind: string,
    disk: DiskEvents['clients']['disk'],
    facts: Readonly<Record<string, unknown>>,
  ): void {
    this.#note(kind, { disk: disk.name, uuid: disk.uuid, set: disk.set.name, ...facts });
  }

  #refusal({ reason, name, peer }: DiskEvents['refused']): void {
    this.#options.metrics.observeRefusal(reason);
    // The others are mistakes, or a moment's bad luck; this one may be somebody who tries doors.
    if (reason !== 'denied') return;
    const suppressed = this.#denials.take();
    if (suppressed === undefined) return;
    this.#note('export-denied', { disk: name, peer: peerText(peer), suppressed });
  }

  #verdict({ set, kid, verdict, denial }: SetEvents['verdict']): void {
    const { kind, durationMs, code, message, requestId, httpStatus } = verdict;
    this.#options.metrics.observeProbe({ set: set.name, verdict: kind, durationMs });
    const key = `${set.id} ${kid}`;
    const signature = [kind, verdict.class, code, denial].join(' ');
    if (this.#lastVerdicts.get(key) === signature) return;
    this.#lastVerdicts.set(key, signature);
    this.#note('verdict', {
      set: set.name,
      kid,
      verdict: kind,
      class: verdict.class,
      denial,
      code,
      message,
      httpStatus,
      vaultRequestId: requestId,
    });
  }

  #setAlarm({ set, raised, alarm }: SetEvents['alarm']): void {
    const name = `set ${set.name}`;
    if (raised) this.#options.alarms.raise(name, `${alarm.code}: ${alarm.message}`);
    else this.#options.alarms.clear(name);
    this.#note(raised ? 'set-alarm' : 'set-alarm-cleared', { set: set.name, code: alarm.code });
  }

  #receipt({ disk, receipt, ...facts }: DiskEvents['offline-receipt']): void {
    this.#disk('offline-receipt', disk, { ...facts, ...receipt });
    if (facts.vaultRequestId === null || !DENIAL_CAUSE.has(facts.cause)) return;
    this.#options.metrics.observeRevocation({
      set: disk.set.name,
      reason: facts.reason,
      verdictBootMs: facts.decidedBootMs,
      keyWipedBootMs: receipt.keyWipedBootMs,
      drainedBootMs: receipt.drainedBootMs,
    });
  }
}

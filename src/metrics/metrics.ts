// SPDX-License-Identifier: Apache-2.0
import { collectDefaultMetrics, Counter, Histogram, Registry } from 'prom-client';
import { REFUSAL_REASONS, type RefusalReason } from '../disks/events.js';
import { DISK_METRICS } from './disk-metrics.js';
import { renderDiskPage } from './disk-page.js';
import { LatencyBySet } from './latency-by-set.js';
import { registerSampledMetric } from './sampled-metric.js';
import { registerSetMetrics } from './set-metrics.js';
import type { MetricsSources, SetSample } from './sources.js';

/** Answers of a vault: milliseconds on a good day, the timeout on a bad one. */
const PROBE_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** Wiping takes microseconds, draining waits for I/O under way. */
const OFFLINE_BUCKETS_SECONDS = [
  0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30,
];

const VERDICTS = ['PROOF', 'DENIED', 'NO-ANSWER'];
/** Of what a vault says; rarer reasons are counted when there is one. */
const DENIAL_REASONS = [
  'key-disabled',
  'key-deleted',
  'access-denied',
  'identity-denied',
  'key-expired',
];

export interface ProbeObservation {
  readonly set: string;
  readonly verdict: 'PROOF' | 'DENIED' | 'NO-ANSWER';
  readonly durationMs: number;
}

/** One disk that a denied key took offline. Times are CLOCK_BOOTTIME milliseconds. */
export interface RevocationObservation {
  readonly set: string;
  readonly reason: string;
  /** When the verdict was confirmed. */
  readonly verdictBootMs: number;
  readonly keyWipedBootMs: number;
  /** When every request under way had been answered. */
  readonly drainedBootMs: number;
}

/** Everything that `/metrics` shows, in a registry of its own. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #sources: MetricsSources;
  #sets: readonly SetSample[] = [];
  readonly #latency = new LatencyBySet();
  #scraping: Promise<string> | undefined;
  readonly #probes: Counter<'set' | 'verdict'>;
  readonly #probeSeconds: Histogram<'set'>;
  readonly #revocations: Counter<'set' | 'reason'>;
  readonly #offlineSeconds: Histogram<'phase'>;
  readonly #auditRecords: Counter;
  readonly #auditFailures: Counter;
  readonly #auditAnchors: Counter<'result'>;
  readonly #refusals: Counter<'reason'>;

  constructor(options: { sources: MetricsSources; version: string }) {
    this.#sources = options.sources;
    const registers = [this.#registry];
    this.#probes = new Counter({
      name: 'keyhold_probes_total',
      help: 'Probes of customer keys, by verdict.',
      labelNames: ['set', 'verdict'],
      registers,
    });
    this.#probeSeconds = new Histogram({
      name: 'keyhold_probe_duration_seconds',
      help: 'Time that a probe took, with or without an answer.',
      labelNames: ['set'],
      buckets: PROBE_BUCKETS_SECONDS,
      registers,
    });
    this.#revocations = new Counter({
      name: 'keyhold_revocations_total',
      help: 'Disks that a denied key took offline, by reason.',
      labelNames: ['set', 'reason'],
      registers,
    });
    this.#offlineSeconds = new Histogram({
      name: 'keyhold_revocation_offline_seconds',
      help: 'Time from the confirmed verdict to the wiped key, and to the offline disk.',
      labelNames: ['phase'],
      buckets: OFFLINE_BUCKETS_SECONDS,
      registers,
    });
    for (const phase of ['key_wiped', 'offline']) this.#offlineSeconds.zero({ phase });
    this.#auditRecords = new Counter({
      name: 'keyhold_audit_records_total',
      help: 'Records that were written to the audit log.',
      registers,
    });
    this.#auditAnchors = new Counter({
      name: 'keyhold_audit_anchors_total',
      help: 'Anchors of the audit log, by whether they got where they should.',
      labelNames: ['result'],
      registers,
    });
    for (const result of ['ok', 'failed']) this.#auditAnchors.inc({ result }, 0);
    this.#auditFailures = new Counter({
      name: 'keyhold_audit_failures_total',
      help: 'Records that could not be written to the audit log.',
      registers,
    });
    this.#refusals = new Counter({
      name: 'keyhold_nbd_refused_total',
      help: 'Exports that clients asked for and were not given, by reason.',
      labelNames: ['reason'],
      registers,
    });
    for (const reason of REFUSAL_REASONS) this.#refusals.inc({ reason }, 0);
    registerSampledMetric(this.#registry, this.#latency);
    registerSetMetrics(this.#registry, () => this.#sets);
    this.#registerVaultMetrics();
    this.#registerProcessMetrics(options.version);
    collectDefaultMetrics({ register: this.#registry });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Every metric's name, for the check against docs/METRICS.md. */
  names(): string[] {
    return [...DISK_METRICS, ...this.#registry.getMetricsAsArray()].map(({ name }) => name);
  }

  /** The text that Prometheus reads. Callers at the same time share one. */
  scrape(): Promise<string> {
    this.#scraping ??= this.#scrape().finally(() => (this.#scraping = undefined));
    return this.#scraping;
  }

  observeProbe({ set, verdict, durationMs }: ProbeObservation): void {
    this.#probes.inc({ set, verdict });
    this.#probeSeconds.observe({ set }, durationMs / 1000);
  }

  observeRevocation(observation: RevocationObservation): void {
    const { set, reason, verdictBootMs, keyWipedBootMs, drainedBootMs } = observation;
    this.#revocations.inc({ set, reason });
    const phases = [
      ['key_wiped', keyWipedBootMs],
      ['offline', drainedBootMs],
    ] as const;
    for (const [phase, bootMs] of phases) {
      this.#offlineSeconds.observe({ phase }, Math.max(0, bootMs - verdictBootMs) / 1000);
    }
  }

  observeAuditRecord(): void {
    this.#auditRecords.inc();
  }

  observeAnchor(result: 'ok' | 'failed'): void {
    this.#auditAnchors.inc({ result });
  }

  observeAuditFailure(): void {
    this.#auditFailures.inc();
  }

  observeRefusal(reason: RefusalReason): void {
    this.#refusals.inc({ reason });
  }

  async #scrape(): Promise<string> {
    // Read once, so that all metrics of sets show the same instant.
    this.#sets = this.#sources.sets();
    this.#sets.forEach(({ name }) => this.#countFromZero(name));
    const page = await renderDiskPage(DISK_METRICS, this.#latency.watch(this.#sources.disks()));
    return page + (await this.#registry.metrics());
  }

  /** Without it the first revocation of a set would be no increase of anything. */
  #countFromZero(set: string): void {
    for (const verdict of VERDICTS) this.#probes.inc({ set, verdict }, 0);
    for (const reason of DENIAL_REASONS) this.#revocations.inc({ set, reason }, 0);
  }

  #registerVaultMetrics(): void {
    const vaults = () => this.#sources.vaults();
    registerSampledMetric(this.#registry, {
      name: 'keyhold_vault_budget_tokens',
      help: 'Units that may be asked of the vault at once; below zero after confirmed denials.',
      type: 'gauge',
      read: () =>
        vaults().flatMap(({ vault, probeTokens, bulkTokens }) => [
          { labels: { vault, share: 'probe' }, value: probeTokens },
          { labels: { vault, share: 'bulk' }, value: bulkTokens },
        ]),
    });
    registerSampledMetric(this.#registry, {
      name: 'keyhold_vault_throttled_total',
      help: 'Answers 429 of the vault.',
      type: 'counter',
      read: () => vaults().map(({ vault, throttled }) => ({ labels: { vault }, value: throttled })),
    });
  }

  #registerProcessMetrics(version: string): void {
    const register = (
      type: 'gauge' | 'counter',
      name: string,
      help: string,
      read: () => number,
      labels = {},
    ): void => {
      const readOne = () => [{ labels, value: read() }];
      registerSampledMetric(this.#registry, { name, help, type, read: readOne });
    };
    const sources = this.#sources;
    const info = 'Always 1; says which version runs.';
    register('gauge', 'keyhold_build_info', info, () => 1, { version });
    register('gauge', 'keyhold_connections', 'NBD connections.', () => sources.connections().total);
    register(
      'gauge',
      'keyhold_connections_negotiating',
      'NBD connections in option negotiation.',
      () => sources.connections().negotiating,
    );
    register('gauge', 'keyhold_shards', 'Shards that should run.', () => sources.shards().total);
    register('gauge', 'keyhold_shards_alive', 'Shards that run.', () => sources.shards().alive);
    register(
      'counter',
      'keyhold_shard_restarts_total',
      'Shards that died and were started again.',
      () => sources.shards().restarts,
    );
    registerSampledMetric(this.#registry, {
      name: 'keyhold_shard_cpu_seconds_total',
      help: 'Processor time of each shard: its rate is the share of a processor that it uses.',
      type: 'counter',
      read: () =>
        sources.shards().cpuSeconds.map((value, index) => ({
          labels: { shard: String(index) },
          value,
        })),
    });
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Figures, Percentiles, StoreKind, Summary } from './figures.js';
import { summarize } from './figures.js';
import type { GoalResult } from './goals.js';
import type { LoadLatency } from './latency.js';
import type { MachineFacts } from './machine.js';
import type { Peer } from './peer.js';
import { SHARD_CONNECTIONS, type ShardResult } from './shards.js';
import { isSmall, type Workload } from './workloads.js';

export interface Report {
  readonly machine: MachineFacts;
  readonly rounds: number;
  readonly seconds: number;
  readonly stores: readonly StoreKind[];
  readonly workloads: readonly Workload[];
  readonly peers: ReadonlyArray<Pick<Peer, 'name' | 'kind'>>;
  readonly figures: Figures;
  readonly halfLoad: readonly LoadLatency[];
  readonly shards: readonly ShardResult[];
  readonly goals: readonly GoalResult[];
  /** Servers that are not here, and runs that failed, with the reason. */
  readonly notMeasured: readonly string[];
}

/** `version` grows when a field changes its meaning. */
export function renderJson(report: Report): string {
  const { figures, workloads, ...rest } = report;
  const units = new Map(workloads.map(({ name, unit }) => [name, unit]));
  const results = figures.cells().map(({ cell, samples }) => ({
    ...cell,
    unit: units.get(cell.workload),
    ...summarize(samples),
    samples,
  }));
  return `${JSON.stringify({ version: 1, ...rest, results }, null, 2)}\n`;
}

export function renderMarkdown(report: Report): string {
  const sections = [
    machineSection(report),
    ...report.stores.flatMap((store) => [throughput(report, store), cpuTime(report, store)]),
    latency(report),
    shardSection(report),
    goalSection(report),
  ];
  const missing = report.notMeasured.map((line) => `- NOT MEASURED: ${line}\n`);
  return [...sections, missing.join('')].filter((section) => section !== '').join('\n');
}

export function table(head: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return `${lines.join('\n')}\n`;
}

function machineSection({ machine, rounds, seconds }: Report): string {
  const facts = Object.entries(machine).map(([name, value]) => `- ${name}: ${value}\n`);
  const how =
    `Medians of ${rounds} rounds of ${seconds} s for each workload and server, the servers in ` +
    'turn within a round and each round another one first. Client and server share the machine.';
  return `### Machine\n\n${facts.join('')}\n${how}\n`;
}

/** Rows for what was measured on this store. */
function rowsOf(
  report: Report,
  store: StoreKind,
  cellOf: (workload: Workload, summaryOf: (peer: string) => Summary | null) => string[],
): string[][] {
  return report.workloads
    .filter(({ name }) => report.figures.has(store, name))
    .map((workload) => {
      const summaryOf = (peer: string): Summary | null => {
        const samples = report.figures.samples({ store, workload: workload.name, peer });
        return samples.length === 0 ? null : summarize(samples);
      };
      return [workload.name, ...cellOf(workload, summaryOf)];
    });
}

function throughput(report: Report, store: StoreKind): string {
  const names = report.peers.map(({ name }) => name);
  const [us = '', ...others] = names;
  const rows = rowsOf(report, store, (workload, summaryOf) => {
    const ours = summaryOf(us)?.median ?? Number.NaN;
    const cells = others.map((peer) => {
      const theirs = summaryOf(peer);
      if (theirs === null) return '–';
      const value = theirs.median.toFixed(0);
      return Number.isNaN(ours) ? value : `${value} (${(ours / theirs.median).toFixed(2)})`;
    });
    return [workload.unit, Number.isNaN(ours) ? '–' : ours.toFixed(0), ...cells];
  });
  if (rows.length === 0) return '';
  const note = `In brackets: ${us} over that server; above 1, ${us} is faster.`;
  return `### Throughput, ${store}\n\n${note}\n\n${table(['workload', 'unit', ...names], rows)}`;
}

function cpuTime(report: Report, store: StoreKind): string {
  const names = report.peers.map(({ name }) => name);
  const rows = rowsOf(report, store, (workload, summaryOf) => {
    const cells = names.map((peer) => {
      const summary = summaryOf(peer);
      if (summary === null) return '–';
      const [client, server] = isSmall(workload)
        ? [summary.clientCpuUsPerOperation, summary.serverCpuUsPerOperation]
        : [summary.clientCpuSecondsPerGb, summary.serverCpuSecondsPerGb];
      return `${client.toFixed(2)} / ${server.toFixed(2)}`;
    });
    return [isSmall(workload) ? 'µs/operation' : 's/GB', ...cells];
  });
  if (rows.length === 0) return '';
  const note = 'CPU time of the client / of the server, kernel included.';
  return `### CPU time, ${store}\n\n${note}\n\n${table(['workload', 'unit', ...names], rows)}`;
}

function percentiles({ p50, p99, p999 }: Percentiles): string {
  return [p50, p99, p999].map((value) => value.toFixed(0)).join(' / ');
}

function latency(report: Report): string {
  const names = report.peers.map(({ name }) => name);
  const [store = 'tmpfs'] = report.stores;
  const quiet = rowsOf(report, store, (_, summaryOf) =>
    names.map((peer) => {
      const latencyUs = summaryOf(peer)?.latencyUs ?? null;
      return latencyUs === null ? '–' : percentiles(latencyUs);
    }),
  ).filter(([name = '']) => / q1$/.test(name));
  const loaded = [...new Set(report.halfLoad.map(({ workload }) => workload))].map((workload) => {
    const cells = names.map((name) => {
      const found = report.halfLoad.find((one) => one.workload === workload && one.peer === name);
      if (found === undefined) return '–';
      const thousands = (found.operationsPerSecond / 1000).toFixed(0);
      return `${percentiles(found.latencyUs)} at ${thousands}k`;
    });
    return [`half of the peak of ${workload}`, ...cells];
  });
  if (quiet.length + loaded.length === 0) return '';
  const note =
    'p50 / p99 / p99.9 in microseconds. At half load: each server at half of its own peak, ' +
    'operations at random (Poisson) intervals.';
  const rows = table(['workload', ...names], [...quiet, ...loaded]);
  return `### Latency, ${store}\n\n${note}\n\n${rows}`;
}

function shardSection({ shards, stores }: Report): string {
  if (shards.length === 0) return '';
  const rows = shards.map(({ load, one, two, ratio, ratioMax }) => [
    load,
    one.operationsPerSecond.toFixed(0),
    two.operationsPerSecond.toFixed(0),
    ratio.toFixed(2),
    ratioMax.toFixed(2),
    `${one.serverCpuUsPerOperation.toFixed(2)} / ${two.serverCpuUsPerOperation.toFixed(2)}`,
    `${one.clientCpuUsPerOperation.toFixed(2)} / ${two.clientCpuUsPerOperation.toFixed(2)}`,
  ]);
  const head = [
    'workload',
    'one shard, operations/s',
    'two shards',
    'ratio',
    'ratio possible',
    'server, µs/operation, one / two',
    'client, µs/operation, one / two',
  ];
  const note =
    `${SHARD_CONNECTIONS} connections of a client that moves the replies to /dev/null unread, so ` +
    'that it costs as little as a client can. It shares two cores with the shards: "ratio ' +
    'possible" is 2 / (1 + client CPU / server CPU) with two shards.';
  return `### Shards, ${stores[0] ?? ''}\n\n${note}\n\n${table(head, rows)}`;
}

function goalSection({ goals }: Report): string {
  const rows = goals.map(({ claim, store, met, worst, where }) => [
    claim,
    store,
    met === null ? 'not measured' : met ? 'met' : '**missed**',
    worst === null ? '–' : worst.toFixed(2),
    where ?? '–',
  ]);
  const misses = goals.flatMap(({ claim, store, misses: below }) =>
    below.map(({ where, ratio }) => `- ${store}: ${claim}: ${ratio.toFixed(2)} (${where})\n`),
  );
  const head = ['goal', 'store', 'result', 'lowest ratio', 'where'];
  const list = misses.length === 0 ? '' : `\nBelow the goals:\n\n${misses.join('')}`;
  return `### Goals\n\n${table(head, rows)}${list}`;
}

// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { run } from '../test/support/process.js';
import { Figures, type StoreKind } from './figures.js';
import { judgeGoals } from './goals.js';
import { LATENCY_LOADS, type LoadLatency, measureHalfLoad } from './latency.js';
import { machineFacts } from './machine.js';
import { type BenchOptions, HELP, parseOptions } from './options.js';
import { DISK_BYTES, type Peer, type Places, repository } from './peer.js';
import { startPeers } from './peers.js';
import { writePlots } from './plot.js';
import { createProgress, type Progress } from './progress.js';
import { renderJson, renderMarkdown, type Report } from './report.js';
import { measureShards, SHARD_LOADS, type ShardResult } from './shards.js';
import { rotate } from './statistics.js';
import { type Workload, workloads } from './workloads.js';

/** Ctrl-C ends the measuring at the next step, so that the servers and their stores go as well. */
const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => interruption.abort(new Error(`interrupted by ${signal}`)));
}

interface Results {
  readonly figures: Figures;
  readonly peers: Map<string, Peer>;
  readonly notMeasured: Set<string>;
  halfLoad: LoadLatency[];
  shards: ShardResult[];
}

/** Every server in turn for each workload of each round, and another one first each time. */
async function measureRounds(
  store: StoreKind,
  peers: readonly Peer[],
  chosen: readonly Workload[],
  context: { options: BenchOptions; results: Results; places: Places; progress: Progress },
): Promise<void> {
  const { options, results, places, progress } = context;
  for (let round = 0; round < options.rounds; round += 1) {
    for (const [index, workload] of chosen.entries()) {
      for (const peer of rotate(peers, round + index)) {
        progress.step(
          `${store}, round ${round + 1}/${options.rounds}: ${workload.name}, ${peer.name}`,
        );
        const cell = { store, workload: workload.name, peer: peer.name };
        try {
          results.figures.add(cell, await workload.measure(peer, options.seconds));
        } catch (error) {
          results.notMeasured.add(`${workload.name}, ${peer.name}: ${String(error)}`);
        }
        // What one server wrote must not go to the disk while the next one is measured.
        if (workload.writes && store === 'ext4') await run('sync', ['-f', places.stores]);
      }
    }
  }
}

async function measureStore(
  store: StoreKind,
  places: Places,
  context: { options: BenchOptions; results: Results; isFirst: boolean },
): Promise<void> {
  const { options, results, isFirst } = context;
  const source = join(places.stores, 'copy-source');
  const chosen = workloads(source)
    .filter(({ name }) => options.only.test(name))
    .filter((workload) => isFirst || workload.onEveryStore);
  if (chosen.length === 0) return;
  process.stderr.write(`${store}: starting the servers and filling their stores\n`);
  await writeCopySource(source);
  const started = await startPeers(places, { tls: options.tls, only: options.peers });
  for (const line of started.absent) {
    process.stderr.write(`ABSENT: ${line}\n`);
    results.notMeasured.add(line);
  }
  const { peers } = started;
  for (const peer of peers) results.peers.set(peer.name, peer);
  const runs = options.rounds * chosen.length * peers.length;
  const latencyRuns = isFirst ? options.latencyRounds * LATENCY_LOADS.length * peers.length : 0;
  const progress = createProgress(runs + latencyRuns, interruption.signal);
  try {
    await run('sync', ['-f', places.stores]);
    await measureRounds(store, peers, chosen, { options, results, places, progress });
    if (isFirst) {
      results.halfLoad = await measureHalfLoad(store, peers, results.figures, {
        rounds: options.latencyRounds,
        seconds: options.seconds,
        step: (label) => progress.step(label),
      });
    }
  } finally {
    progress.end();
    await started.stop();
  }
}

async function compareOneAndTwoShards(
  places: Places,
  options: BenchOptions,
): Promise<ShardResult[]> {
  process.stderr.write('one and two shards\n');
  const total = options.rounds * SHARD_LOADS.length * 2;
  const progress = createProgress(total, interruption.signal);
  const { rounds, seconds } = options;
  const step = (label: string): void => progress.step(label);
  try {
    return await measureShards(places, { rounds, seconds, step });
  } finally {
    progress.end();
  }
}

/** Random bytes: no client may skip them as zeros. */
async function writeCopySource(path: string): Promise<void> {
  const block = randomBytes(64 * 1024 * 1024);
  const file = await open(path, 'w');
  try {
    for (let done = 0; done < DISK_BYTES; done += block.length) await file.write(block);
  } finally {
    await file.close();
  }
}

async function measureAll(options: BenchOptions): Promise<Results> {
  const results: Results = {
    figures: new Figures(),
    peers: new Map(),
    notMeasured: new Set(),
    halfLoad: [],
    shards: [],
  };
  const out = join(repository, 'bench/out');
  await mkdir(out, { recursive: true });
  for (const [index, store] of options.stores.entries()) {
    const stores = await mkdtemp(join(store === 'tmpfs' ? '/dev/shm' : out, 'keyhold-bench-'));
    const sockets = await mkdtemp(join(tmpdir(), 'keyhold-bench-'));
    const places = { stores, sockets };
    try {
      const isFirst = index === 0;
      await measureStore(store, places, { options, results, isFirst });
      // They are about the shards alone: no need of the other servers' patterns.
      const wanted = isFirst && !options.tls && options.peers.test('keyhold (512)');
      if (wanted && options.only.test('shards')) {
        results.shards = await compareOneAndTwoShards(places, options);
      }
    } finally {
      await rm(stores, { recursive: true, force: true });
      await rm(sockets, { recursive: true, force: true });
    }
  }
  return results;
}

async function reportOf(options: BenchOptions, results: Results): Promise<Report> {
  const { figures, halfLoad, shards } = results;
  const chosen = workloads('').filter(({ name }) => options.only.test(name));
  const peers = [...results.peers.values()].map(({ name, kind }) => ({ name, kind }));
  return {
    machine: await machineFacts(),
    rounds: options.rounds,
    seconds: options.seconds,
    stores: options.stores,
    workloads: chosen,
    peers,
    figures,
    halfLoad,
    shards,
    goals: options.tls
      ? []
      : judgeGoals({ figures, workloads: chosen, peers }, options.stores, shards),
    notMeasured: [...results.notMeasured],
  };
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  const report = await reportOf(options, await measureAll(options));
  const plots = await writePlots(report, options.plots);
  process.stderr.write(`plots: ${join(options.plots, `{${plots.join(',')}}`)}\n`);
  const markdown = renderMarkdown(report);
  if (options.markdown !== null) {
    const at = relative(dirname(options.markdown), options.plots);
    const images = plots.map((name) => `![${name.replace('.svg', '')}](${join(at, name)})\n`);
    await writeFile(options.markdown, `${markdown}\n### Plots\n\n${images.join('')}`);
  }
  if (options.json !== null && options.json !== '-') {
    await writeFile(options.json, renderJson(report));
  }
  process.stdout.write(options.json === '-' ? renderJson(report) : markdown);
}

await main();

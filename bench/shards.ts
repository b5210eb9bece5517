// SPDX-License-Identifier: Apache-2.0
import { runOk } from '../test/support/process.js';
import { cpuSecondsOf } from './cpu.js';
import { fill } from './fio.js';
import { startKeyhold } from './keyhold.js';
import { benchProgram, type Peer, type Places, type Running } from './peer.js';
import { median, rotate } from './statistics.js';

// Two shards against one, where the client is not the limit. Here the client and two shards share
// two cores, so fio, which costs about as much as the server, would hide a second shard. The client
// of this comparison (native/bench/drain_client.cc) moves replies to /dev/null without looking at
// them. What it still costs caps what two shards can show: with two cores, one shard limited by its
// core and c CPU seconds of client for each of the server's, two shards carry at most 2 / (1 + c)
// times as much. Both figures stand in the table.

export interface ShardLoad {
  readonly name: string;
  readonly blockBytes: number;
  readonly depth: number;
}

export const SHARD_CONNECTIONS = 4;

export const SHARD_LOADS: readonly ShardLoad[] = [
  { name: '4k random read q32 x4', blockBytes: 4096, depth: 32 },
  { name: '128k random read q16 x4', blockBytes: 128 * 1024, depth: 16 },
];

export interface ShardRun {
  readonly operationsPerSecond: number;
  readonly serverCpuUsPerOperation: number;
  readonly clientCpuUsPerOperation: number;
}

export interface ShardResult {
  readonly load: string;
  readonly one: ShardRun;
  readonly two: ShardRun;
  /** Two shards over one. */
  readonly ratio: number;
  /** What the client leaves possible on two cores. */
  readonly ratioMax: number;
}

interface DrainOutput {
  readonly operations: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
}

async function drain(peer: Peer, load: ShardLoad, seconds: number): Promise<ShardRun> {
  const url = new URL(peer.uri);
  const before = await cpuSecondsOf(peer.pid);
  const output = await runOk(benchProgram('drain_client'), [
    url.searchParams.get('socket') ?? '',
    url.pathname.slice(1),
    String(peer.sizeBytes),
    String(SHARD_CONNECTIONS),
    String(load.blockBytes),
    String(load.depth),
    String(seconds),
  ]);
  const server = (await cpuSecondsOf(peer.pid)) - before;
  const result = JSON.parse(output) as DrainOutput;
  return {
    operationsPerSecond: result.operations / result.seconds,
    serverCpuUsPerOperation: (server / result.operations) * 1e6,
    clientCpuUsPerOperation: (result.cpuSeconds / result.operations) * 1e6,
  };
}

export function compareShards(
  load: string,
  ones: readonly ShardRun[],
  twos: readonly ShardRun[],
): ShardResult {
  const one = middle(ones);
  const two = middle(twos);
  return {
    load,
    one,
    two,
    ratio: two.operationsPerSecond / one.operationsPerSecond,
    ratioMax: 2 / (1 + two.clientCpuUsPerOperation / two.serverCpuUsPerOperation),
  };
}

function middle(runs: readonly ShardRun[]): ShardRun {
  return {
    operationsPerSecond: median(runs.map((run) => run.operationsPerSecond)),
    serverCpuUsPerOperation: median(runs.map((run) => run.serverCpuUsPerOperation)),
    clientCpuUsPerOperation: median(runs.map((run) => run.clientCpuUsPerOperation)),
  };
}

export async function measureShards(
  places: Places,
  options: { rounds: number; seconds: number; step: (label: string) => void },
): Promise<ShardResult[]> {
  const started: Array<{ running: Running; peer: Peer; shards: number }> = [];
  try {
    for (const shards of [1, 2]) {
      const running = await startKeyhold(places, {
        sectorSizes: [512],
        // So that one shard is one thread.
        dataPlane: { shards, cipher_threads: 0 },
      });
      const [peer] = running.peers;
      if (peer === undefined) throw new Error('expected one disk, got none');
      started.push({ running, peer, shards });
      await fill(peer);
    }
    const runs = new Map<string, ShardRun[]>();
    for (let round = 0; round < options.rounds; round += 1) {
      for (const load of SHARD_LOADS) {
        for (const { peer, shards } of rotate(started, round)) {
          options.step(`${shards} shards: ${load.name}`);
          const key = `${load.name} ${shards}`;
          runs.set(key, [...(runs.get(key) ?? []), await drain(peer, load, options.seconds)]);
        }
      }
    }
    return SHARD_LOADS.map(({ name }) =>
      compareShards(name, runs.get(`${name} 1`) ?? [], runs.get(`${name} 2`) ?? []),
    );
  } finally {
    for (const { running } of started) await running.stop();
  }
}

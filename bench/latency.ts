// SPDX-License-Identifier: Apache-2.0
import type { Figures, Percentiles, StoreKind } from './figures.js';
import { medianPercentiles } from './figures.js';
import { runFio } from './fio.js';
import type { Peer } from './peer.js';
import { rotate } from './statistics.js';

export interface LoadLatency {
  readonly workload: string;
  readonly peer: string;
  /** Half of what this server reached at queue depth 32. */
  readonly operationsPerSecond: number;
  readonly latencyUs: Percentiles;
}

/** Where the peak is taken from, and what runs at half of it. */
export const LATENCY_LOADS = [
  { peakOf: '4k random read q32', rw: 'randread' },
  { peakOf: '4k random write q32', rw: 'randwrite' },
] as const;

/** At queue depth 1 the runs for throughput have them; these are at half of each server's peak. */
export async function measureHalfLoad(
  store: StoreKind,
  peers: readonly Peer[],
  figures: Figures,
  options: { rounds: number; seconds: number; step: (label: string) => void },
): Promise<LoadLatency[]> {
  const results: LoadLatency[] = [];
  for (const { peakOf, rw } of LATENCY_LOADS) {
    if (!figures.has(store, peakOf)) continue;
    const runs = new Map<string, Percentiles[]>();
    const rateOf = (peer: Peer): number =>
      figures.median({ store, workload: peakOf, peer: peer.name }) / 2;
    const measured = peers.filter((peer) => Number.isFinite(rateOf(peer)));
    for (let round = 0; round < options.rounds; round += 1) {
      for (const peer of rotate(measured, round)) {
        options.step(`half of the peak of ${peakOf}: ${peer.name}`);
        const job = { rw, blockBytes: 4096, depth: 32, connections: 1 };
        const rate = { operationsPerSecond: rateOf(peer) };
        const { latencyUs } = await runFio(peer, { ...job, ...rate }, options.seconds);
        if (latencyUs !== null) runs.set(peer.name, [...(runs.get(peer.name) ?? []), latencyUs]);
      }
    }
    for (const peer of measured) {
      const latencyUs = medianPercentiles(runs.get(peer.name) ?? []);
      if (latencyUs === null) continue;
      const operationsPerSecond = rateOf(peer);
      results.push({ workload: peakOf, peer: peer.name, operationsPerSecond, latencyUs });
    }
  }
  return results;
}

// SPDX-License-Identifier: Apache-2.0
import type { Figures, StoreKind } from './figures.js';
import type { Peer, PeerKind } from './peer.js';
import type { ShardResult } from './shards.js';
import { isSmall, type Workload } from './workloads.js';

/** A ratio of our median to a server's, on each workload of a kind. */
export interface Goal {
  readonly claim: string;
  readonly against: Exclude<PeerKind, 'keyhold'>;
  readonly size: 'any' | '4k' | 'sequential';
  readonly atLeast: number;
}

export const GOALS: readonly Goal[] = [
  {
    claim: 'faster than every unencrypted server',
    against: 'plain',
    size: 'any',
    atLeast: 1,
  },
  {
    claim: 'at least 3 times every encrypting server, sequential',
    against: 'encrypting',
    size: 'sequential',
    atLeast: 3,
  },
  {
    claim: 'at least 2 times every encrypting server at 4k',
    against: 'encrypting',
    size: '4k',
    atLeast: 2,
  },
  { claim: 'at least 0.9 of the null server at 4k', against: 'null', size: '4k', atLeast: 0.9 },
  {
    claim: 'at least 0.6 of the null server, sequential',
    against: 'null',
    size: 'sequential',
    atLeast: 0.6,
  },
];

/** The goals are about 512-byte sectors. */
export const OURS = 'keyhold (512)';
export const SHARD_RATIO_MIN = 1.7;

export interface GoalResult {
  readonly claim: string;
  readonly store: StoreKind;
  /** null: nothing to compare was measured. */
  readonly met: boolean | null;
  readonly atLeast: number;
  /** The lowest ratio, and where it was. */
  readonly worst: number | null;
  readonly where: string | null;
  /** Every comparison below the goal. */
  readonly misses: ReadonlyArray<{ readonly where: string; readonly ratio: number }>;
}

export interface Measured {
  readonly figures: Figures;
  readonly workloads: readonly Workload[];
  readonly peers: ReadonlyArray<Pick<Peer, 'name' | 'kind'>>;
}

/** A benchmark fails nothing: it says what is met and what is not. */
export function judgeGoals(
  measured: Measured,
  stores: readonly StoreKind[],
  shards: readonly ShardResult[],
): GoalResult[] {
  const results = stores.flatMap((store) => GOALS.map((goal) => judge(goal, store, measured)));
  const [store = 'tmpfs'] = stores;
  const ratios = shards.map(({ load, ratio }) => ({ where: load, ratio }));
  const claim = `two shards carry at least ${SHARD_RATIO_MIN} times one`;
  return [...results, resultOf(claim, store, SHARD_RATIO_MIN, ratios)];
}

function judge(goal: Goal, store: StoreKind, { figures, workloads, peers }: Measured): GoalResult {
  const ratios = [];
  for (const workload of workloads) {
    if (goal.size !== 'any' && isSmall(workload) !== (goal.size === '4k')) continue;
    const ours = figures.median({ store, workload: workload.name, peer: OURS });
    for (const { name } of peers.filter(({ kind }) => kind === goal.against)) {
      const ratio = ours / figures.median({ store, workload: workload.name, peer: name });
      if (!Number.isNaN(ratio)) ratios.push({ where: `${workload.name}, ${name}`, ratio });
    }
  }
  return resultOf(goal.claim, store, goal.atLeast, ratios);
}

function resultOf(
  claim: string,
  store: StoreKind,
  atLeast: number,
  ratios: ReadonlyArray<{ where: string; ratio: number }>,
): GoalResult {
  const sorted = [...ratios].sort((a, b) => a.ratio - b.ratio);
  const worst = sorted[0];
  // "Faster" is strictly so; the other goals are "at least".
  const misses = sorted.filter(({ ratio }) => (atLeast === 1 ? ratio <= 1 : ratio < atLeast));
  return {
    claim,
    store,
    met: worst === undefined ? null : misses.length === 0,
    atLeast,
    worst: worst?.ratio ?? null,
    where: worst?.where ?? null,
    misses,
  };
}

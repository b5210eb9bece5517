// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { Figures, type Sample } from '../../bench/figures.js';
import { judgeGoals, OURS, SHARD_RATIO_MIN } from '../../bench/goals.js';
import { compareShards, type ShardRun } from '../../bench/shards.js';
import { type Workload, workloads } from '../../bench/workloads.js';

const PEERS = [
  { name: OURS, kind: 'keyhold' },
  { name: 'null', kind: 'null' },
  { name: 'plain', kind: 'plain' },
  { name: 'luks', kind: 'encrypting' },
] as const;

function sample(value: number): Sample {
  return {
    value,
    operations: value,
    bytes: value * 4096,
    clientCpuSeconds: 1,
    serverCpuSeconds: 1,
    latencyUs: null,
  };
}

/** Every workload with the same medians. */
function measured(values: Readonly<Record<string, number>>): {
  figures: Figures;
  workloads: Workload[];
  peers: typeof PEERS;
} {
  const figures = new Figures();
  const all = workloads('');
  for (const { name: workload } of all) {
    for (const [peer, value] of Object.entries(values)) {
      figures.add({ store: 'tmpfs', workload, peer }, sample(value));
    }
  }
  return { figures, workloads: all, peers: PEERS };
}

const met = (values: Readonly<Record<string, number>>): Array<boolean | null> =>
  judgeGoals(measured(values), ['tmpfs'], []).map((goal) => goal.met);

void test('goals are met by ratios at their limits, but equal is not faster', (t) => {
  const values = { [OURS]: 90, null: 100, plain: 89, luks: 30 };
  t.strictSame(met(values), [true, true, true, true, true, null]);
  t.strictSame(met({ ...values, plain: 90 }).slice(0, 1), [false]);
  t.end();
});

void test('each goal is missed by its own ratio', (t) => {
  const good = { [OURS]: 90, null: 100, plain: 50, luks: 30 };
  t.strictSame(met({ ...good, plain: 91 }), [false, true, true, true, true, null]);
  t.strictSame(met({ ...good, luks: 31 }), [true, false, true, true, true, null]);
  t.strictSame(met({ ...good, luks: 46 }), [true, false, false, true, true, null]);
  t.strictSame(met({ ...good, null: 101 }), [true, true, true, false, true, null]);
  t.strictSame(met({ ...good, null: 151 }), [true, true, true, false, false, null]);
  t.end();
});

void test('a goal without figures is neither met nor missed', (t) => {
  t.strictSame(met({ null: 100 }), [null, null, null, null, null, null]);
  t.strictSame(met({ [OURS]: 100 }), [null, null, null, null, null, null]);
  t.end();
});

void test('a missed goal names the lowest ratio, its workload and its server', (t) => {
  const data = measured({ [OURS]: 100, plain: 50 });
  const workload = '4k mix q32';
  for (let i = 0; i < 2; i += 1) {
    data.figures.add({ store: 'tmpfs', workload, peer: 'plain' }, sample(400));
  }
  const [faster] = judgeGoals(data, ['tmpfs'], []);
  t.match(faster, { met: false, worst: 0.25, where: '4k mix q32, plain' });
  t.strictSame(faster?.misses, [{ where: '4k mix q32, plain', ratio: 0.25 }]);
  t.end();
});

void test('two shards are judged by the load that gains least', (t) => {
  const run = (operationsPerSecond: number): ShardRun => {
    return { operationsPerSecond, serverCpuUsPerOperation: 4, clientCpuUsPerOperation: 1 };
  };
  const results = [
    compareShards('good', [run(100)], [run(180)]),
    compareShards('bad', [run(100), run(90), run(110)], [run(160)]),
  ];
  t.equal(results[0]?.ratioMax, 1.6);
  const goal = judgeGoals(measured({}), ['tmpfs'], results).at(-1);
  t.match(goal, { met: false, atLeast: SHARD_RATIO_MIN, worst: 1.6, where: 'bad' });
  t.end();
});

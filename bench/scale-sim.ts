// SPDX-License-Identifier: Apache-2.0
import { Fleet } from '../test/sets/scale/fleet.js';
import {
  coldStart,
  massRevocation,
  type Outcome,
  outage,
  rotationStorm,
  type Size,
  steadyState,
  throttledByOthers,
} from '../test/sets/scale/scenarios.js';
import { KEY_KINDS, type KeyKind } from '../test/sets/scale/vault-model.js';

/*
 * Prints the table of docs/SCALE.md:  npm run sim:scale [-- SEED]
 */

const SETS = 100;
const DISKS_PER_SET = 100;
const SEED = Number(process.argv[2] ?? 1);
const MINUTE_MS = 60_000;

async function simulate(kind: KeyKind): Promise<Outcome[]> {
  const stateDir = await Fleet.prepare(kind, SETS);
  const size: Size = { stateDir, kind, seed: SEED, sets: SETS, disksPerSet: DISKS_PER_SET };
  const tenMinutes = { durationMs: 10 * MINUTE_MS };
  try {
    return [
      await steadyState(size, 60 * MINUTE_MS),
      await coldStart(size),
      await rotationStorm(size),
      await massRevocation(size, 'certain'),
      await massRevocation(size, 'propagating'),
      await outage(size, { ...tenMinutes, kind: 'refuses' }),
      await outage(size, { ...tenMinutes, kind: 'hangs' }),
      await throttledByOthers(size, { ...tenMinutes, retryAfterMs: MINUTE_MS }),
    ];
  } finally {
    await Fleet.remove(stateDir);
  }
}

function row(outcome: Outcome, kind: KeyKind): string {
  const { scenario, calls, peakCalls, throttled, lateMsMax, lapses, tookMs } = outcome;
  const peak = `${peakCalls} (${Math.round((100 * peakCalls) / kind.callsPer10s)} %)`;
  const took = scenario === 'steady state' ? '1 h' : `${(tookMs / 1000).toFixed(1)} s`;
  const late = `${(lateMsMax / 1000).toFixed(2)} s`;
  return `| ${[scenario, kind.name, took, calls, peak, throttled, late, lapses].join(' | ')} |`;
}

const head = ['scenario', 'key', 'took', 'calls', 'peak in 10 s', '429', 'latest probe', 'lapsed'];
process.stdout.write(`seed ${SEED}, ${SETS} sets, ${DISKS_PER_SET} disks in each\n\n`);
process.stdout.write(`| ${head.join(' | ')} |\n|${'---|'.repeat(head.length)}\n`);
for (const kind of KEY_KINDS) {
  for (const outcome of await simulate(kind)) process.stdout.write(`${row(outcome, kind)}\n`);
}

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { Fleet, INTERVAL_MS } from './scale/fleet.js';
import {
  coldStart,
  massRevocation,
  type Outcome,
  OTHERS,
  outage,
  rotationStorm,
  type Size,
  steadyState,
  throttledByOthers,
} from './scale/scenarios.js';
import { KEY_KINDS, type KeyKind } from './scale/vault-model.js';

/*
 * 10,000 disks in 100 sets, whose keys all lie in one vault: the real sets, probe lines, caches and
 * budget in virtual time, against a model of Key Vault's limits (docs/SCALE.md). Other users take a
 * quarter of the vault, except where all keys are revoked at once.
 */

const SETS = 100;
const DISKS_PER_SET = 100;
const MINUTE_MS = 60_000;
const TEN_MINUTES = { durationMs: 10 * MINUTE_MS };
const LATE_MS_MAX = INTERVAL_MS / 10;

/** The slowest answer of the model, twice: the denial and its confirmation. */
const ANSWERS_MS_MAX = 2 * 1015;

const seed = Number(process.env['KEYHOLD_SIM_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

const directories = new Map<KeyKind, Promise<string>>();

async function sizeOf(kind: KeyKind): Promise<Size> {
  const stateDir = directories.get(kind) ?? Fleet.prepare(kind, SETS);
  directories.set(kind, stateDir);
  return { stateDir: await stateDir, kind, seed, sets: SETS, disksPerSet: DISKS_PER_SET };
}

function scenario(
  claim: string,
  run: (size: Size) => Promise<Outcome>,
  holds: (outcome: Outcome, kind: KeyKind) => boolean,
): void {
  for (const kind of KEY_KINDS) {
    void test(`${claim} (${kind.name})`, async (t) => {
      const outcome = await run(await sizeOf(kind));
      // KEYHOLD_SIM_SEED repeats what a failure shows.
      t.ok(holds(outcome, kind), JSON.stringify(outcome));
    });
  }
}

/** Runs each scenario once for all that is claimed of it. */
function once(run: (size: Size) => Promise<Outcome>): (size: Size) => Promise<Outcome> {
  const outcomes = new Map<KeyKind, Promise<Outcome>>();
  return (size) => {
    const outcome = outcomes.get(size.kind) ?? run(size);
    outcomes.set(size.kind, outcome);
    return outcome;
  };
}

/** The key that is nearest to its limit is simulated for longest. */
const steady = once((size) => steadyState(size, (size.kind.hsm ? 60 : 10) * MINUTE_MS));
const cold = once(coldStart);
const storm = once(rotationStorm);
const disabled = once((size) => massRevocation(size, 'certain'));
const rolesRemoved = once((size) => massRevocation(size, 'propagating'));
const refused = once((size) => outage(size, { ...TEN_MINUTES, kind: 'refuses' }));
const hung = once((size) => outage(size, { ...TEN_MINUTES, kind: 'hangs' }));
const crowded = once((size) =>
  throttledByOthers(size, { ...TEN_MINUTES, retryAfterMs: MINUTE_MS }),
);
const tooLong = once((size) => outage(size, { durationMs: 20 * MINUTE_MS, kind: 'refuses' }));

for (const [name, run] of [
  ['steady state', steady],
  ['a cold start', cold],
  ['a rotation storm', storm],
] as const) {
  scenario(`in ${name} no probe is late`, run, ({ lateMsMax }) => lateMsMax <= LATE_MS_MAX);
  scenario(
    `in ${name} nothing is throttled, although others use a quarter of the vault`,
    run,
    ({ throttled }) => OTHERS > 0 && throttled === 0,
  );
  scenario(
    `in ${name} no lease ends, no key fails and every disk is online`,
    run,
    ({ lapses, keyFailures, disksOnline }) =>
      lapses === 0 && keyFailures === 0 && disksOnline === SETS * DISKS_PER_SET,
  );
}

scenario(
  'after a cold start every disk has its key within 40 s',
  cold,
  ({ tookMs }) => tookMs <= 40_000,
);
scenario('a rotation storm is over within a minute', storm, ({ tookMs }) => tookMs <= MINUTE_MS);

scenario(
  'when all keys are disabled, every set is denied within an interval, a second and the answers',
  disabled,
  ({ tookMs }) => tookMs <= INTERVAL_MS + 1000 + ANSWERS_MS_MAX,
);
scenario(
  'when all keys are disabled, no probe is late',
  disabled,
  ({ lateMsMax }) => lateMsMax <= LATE_MS_MAX,
);
scenario(
  'when all roles are removed, every set is denied within half a minute',
  rolesRemoved,
  ({ tookMs }) => tookMs <= MINUTE_MS / 2,
);
for (const [name, run] of [
  ['keys are disabled', disabled],
  ['roles are removed', rolesRemoved],
] as const) {
  scenario(`when all ${name}, no disk stays online`, run, ({ disksOnline }) => disksOnline === 0);
  scenario(`when all ${name}, nothing is throttled`, run, ({ throttled }) => throttled === 0);
}

for (const [name, run] of [
  ['an outage of ten minutes that refuses', refused],
  ['an outage of ten minutes that hangs', hung],
  ['ten minutes in which others use up the vault', crowded],
] as const) {
  scenario(`in ${name} no lease ends`, run, ({ lapses }) => lapses === 0);
  scenario(
    `after ${name} there is no stampede`,
    run,
    ({ throttled, peakCalls }, kind) =>
      throttled === 0 && peakCalls <= (1 - OTHERS) * kind.callsPer10s,
  );
}
for (const [name, run] of [
  ['refuses', refused],
  ['hangs', hung],
] as const) {
  scenario(
    `after an outage that ${name} every set has its proof within an interval`,
    run,
    ({ tookMs }) => tookMs <= INTERVAL_MS * 1.1 + ANSWERS_MS_MAX,
  );
}

scenario(
  'an outage that outlasts the leases ends every one of them, and none twice',
  tooLong,
  ({ lapses }) => lapses === SETS,
);

void test('without the budget the same storm is throttled, and rotations fail', async (t) => {
  const [, , dearest] = KEY_KINDS;
  if (dearest === undefined) throw new Error('no kind of key');
  const outcome = await rotationStorm({ ...(await sizeOf(dearest)), unbudgeted: true });
  t.ok(outcome.throttled > 0 && outcome.keyFailures > 0, JSON.stringify(outcome));
});

void test('the directories of the simulation are removed', async (t) => {
  for (const stateDir of directories.values()) await Fleet.remove(await stateDir);
  t.ok(directories.size > 0, `seed ${seed}`);
});

// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'tap';
import { DyingFiles } from '../support/dying-files.js';
import { liveKeys } from '../support/key-life.js';
import { REGRESSIONS } from '../support/key-regressions.js';
import { plan } from '../support/key-steps.js';

/*
 * Sets and disks in random lives: verdicts, rewraps, moves, purges, crashes, all of them at once.
 * test/support/key-judge.ts says what must hold at every step, key-life.ts what a step does.
 *
 * A life that broke a promise belongs into key-regressions.ts, as fast-check has printed it.
 * RANDOM_KEYS_SECONDS=600 lives for so long (.ci/soak does), RANDOM_KEYS_SEED begins where a
 * failure was printed.
 */

const SECONDS_DEFAULT = 25;
const seconds = Number(process.env['RANDOM_KEYS_SECONDS'] ?? SECONDS_DEFAULT);
const seed = Number(process.env['RANDOM_KEYS_SEED'] ?? Date.now() % 2 ** 31);

/** The time ends before: shrinking a failure goes on for as long again. */
const LIVES_MAX = 1_000_000;

// What dies here is the process, so memory keeps files as well as a disk does, and faster.
if (existsSync('/dev/shm')) process.env['TMPDIR'] = '/dev/shm';

const files = await DyingFiles.install();

for (const { claim, plan: lived } of REGRESSIONS) {
  void test(claim, async (t) => {
    await liveKeys(lived, files);
    t.pass('no promise was broken');
  });
}

void test(`no promise about keys is broken in random lives (seed ${seed})`, async (t) => {
  t.setTimeout((seconds + 200) * 1000);
  await fc.assert(
    fc.asyncProperty(plan, (lived) => liveKeys(lived, files)),
    { numRuns: LIVES_MAX, seed, interruptAfterTimeLimit: seconds * 1000 },
  );
  t.pass('no promise was broken');
});

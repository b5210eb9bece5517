// SPDX-License-Identifier: Apache-2.0
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { encodeSessionSeed, SESSION_SEEDS, VALIDATE_SEEDS } from './fuzz-seeds.js';

const corpus = new URL('../../native/fuzz/corpus', import.meta.url).pathname;

const seeds: Record<string, Readonly<Record<string, Buffer>>> = {
  session_fuzz: Object.fromEntries(
    Object.entries(SESSION_SEEDS).map(([name, seed]) => [name, encodeSessionSeed(seed)]),
  ),
  validate_fuzz: VALIDATE_SEEDS,
};

/** Reproducers of past crashes are added to the folders by hand, under this name. */
const REGRESSION = /^regression-/;

for (const [target, wanted] of Object.entries(seeds)) {
  const folder = join(corpus, target);
  void test(`the seeds of ${target} are those that fuzz-seeds.ts makes`, async (t) => {
    if (process.env['UPDATE_GOLDEN'] === '1') await rewrite(folder, wanted);
    const names = (await readdir(folder)).filter((name) => !REGRESSION.test(name));
    t.strictSame(names.sort(), Object.keys(wanted).sort());
    for (const name of names) {
      t.ok((await readFile(join(folder, name))).equals(wanted[name] ?? Buffer.alloc(0)), name);
    }
  });
}

async function rewrite(folder: string, wanted: Readonly<Record<string, Buffer>>): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const name of await readdir(folder)) {
    if (!REGRESSION.test(name)) await rm(join(folder, name));
  }
  for (const [name, bytes] of Object.entries(wanted)) await writeFile(join(folder, name), bytes);
}

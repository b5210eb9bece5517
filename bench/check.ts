// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { run, runOk } from '../test/support/process.js';
import { type Baseline, compareCounts, parseCounts, renderComparison } from './instructions.js';
import { benchProgram, repository } from './peer.js';

const HELP = `usage: npm run bench:check -- [--update] [--tolerance PERCENT]

Counts the data plane's instructions per request in user space, with callgrind, and compares them
with bench/instructions.json. Ends with 1 when a figure got worse by more than the tolerance
(default 3 %). --update writes the file. Takes half a minute.
`;

const baselinePath = join(repository, 'bench/instructions.json');
/** valgrind 3.19 emulates AES-NI, but neither VAES nor AVX-512. */
const KERNEL = 'aesni';

async function count(): Promise<Record<string, number>> {
  // A store in memory; without one the page cache of another file system does as well.
  const directory = await mkdtemp('/dev/shm/keyhold-count-');
  try {
    const dumps = join(directory, 'dump');
    const cases = await runOk(benchProgram('request_cost'), [directory, KERNEL, dumps], {
      timeoutMs: 600_000,
    });
    const texts: string[] = [];
    const names = cases.trim().split('\n');
    for (let i = 1; i <= 2 * names.length; i += 1) {
      texts.push(await readFile(`${dumps}.${i}`, 'utf8'));
    }
    return parseCounts(cases, texts);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function compiler(): Promise<string> {
  const { stdout } = await run('g++', ['--version']);
  return stdout.split('\n')[0] ?? 'unknown';
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      update: { type: 'boolean', default: false },
      tolerance: { type: 'string', default: '3' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  const tolerance = Number(values.tolerance);
  if (!(tolerance > 0)) {
    throw new Error(`--tolerance: expected a positive number, got ${values.tolerance}`);
  }
  const now: Baseline = { compiler: await compiler(), perRequest: await count() };
  if (values.update) {
    await writeFile(baselinePath, `${JSON.stringify(now, null, 2)}\n`);
    process.stdout.write(renderComparison(compareCounts(now, now, tolerance)));
    return;
  }
  const before = JSON.parse(await readFile(baselinePath, 'utf8')) as Baseline;
  if (before.compiler !== now.compiler) {
    process.stdout.write(
      `another compiler: ${now.compiler}; the baseline is of ${before.compiler}\n`,
    );
  }
  const rows = compareCounts(before, now, tolerance);
  process.stdout.write(renderComparison(rows));
  if (rows.some(({ verdict }) => verdict === 'worse' || verdict === 'missing')) {
    process.exitCode = 1;
  }
}

await main();

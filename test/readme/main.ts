// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseBlocks, quoted, scriptOf } from './blocks.js';

/** `npm run test:readme`: README.md's own commands, on a fresh clone of what is committed. */
const repository = new URL('../../', import.meta.url).pathname;
const page = 'README.md';

const dir = await mkdtemp(join(tmpdir(), 'keyhold-readme-'));
try {
  for (const name of ['home', 'logs', 'work']) await mkdir(join(dir, name));
  const blocks = parseBlocks(await readFile(join(repository, page), 'utf8'));
  const clone = new Map([['<this repository>', quoted(repository)]]);
  await writeFile(join(dir, 'session'), scriptOf(page, blocks, clone));
  const session = spawn('bash', [join(dir, 'session')], {
    cwd: join(dir, 'work'),
    env: {
      ...process.env,
      // Nothing that the user of this machine keeps is found or changed, but what reaches npm.
      HOME: join(dir, 'home'),
      XDG_CACHE_HOME: '',
      NPM_CONFIG_USERCONFIG: process.env['NPM_CONFIG_USERCONFIG'] ?? join(homedir(), '.npmrc'),
      LOGS: join(dir, 'logs'),
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [status] = (await once(session, 'exit')) as [number | null];
  const run = blocks.filter(({ treatment }) => treatment.kind !== 'skip').length;
  const ending = status === 0 ? `${run} blocks run, ${blocks.length - run} not` : 'a block failed';
  process.stdout.write(`\n${page}: ${ending}\n`);
  process.exitCode = status ?? 1;
} finally {
  await rm(dir, { recursive: true, force: true });
}

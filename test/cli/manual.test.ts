// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { createContext } from '../../src/cli/context.js';
import { EXIT_CODES } from '../../src/cli/exit-codes.js';
import { manualPage } from '../../src/cli/manual/page.js';
import { bold, line } from '../../src/cli/manual/roff.js';
import { createProgram } from '../../src/cli/program.js';
import { flatten, readTree, usageOf } from '../../src/cli/tree.js';
import { run } from '../support/process.js';
import { captureIo } from './support/run-cli.js';

const root = new URL('../../', import.meta.url).pathname;
const tree = readTree(createProgram(createContext(captureIo().io)));
const page = manualPage(tree, '1.2.3');

async function inFile(t: { teardown(fn: () => unknown): unknown }): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-man-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'keyhold.1');
  await writeFile(path, page);
  return path;
}

/** As a person reads it, on one line: where lines break is the formatter's matter. */
async function rendered(t: { teardown(fn: () => unknown): unknown }): Promise<string> {
  const { stdout } = await run('mandoc', ['-Tutf8', '-Owidth=200', await inFile(t)]);
  return stdout.replace(/.\u0008/g, '').replace(/\s+/g, ' ');
}

void test('mandoc has nothing to say about the man page', async (t) => {
  const result = await run('mandoc', ['-Tlint', '-Wwarning', await inFile(t)]);
  t.match(result, { status: 0, stdout: '', stderr: '' });
});

void test('groff has no warning about the man page', async (t) => {
  const result = await run('groff', ['-man', '-ww', '-z', await inFile(t)]);
  t.match(result, { status: 0, stdout: '', stderr: '' });
});

void test('the man page shows every command and every option with its description', async (t) => {
  const text = await rendered(t);
  for (const node of flatten(tree).filter(({ commands }) => commands.length === 0)) {
    t.ok(text.includes(usageOf(node)), usageOf(node));
    for (const { flags, description } of node.options) {
      t.ok(text.includes(flags), `${usageOf(node)}: ${flags}`);
      t.ok(text.toLowerCase().includes(description.toLowerCase()), description);
    }
  }
});

void test('the man page shows every exit code and has the sections that one looks for', async (t) => {
  const text = await rendered(t);
  for (const code of Object.values(EXIT_CODES)) t.match(text, ` ${code} `);
  for (const title of [
    ...['NAME', 'SYNOPSIS', 'DESCRIPTION', 'COMMON OPTIONS', 'COMMANDS', 'EXIT STATUS'],
    ...['ENVIRONMENT', 'FILES', 'EXAMPLES', 'SEE ALSO'],
  ]) {
    t.match(page, `\n.SH ${title}\n`);
  }
});

void test('the man page names no environment variable that nobody reads, and all that are', async (t) => {
  const io = await readFile(join(root, 'src/cli/io.ts'), 'utf8');
  const paths = await readFile(join(root, 'src/cli/paths.ts'), 'utf8');
  const read = [...`${io}${paths}`.matchAll(/env\['([A-Z_]+)'\]/g)].map((match) => match[1]);
  const text = page.slice(page.indexOf('.SH ENVIRONMENT'), page.indexOf('.SH FILES'));
  const named = [...text.matchAll(/^\\fB([A-Z_]+)\\fR$/gm)].map((match) => match[1]);
  const inherited = ['HOME']; // every program reads it
  t.strictSame(
    named.sort(),
    [...new Set(read)].filter((name) => !inherited.includes(name ?? '')).sort(),
  );
});

void test('nothing in the page is taken for a macro or an escape of the formatter', (t) => {
  t.equal(line('.SH x'), '\\&.SH x');
  t.equal(line("'tis"), '\\(aqtis');
  t.equal(line('a\\b -c `d`'), 'a\\eb \\-c \\(gad\\(ga');
  t.equal(line('§ → 𝔸'), '\\[u00A7] \\[u2192] \\[u1D538]');
  t.equal(bold('--set <name>'), '\\fB\\-\\-set \\fR<\\fIname\\fR>');
  t.match(page, /^[\x20-\x7e\n]*$/);
  t.end();
});

void test('the same program gives the same bytes', (t) => {
  t.equal(manualPage(readTree(createProgram(createContext(captureIo().io))), '1.2.3'), page);
  t.end();
});

void test('npm run build:man writes the page that package.json names', async (t) => {
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    man: string;
    version: string;
  };
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-man-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'deeper', 'keyhold.1');
  await run(process.execPath, [join(root, 'dist/cli/manual/main.js'), path]);
  t.equal(await readFile(path, 'utf8'), manualPage(tree, manifest.version));
  t.equal(await readFile(join(root, manifest.man), 'utf8'), await readFile(path, 'utf8'));
});

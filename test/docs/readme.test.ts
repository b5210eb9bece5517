// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { type Block, parseBlocks, scriptOf } from '../readme/blocks.js';
import { run, type RunResult } from '../support/process.js';

const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');

const fenced = (text: string, ...comments: string[]): string =>
  [...comments.map((comment) => `<!-- readme: ${comment} -->`), '```sh', text, '```', ''].join(
    '\n',
  );

/** What the session of a page does. */
async function session(
  t: { teardown(fn: () => unknown): unknown },
  page: string,
): Promise<RunResult> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-readme-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'session'), scriptOf('page', parseBlocks(page)));
  const { LOGS } = { LOGS: await mkdtemp(join(dir, 'logs-')) };
  return run('bash', [join(dir, 'session')], { env: { LOGS }, cwd: dir });
}

void test('every block of README.md is run, or says why not', (t) => {
  const blocks = parseBlocks(readme);
  const runs = blocks.filter(({ treatment }) => treatment.kind !== 'skip');
  t.ok(runs.length >= 2, 'clone and first steps are run');
  for (const { treatment, line } of blocks) {
    if (treatment.kind === 'skip') t.match(treatment.reason, /\w+ \w+/, `line ${line}`);
  }
  t.end();
});

void test('every block of README.md is a program that a shell can read', async (t) => {
  for (const { line, text } of parseBlocks(readme)) {
    const { stderr } = await run('bash', ['-n'], { input: text.replaceAll(/<[^>]*>/g, 'x') });
    t.equal(stderr, '', `line ${line}`);
  }
});

void test('no block of shell commands goes by another name', (t) => {
  t.notMatch(readme, /^```(bash|shell|console|zsh)$/m);
  t.end();
});

void test('blocks run in one shell, one after the other', async (t) => {
  const page = fenced('mkdir a && cd a\nx=1') + fenced('pwd; echo "x is $x"', 'prints "x is 1"');
  const { status, stdout } = await session(t, page);
  t.equal(status, 0);
  t.match(stdout, /\/a\nx is 1\n/);
});

void test('a skipped block is not run', async (t) => {
  const { status, stdout } = await session(t, fenced('echo ran', 'skip: it needs a vault'));
  t.equal(status, 0);
  t.match(stdout, /page:2, not run: it needs a vault/);
  t.notMatch(stdout, /^ran$/m);
});

void test('what goes on in the background is waited for, and ended', async (t) => {
  const serve = 'sh -c "echo ready; exec sleep 1000"';
  const page = fenced('serve', `background "serve" until "ready"`).replaceAll('serve', () =>
    serve.replaceAll('"', "'"),
  );
  const { status, stderr } = await session(t, page);
  t.equal(stderr, '');
  t.equal(status, 0);
});

const failures: ReadonlyArray<readonly [string, string, RegExp]> = [
  [
    'a command that fails in the middle',
    fenced('false\necho on'),
    /failed with status 1: page:1\n/,
  ],
  ['a second block', fenced('true') + fenced('exit 3'), /failed with status 3: page:4\nexit 3/],
  ['what is not printed', fenced('echo a', 'prints "b"'), /expected to be printed: b/],
  [
    'a background that ends',
    fenced('true', 'background "true" until "ready"'),
    /true ended before it said ready/,
  ],
];
for (const [what, page, expected] of failures) {
  void test(`${what} ends the session, which says where`, async (t) => {
    const { status, stdout, stderr } = await session(t, page);
    t.not(status, 0);
    t.match(stderr, expected);
    t.notMatch(stdout, /^on$/m);
  });
}

const unreadable: ReadonlyArray<readonly [string, string]> = [
  ['a comment that means nothing', fenced('true', 'skipp: x')],
  ['a reason that is empty', fenced('true', 'skip: ')],
  ['two that contradict', fenced('true', 'skip: why', 'prints "x"')],
  ['a comment without a block', '<!-- readme: skip: why -->\n\ntext\n'],
  ['a comment before another block', '<!-- readme: skip: why -->\n```toml\na = 1\n```\n'],
  ['a comment at the end', '<!-- readme: skip: why -->'],
  ['a block without an end', '```sh\ntrue\n'],
];
for (const [what, page] of unreadable) {
  void test(`refused: ${what}`, (t) => {
    t.throws((): Block[] => parseBlocks(page));
    t.end();
  });
}

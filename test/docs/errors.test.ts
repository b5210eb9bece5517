// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'tap';
import { type ErrorSpec, errorTable } from '../../src/base/errors.js';
import { exitCodeOf } from '../../src/cli/exit-codes.js';
import { reportError } from '../../src/cli/report-error.js';
import { KeyholdError } from '../../src/base/errors.js';
import { captureIo } from '../cli/support/run-cli.js';

const source = new URL('../../src/', import.meta.url);
const page = new URL('../../docs/ERRORS.md', import.meta.url);

/** Importing them declares their codes. */
function filesThatDefineErrors(): string[] {
  return readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && path !== 'base/errors.ts')
    .filter((path) => readFileSync(new URL(path, source), 'utf8').includes('defineErrors({'))
    .sort();
}

async function declareAll(): Promise<void> {
  for (const path of filesThatDefineErrors()) {
    await import(new URL(path.replace(/\.ts$/, '.js'), source).href);
  }
}

function renderEntry([code, { kind, summary, hint }]: readonly [string, ErrorSpec]): string {
  const facts = `Kind \`${kind}\`, exit code ${exitCodeOf(kind)}.`;
  return `### ${code}\n\n${summary} ${facts}\n\n→ ${hint}\n`;
}

/** The page is made from the table; `UPDATE_GOLDEN=1 npx tap test/docs` refreshes it. */
function render(): string {
  return [
    '# Errors by code',
    '',
    'Made from the `errors.ts` of each area by `UPDATE_GOLDEN=1 npx tap test/docs`; a test',
    'compares the two. The kind decides the exit code of the CLI and the HTTP status of the admin',
    'API. Each code is a heading, so that `docs/ERRORS.md#err_disk_not_found`, as the CLI prints',
    'it below an error, leads there.',
    '',
    ...errorTable().map(renderEntry),
  ].join('\n');
}

/** The anchors that GitHub, and any renderer that follows it, gives the headings. */
function anchorsOf(markdown: string): Set<string> {
  const headings = [...markdown.matchAll(/^#+ (.*)$/gm)].map((match) => match[1] ?? '');
  const slug = (text: string): string =>
    text
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-');
  return new Set(headings.map(slug));
}

void test('docs/ERRORS.md lists every error code as the code declares it', async (t) => {
  await declareAll();
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(page, render());
  t.equal(readFileSync(page, 'utf8'), render());
});

void test('the CLI names for every error code a place in the docs that exists', async (t) => {
  await declareAll();
  const anchors = anchorsOf(readFileSync(page, 'utf8'));
  t.ok(errorTable().length > 100);
  for (const [code] of errorTable()) {
    const { io, result } = captureIo();
    await reportError(io, new KeyholdError(code, 'x'), false);
    const named = /^docs: docs\/ERRORS\.md#(\S+)$/m.exec(result().stderr)?.[1];
    t.ok(named !== undefined && anchors.has(named), `${code}: ${String(named)}`);
  }
});

void test('an error that nobody declared names no place in the docs', async (t) => {
  const { io, result } = captureIo();
  await reportError(io, new Error('x'), false);
  t.notMatch(result().stderr, /^docs:/m);
  const json = captureIo();
  await reportError(json.io, new Error('x'), true);
  t.notMatch(json.result().stderr, 'docs');
});

void test('every hint and summary is one non-empty line', (t) => {
  for (const [code, spec] of errorTable()) {
    t.match(spec.summary, /^\S[^\n|]*\.$/, `${code} summary`);
    t.match(spec.hint, /^\S[^\n|]*$/, `${code} hint`);
  }
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'tap';
import { errorTable } from '../../src/base/errors.js';

const source = new URL('../../src/', import.meta.url);
const page = new URL('../../docs/ERRORS.md', import.meta.url);

/** Importing them declares their codes. */
function filesThatDefineErrors(): string[] {
  return readdirSync(source, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && path !== 'base/errors.ts')
    .filter((path) => readFileSync(new URL(path, source), 'utf8').includes('defineErrors({'))
    .sort();
}

/** The page is made from the table; `UPDATE_GOLDEN=1 npx tap test/docs` refreshes it. */
function render(): string {
  const rows = errorTable().map(
    ([code, spec]) => `| \`${code}\` | ${spec.kind} | ${spec.summary} | ${spec.hint} |`,
  );
  return [
    '# Errors by code',
    '',
    'Made from the `errors.ts` of each area by `UPDATE_GOLDEN=1 npx tap test/docs`; a test',
    'compares the two. The kind decides the exit code of the CLI and the HTTP status of the admin API.',
    '',
    '| code | kind | meaning | what to do |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

void test('docs/ERRORS.md lists every error code as the code declares it', async (t) => {
  for (const path of filesThatDefineErrors()) {
    await import(new URL(path.replace(/\.ts$/, '.js'), source).href);
  }
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(page, render());
  t.equal(readFileSync(page, 'utf8'), render());
});

void test('every hint and summary is one non-empty line', (t) => {
  for (const [code, spec] of errorTable()) {
    t.match(spec.summary, /^\S[^\n|]*\.$/, `${code} summary`);
    t.match(spec.hint, /^\S[^\n|]*$/, `${code} hint`);
  }
  t.end();
});

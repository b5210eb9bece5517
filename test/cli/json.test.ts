// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'tap';
import { createContext } from '../../src/cli/context.js';
import { failureSchema } from '../../src/cli/json/own-shapes.js';
import { renderJsonPage } from '../../src/cli/json/render.js';
import { JSON_SHAPES } from '../../src/cli/json/shapes.js';
import { createProgram } from '../../src/cli/program.js';
import { flatten, readTree } from '../../src/cli/tree.js';
import { captureIo, cli } from './support/run-cli.js';

/* test/e2e/json.test.ts holds the output of a real daemon against the same shapes. */

const page = new URL('../../docs/JSON.md', import.meta.url);

void test('docs/JSON.md shows the shapes that the code has', (t) => {
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(page, renderJsonPage());
  t.equal(readFileSync(page, 'utf8'), renderJsonPage());
  t.end();
});

void test('every command takes --json and has its shape, and no other has one', (t) => {
  const commands = flatten(readTree(createProgram(createContext(captureIo().io))));
  const leaves = commands.filter(({ commands }) => commands.length === 0);
  for (const { path, options } of leaves) {
    t.ok(
      options.some(({ long }) => long === '--json'),
      path.join(' '),
    );
  }
  // It speaks NBD on standard output and refuses --json.
  const names = leaves.map(({ path }) => path.join(' ')).filter((name) => name !== 'serve');
  t.strictSame(Object.keys(JSON_SHAPES).sort(), names.sort());
  t.end();
});

void test('every reference of docs/JSON.md leads to a type of it', (t) => {
  const text = readFileSync(page, 'utf8');
  const headings = new Set([...text.matchAll(/^### (\w+)$/gm)].map((match) => match[1]));
  const links = [...text.matchAll(/^\[(\w+)\]\(#(\w+)\)$/gm)];
  t.ok(links.length > 20);
  for (const [, name = '', anchor] of links) {
    t.ok(headings.has(name), name);
    t.equal(anchor, name.toLowerCase());
  }
  // A name in a type, as against a word of an enumeration or a member.
  const named = [...text.matchAll(/: \(?([A-Z]\w+)/g)].map((match) => match[1]);
  for (const name of named) t.ok(headings.has(name), String(name));
  t.end();
});

for (const args of [
  ['disk', 'list', '--socket', '/none/x'],
  ['disk', 'explode'],
  ['set', 'create', 's'],
  ['top', '--interval', '1ms'],
  ['audit', 'verify', '/none/x'],
  ['help', 'explode'],
]) {
  void test(`the failure of ${args.join(' ')} has the documented shape`, async (t) => {
    const { status, stdout, stderr } = await cli([...args, '--json']);
    t.not(status, 0);
    t.equal(stdout, '');
    const failure: unknown = JSON.parse(stderr);
    t.strictSame(failureSchema.parse(failure), failure);
  });
}

void test('serve refuses --json', async (t) => {
  const { status, stdout } = await cli(['serve', 'd', '--stdio', '--json']);
  t.equal(status, 2);
  t.equal(stdout, '');
});

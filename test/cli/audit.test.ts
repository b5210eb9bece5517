// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { formatAnchor } from '../../src/audit/anchors.js';
import { openAudit } from '../../src/audit/audit-log.js';
import { prepareExport } from '../../src/audit/export.js';
import { formatExport } from '../../src/audit/export-form.js';
import { parseTime } from '../../src/cli/commands/audit.js';
import { FakeClock } from '../support/fake-clock.js';
import { NOW_MS } from './support/canned.js';
import { type CliResult, cli } from './support/run-cli.js';

const LOG = { host: 'vm1', path: '/var/lib/keyhold/audit/audit.jsonl' };

interface World {
  readonly directory: string;
  readonly text: string;
  readonly asked: string[];
  readonly anchor: string;
  readonly run: (...args: string[]) => Promise<CliResult>;
}

/** A daemon that answers every request with an export, all of it or up to `cutAt`. */
async function makeWorld(
  t: Test,
  options: { spoil?: boolean; cutAt?: number } = {},
): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-cli-audit-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const audit = await openAudit(join(directory, 'audit.jsonl'), { clock: new FakeClock() });
  t.teardown(() => audit.close());
  for (const index of [1, 2, 3]) await audit.append('command', { index });
  if (options.spoil === true) {
    const log = await readFile(audit.path, 'utf8');
    await writeFile(audit.path, log.replace('"index":2', '"index":7'));
  }
  const head = { ...LOG, daemonVersion: '0.1.0', exportedAt: '2026-01-01T00:00:00.000Z' };
  let text = '';
  for await (const piece of formatExport(
    { ...head, query: {} },
    await prepareExport(audit.snapshot(), {}),
  )) {
    text += piece;
  }
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    if (options.cutAt === undefined) response.end(text);
    else response.write(text.slice(0, options.cutAt), () => response.destroy());
  });
  const socket = join(directory, 'admin.sock');
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => server.close());
  const { seq, hash } = audit.snapshot();
  return {
    directory,
    text,
    asked,
    anchor: formatAnchor({ ...LOG, seq, hash }),
    run: (...args) => cli(args, { env: { KEYHOLD_SOCKET: socket } }),
  };
}

void test('an export is printed as it came', async (t) => {
  const { run, text } = await makeWorld(t);
  t.same(await run('audit', 'export'), { status: 0, stdout: text, stderr: '' });
});

void test('what is asked for is passed on, times as instants', async (t) => {
  const { run, asked } = await makeWorld(t);
  await run('audit', 'export', '--since', '2026-01-01', '--kind', 'command', '--set', 'a b');
  t.same(asked, ['/v1/audit/export?since=2026-01-01T00%3A00%3A00.000Z&kind=command&set=a+b']);
});

void test('a file is written with mode 0600, and nothing else', async (t) => {
  const { run, text, directory } = await makeWorld(t);
  const output = join(directory, 'out.json');
  const { status, stdout } = await run('audit', 'export', '--output', output);
  t.equal(status, 0);
  t.match(stdout, 'records 1 to 3, the log is sound');
  t.equal(await readFile(output, 'utf8'), text);
  t.equal((await stat(output)).mode & 0o777, 0o600);
  t.same((await readdir(directory)).sort(), ['admin.sock', 'audit.jsonl', 'out.json']);
});

void test('a broken log is exported all the same, and exits with 8', async (t) => {
  const { run, directory, text } = await makeWorld(t, { spoil: true });
  const output = join(directory, 'out.json');
  const { status, stderr } = await run('audit', 'export', '--output', output);
  t.equal(status, 8);
  t.match(stderr, /NOT sound: line 2/);
  t.equal(await readFile(output, 'utf8'), text);
});

void test('an export that breaks off leaves the old file and no other', async (t) => {
  const { run, directory } = await makeWorld(t, { cutAt: 800 });
  const output = join(directory, 'out.json');
  await writeFile(output, 'old');
  const { status, stderr } = await run('audit', 'export', '--output', output);
  t.equal(status, 6);
  t.match(stderr, 'ERR_ADMIN_UNREACHABLE');
  t.equal(await readFile(output, 'utf8'), 'old');
  t.same((await readdir(directory)).sort(), ['admin.sock', 'audit.jsonl', 'out.json']);
});

void test('an export to standard output that breaks off fails', async (t) => {
  const { run } = await makeWorld(t, { cutAt: 800 });
  t.equal((await run('audit', 'export')).status, 6);
});

void test('a file that cannot be written is named', async (t) => {
  const { run } = await makeWorld(t);
  const { status, stderr } = await run('audit', 'export', '--output', '/nonexistent/out.json');
  t.equal(status, 6);
  t.match(stderr, /cannot write \/nonexistent\/out.json: ENOENT \[ERR_CLI_OUTPUT\]/);
});

void test('an exported file verifies without a daemon', async (t) => {
  const { run, text, directory } = await makeWorld(t);
  const file = join(directory, 'out.json');
  await writeFile(file, text);
  const { status, stdout } = await run('audit', 'verify', file);
  t.equal(status, 0);
  t.match(stdout, /\(export\): sound: records 1 to 3 of .* on vm1/);
});

void test('an exported file that was changed exits with 8', async (t) => {
  const { run, text, directory } = await makeWorld(t);
  const file = join(directory, 'out.json');
  await writeFile(file, text.replace('"index":2', '"index":9'));
  const { status, stdout } = await run('audit', 'verify', file);
  t.equal(status, 8);
  t.match(stdout, /NOT sound: line 3: expected hash/);
});

void test('a file that is missing is a usage error', async (t) => {
  const { run } = await makeWorld(t);
  t.match(await run('audit', 'verify', '/nonexistent'), { status: 2, stderr: /ERR_CLI_INPUT/ });
});

void test('a file that is no log at all is not sound', async (t) => {
  const { run, directory } = await makeWorld(t);
  const file = join(directory, 'letter.txt');
  await writeFile(file, 'Dear auditor,\n');
  t.match(await run('audit', 'verify', file), { status: 8 });
});

void test('anchors are compared with the log of the daemon', async (t) => {
  const { run, directory, anchor } = await makeWorld(t);
  const anchors = join(directory, 'anchors');
  await writeFile(anchors, `Jan 1 vm1 keyhold[7]: ${anchor}\n`);
  const { status, stdout } = await run('audit', 'verify', '--anchors', anchors);
  t.equal(status, 0);
  t.match(stdout, 'anchors: 1 borne out, 0 outside\n');
});

void test('an anchor that the log does not bear out exits with 8', async (t) => {
  const { run, directory, anchor } = await makeWorld(t);
  const anchors = join(directory, 'anchors');
  await writeFile(anchors, anchor.replace(/hash=..../, 'hash=0000'));
  const { status, stdout } = await run('audit', 'verify', '--anchors', anchors);
  t.equal(status, 8);
  t.match(stdout, /1 CONTRADICTED\n {2}record 3: anchored with hash 0000/);
});

void test('a file without anchors is a usage error and no proof', async (t) => {
  const { run, directory } = await makeWorld(t);
  const anchors = join(directory, 'anchors');
  await writeFile(anchors, 'nothing here\n');
  const result = await run('audit', 'verify', '--anchors', anchors);
  t.match(result, { status: 2, stderr: /ERR_AUDIT_ANCHORS/ });
});

void test('a time is an instant or a time ago', (t) => {
  t.equal(parseTime('2026-01-31', NOW_MS), '2026-01-31T00:00:00.000Z');
  t.equal(parseTime('2026-01-31T12:00+02:00', NOW_MS), '2026-01-31T10:00:00.000Z');
  t.equal(parseTime('24h', NOW_MS), '2025-12-31T12:00:00.000Z');
  t.end();
});

for (const text of [
  '',
  'yesterday',
  '2026',
  '2026-13-01',
  '2026-01-31T12:00',
  '-5',
  '1 Jan 2026',
]) {
  void test(`${JSON.stringify(text)} is no time`, async (t) => {
    const { run } = await makeWorld(t);
    t.match(await run('audit', 'export', '--since', text), { status: 2, stdout: '' });
  });
}

// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { readAnchors, selectAnchors } from '../../src/audit/anchor-file.js';
import { type Anchor, formatAnchor, parseAnchor } from '../../src/audit/anchors.js';
import { openAudit } from '../../src/audit/audit-log.js';
import { type FileReport, verifyFile } from '../../src/audit/verify-file.js';
import { FakeClock } from '../support/fake-clock.js';

const LOG = { host: 'vm1', path: '/var/lib/keyhold/audit/audit.jsonl' };

async function temporary(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-anchors-'));
  t.teardown(() => rm(directory, { recursive: true }));
  return directory;
}

/** A log of `count` records and an anchor for each of them. */
async function makeLog(
  t: Test,
  count: number,
  text = 'true',
): Promise<{ log: string; anchors: Anchor[] }> {
  const path = join(await temporary(t), 'audit.jsonl');
  const audit = await openAudit(path, { clock: new FakeClock() });
  const anchors: Anchor[] = [];
  for (let index = 0; index < count; index += 1) {
    const { seq, hash } = await audit.append('command', { text });
    anchors.push({ ...LOG, seq, hash });
  }
  await audit.close();
  return { log: await readFile(path, 'utf8'), anchors };
}

async function verify(log: string, anchors: readonly Anchor[]): Promise<FileReport> {
  async function* pieces(): AsyncGenerator<Buffer> {
    await Promise.resolve();
    yield Buffer.from(log);
  }
  return verifyFile(pieces(), anchors);
}

void test('an anchor is read back from what journals and collectors make of it', (t) => {
  const anchor = { ...LOG, seq: 4711, hash: 'ab'.repeat(32) };
  const line = formatAnchor(anchor);
  for (const text of [
    line,
    `Jan  1 00:00:00 vm1 keyhold[42]: ${line}`,
    `<85>Jan  1 00:00:00 keyhold[42]: ${line}`,
    `MESSAGE=${line}`,
    JSON.stringify({ MESSAGE: line }),
    JSON.stringify({ MESSAGE: JSON.stringify({ event: 'audit-anchor', msg: line }) }),
  ]) {
    t.same(parseAnchor(text), anchor);
  }
  t.end();
});

void test('a path with blanks and quotes survives', (t) => {
  const anchor = { host: 'vm1', seq: 1, hash: 'ab'.repeat(32), path: '/a "b"/ü%20.jsonl' };
  t.same(parseAnchor(JSON.stringify(formatAnchor(anchor))), anchor);
  t.end();
});

void test('lines that only look like anchors are passed over', (t) => {
  const line = formatAnchor({ ...LOG, seq: 1, hash: 'ab'.repeat(32) });
  for (const text of [
    '',
    line.replace('seq=1', 'seq=-1'),
    line.replace('seq=1', 'seq=1234567890123456'),
    line.replace('hash=ab', 'hash=xy'),
    line.replace(/path=.*/, ''),
    line.replace(/path=.*/, 'path=%ff'),
    line.replace('audit-anchor', 'anchor'),
  ]) {
    t.equal(parseAnchor(text), undefined, text);
  }
  t.end();
});

void test('anchors of an untouched log are borne out', async (t) => {
  const { log, anchors } = await makeLog(t, 5);
  t.match(await verify(log, anchors), { ok: true, anchors: { matched: 5, contradictions: 0 } });
});

void test('a log that was rewritten from the start is found, although its chain is sound', async (t) => {
  const { anchors } = await makeLog(t, 5);
  const { log } = await makeLog(t, 5, 'rewritten');
  t.match(await verify(log, []).catch(() => 'no anchors'), 'no anchors');
  const report = await verify(log, anchors.slice(2, 3));
  t.match(report, { ok: false, firstBad: null, anchors: { matched: 0, contradictions: 1 } });
  t.match(report.anchors?.contradicted[0], { seq: 3, expected: anchors[2]?.hash });
});

void test('a log that was cut off is found by an anchor beyond its end', async (t) => {
  const { log, anchors } = await makeLog(t, 5);
  const short = `${log.split('\n').slice(0, 3).join('\n')}\n`;
  const report = await verify(short, anchors.slice(3));
  t.match(report, { ok: false, anchors: { contradicted: [{ seq: 4, actual: null }, { seq: 5 }] } });
});

void test('an emptied log is found', async (t) => {
  const { anchors } = await makeLog(t, 2);
  t.match(await verify('', anchors), { ok: false, records: 0, anchors: { contradictions: 2 } });
});

void test('two anchors that disagree are a contradiction, whichever is true', async (t) => {
  const { log, anchors } = await makeLog(t, 2);
  const [first] = anchors;
  const other: Anchor = { ...LOG, seq: 1, hash: 'cd'.repeat(32) };
  const report = await verify(log, first === undefined ? [] : [first, other]);
  t.match(report, { ok: false, anchors: { matched: 1, contradictions: 1 } });
});

void test('anchors of another log are none of this one', (t) => {
  const anchor = { ...LOG, seq: 1, hash: 'ab'.repeat(32) };
  t.throws(() => selectAnchors([anchor], { host: 'vm2', path: LOG.path }), {
    code: 'ERR_AUDIT_ANCHORS',
  });
  t.end();
});

void test('a bare copy of a log takes no anchors of two logs', (t) => {
  const anchor = { ...LOG, seq: 1, hash: 'ab'.repeat(32) };
  t.throws(() => selectAnchors([anchor, { ...anchor, host: 'vm2' }], undefined), {
    message: /expected anchors of one log, found vm1.*, vm2/,
  });
  t.end();
});

void test('no anchors at all are an error and no proof', (t) => {
  t.throws(() => selectAnchors([], LOG), { code: 'ERR_AUDIT_ANCHORS' });
  t.end();
});

void test('a file of anchors is read past everything else in it', async (t) => {
  const path = join(await temporary(t), 'journal');
  const anchor = { ...LOG, seq: 7, hash: 'ab'.repeat(32) };
  await writeFile(path, `noise\n${'x'.repeat(300_000)}\n${formatAnchor(anchor)}\n\u00ff\n`);
  t.same(await readAnchors(path), [anchor]);
});

void test('a file of anchors that is missing is named', async (t) => {
  await t.rejects(readAnchors('/nonexistent/anchors'), { code: 'ERR_AUDIT_READ' });
});

// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { auditExportSchema } from '../../src/admin/api-audit.js';
import { type AuditLog, openAudit } from '../../src/audit/audit-log.js';
import { type ExportQuery, prepareExport } from '../../src/audit/export.js';
import { formatExport } from '../../src/audit/export-form.js';
import { type FileReport, verifyFile } from '../../src/audit/verify-file.js';
import { FakeClock } from '../support/fake-clock.js';

const HEAD = {
  host: 'vm1',
  daemonVersion: '0.1.0',
  path: '/var/lib/keyhold/audit/audit.jsonl',
  exportedAt: '2026-01-01T00:00:00.000Z',
};

/** Ten records, a minute apart: even ones of disk a, odd ones of disk b. */
async function makeLog(t: Test, count = 10): Promise<{ log: AuditLog; times: string[] }> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-export-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const clock = new FakeClock();
  const log = await openAudit(join(directory, 'audit.jsonl'), { clock });
  t.teardown(() => log.close());
  const times: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const kind = index % 3 === 0 ? 'verdict' : 'disk-state';
    const { time } = await log.append(kind, { disk: index % 2 === 0 ? 'a' : 'b', text: 'ü\n"' });
    times.push(time);
    await clock.advance(60_000);
  }
  return { log, times };
}

async function exportText(log: AuditLog, query: ExportQuery = {}): Promise<string> {
  let text = '';
  const head = { ...HEAD, query: query as Record<string, string> };
  for await (const piece of formatExport(head, await prepareExport(log.snapshot(), query))) {
    text += piece;
  }
  return text;
}

function parse(text: string): ReturnType<typeof auditExportSchema.parse> {
  return auditExportSchema.parse(JSON.parse(text));
}

function seqs(text: string): unknown[] {
  return parse(text).records.map(({ seq }) => seq);
}

async function* pieces(text: string, size = 1000): AsyncGenerator<Buffer> {
  await Promise.resolve();
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function verify(text: string, size?: number): Promise<FileReport> {
  return verifyFile(pieces(text, size), undefined);
}

void test('an export is JSON of the documented form, with every record in order', async (t) => {
  const { log } = await makeLog(t);
  const text = await exportText(log);
  t.same(seqs(text), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const { chain, first, last, contiguous } = parse(text);
  const { hash } = log.snapshot();
  t.match(
    { chain, last, contiguous },
    { chain: { ok: true, records: 10 }, last: { seq: 10, hash } },
  );
  t.match({ first, contiguous }, { first: { seq: 1 }, contiguous: true });
});

void test('an export verifies, whatever pieces it comes in', async (t) => {
  const { log } = await makeLog(t);
  const text = await exportText(log);
  for (const size of [1, 7, 100, 1_000_000]) {
    t.match(await verify(text, size), { form: 'export', ok: true, records: 10 });
  }
});

void test('an empty log exports and verifies', async (t) => {
  const { log } = await makeLog(t, 0);
  const text = await exportText(log);
  t.match(parse(text), { records: [], first: null, count: 0 });
  t.match(await verify(text), { ok: true, records: 0 });
});

void test('a range of times is what lies between, both ends included', async (t) => {
  const { log, times } = await makeLog(t);
  const text = await exportText(log, { since: times[2], until: times[5] });
  t.same(seqs(text), [3, 4, 5, 6]);
  t.match(await verify(text), { ok: true, firstSeq: 3, lastSeq: 6 });
});

void test('a range without records is an export without records', async (t) => {
  const { log } = await makeLog(t);
  for (const query of [
    { since: '2100-01-01T00:00:00.000Z' },
    { until: '1999-01-01T00:00:00.000Z' },
    { kind: 'no-such-kind' },
  ]) {
    const text = await exportText(log, query);
    t.same(seqs(text), []);
    t.match(await verify(text), { ok: true, records: 0 });
  }
});

void test('kind and disk leave records out, and the export says so', async (t) => {
  const { log } = await makeLog(t);
  const text = await exportText(log, { kind: 'verdict', disk: 'b' });
  t.same(seqs(text), [4, 10]);
  t.equal(parse(text).contiguous, false);
  t.match(await verify(text), { ok: true, records: 2 });
});

void test('what is appended after the snapshot is not in the export', async (t) => {
  const { log } = await makeLog(t, 2);
  const found = await prepareExport(log.snapshot(), {});
  await log.append('later');
  let text = '';
  for await (const piece of formatExport({ ...HEAD, query: {} }, found)) text += piece;
  t.same(seqs(text), [1, 2]);
});

void test('a changed record is exported as it stands, and the export says not sound', async (t) => {
  const { log } = await makeLog(t);
  const bytes = await readFile(log.path, 'utf8');
  await writeFile(log.path, bytes.replace('"disk":"b"', '"disk":"c"'));
  const text = await exportText(log);
  t.match(parse(text).chain, { ok: false, records: 1, firstBad: { line: 2 } });
  t.equal(parse(text).records[1]?.['disk'], 'c');
  t.match(await verify(text), { ok: false, firstBad: { line: 3, expected: /^hash/ } });
});

void test('bytes that are no JSON are exported as evidence', async (t) => {
  const { log } = await makeLog(t, 3);
  const bytes = await readFile(log.path);
  bytes.fill(0xff, 5, 15);
  await writeFile(log.path, bytes);
  const [damaged] = parse(await exportText(log)).records;
  const evidence = Buffer.from(String(damaged?.['damaged']), 'base64');
  t.ok(evidence.equals(bytes.subarray(0, bytes.indexOf(0x0a))));
});

void test('a line that tries to end the export early is no way out of it', async (t) => {
  const { log } = await makeLog(t, 3);
  const [first = '', , third = ''] = (await readFile(log.path, 'utf8')).split('\n');
  await writeFile(log.path, `${first}\n],"count":1}\n${third}\n`);
  const text = await exportText(log);
  t.equal(parse(text).records.length, 3);
  t.match(await verify(text), { ok: false });
});

void test('a log that was cut short is exported as not sound', async (t) => {
  const { log } = await makeLog(t, 3);
  const lines = (await readFile(log.path, 'utf8')).split('\n');
  await writeFile(log.path, `${lines.slice(0, 2).join('\n')}\n`);
  t.match(parse(await exportText(log)).chain, { ok: false, firstBad: { expected: /^record 3/ } });
});

void test('a log that is missing is an error that names it', async (t) => {
  const { log } = await makeLog(t, 1);
  await rm(log.path);
  await t.rejects(prepareExport(log.snapshot(), {}), { code: 'ERR_AUDIT_READ' });
  await writeFile(log.path, '');
});

void test('an export that lost its end does not verify', async (t) => {
  const { log } = await makeLog(t);
  const text = await exportText(log);
  for (const cutAt of [text.lastIndexOf(']'), text.lastIndexOf('{'), text.indexOf('\n') + 1]) {
    t.match(await verify(text.slice(0, cutAt)), { ok: false, firstBad: { line: Number } });
  }
});

void test('an export with a record taken out, moved or doubled does not verify', async (t) => {
  const { log } = await makeLog(t);
  const lines = (await exportText(log)).split('\n');
  const [head = '', one = '', two = '', ...rest] = lines;
  for (const changed of [
    [head, two, ...rest],
    [head, one, ...rest],
    [head, two, one, ...rest],
    [head, one, one, two, ...rest],
  ]) {
    t.match(await verify(changed.join('\n')), { ok: false });
  }
});

void test('an export whose last record was taken out with its count does not verify', async (t) => {
  const { log } = await makeLog(t, 3);
  const [head, one, two, , tail = ''] = (await exportText(log)).split('\n');
  const short = [head, one, two?.slice(0, -1), tail.replace('3', '2'), ''].join('\n');
  t.match(await verify(short), { ok: false, firstBad: { expected: /as its last record 3/ } });
});

void test('a filtered export cannot have its order changed', async (t) => {
  const { log } = await makeLog(t);
  const [head, one, two = '', ...rest] = (await exportText(log, { disk: 'a' })).split('\n');
  t.match(await verify([head, two, one, ...rest].join('\n')), { ok: false });
});

void test('changing any one byte of a record is found', async (t) => {
  const { log } = await makeLog(t, 2);
  const text = await exportText(log);
  const bytes = Buffer.from(text);
  const from = bytes.indexOf(0x0a) + 1;
  const missed: number[] = [];
  for (let at = from; at < bytes.length - 1; at += 1) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 0x01;
    const { ok } = await verify(changed.toString('latin1'), 1e6).catch(() => ({ ok: false }));
    if (ok) missed.push(at - from);
  }
  t.same(missed, []);
});

void test('an export that was laid out anew is refused and not called broken', async (t) => {
  const { log } = await makeLog(t, 2);
  const text = JSON.stringify(JSON.parse(await exportText(log)));
  await t.rejects(verify(text), { code: 'ERR_AUDIT_EXPORT_FORM' });
});

void test('a bare copy of a log verifies as one', async (t) => {
  const { log } = await makeLog(t);
  const text = await readFile(log.path, 'utf8');
  t.match(await verify(text), { form: 'log', ok: true, firstSeq: 1, lastSeq: 10 });
});

void test('a bare copy without its beginning does not verify', async (t) => {
  const { log } = await makeLog(t);
  const text = await readFile(log.path, 'utf8');
  t.match(await verify(text.slice(text.indexOf('\n') + 1)), { ok: false, firstBad: { line: 1 } });
});

void test('a bare copy with a torn end does not verify', async (t) => {
  const { log } = await makeLog(t);
  const text = await readFile(log.path, 'utf8');
  t.match(await verify(text.slice(0, -5)), { ok: false, records: 9, firstBad: { line: 10 } });
});

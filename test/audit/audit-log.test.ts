// SPDX-License-Identifier: Apache-2.0
import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import {
  AuditLog,
  openAudit,
  QUEUE_RECORDS_MAX,
  type AuditFile,
} from '../../src/audit/audit-log.js';
import { GENESIS_HASH } from '../../src/audit/record.js';
import { verifyAudit } from '../../src/audit/verify.js';
import { FakeClock } from '../support/fake-clock.js';

const clock = new FakeClock();

async function temporaryPath(t: Teardown): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-audit-'));
  t.teardown(() => rm(directory, { recursive: true }));
  return join(directory, 'audit', 'audit.jsonl');
}

interface Teardown {
  teardown(run: () => Promise<unknown>): void;
}

void test('records are chained, numbered and survive a reopen', async (t) => {
  const path = await temporaryPath(t);
  const first = await openAudit(path, { clock });
  const one = await first.append('daemon-started', { pid: 7 });
  await first.close();
  const second = await openAudit(path, { clock });
  const two = await second.append('disk-online', { disk: 'd1' });
  await second.close();
  t.match(one, { seq: 1, kind: 'daemon-started', pid: 7, prev: GENESIS_HASH });
  t.match(two, { seq: 2, kind: 'disk-online', disk: 'd1', prev: one.hash });
  t.same(await verifyAudit(path), { records: 2, ok: true, lastHash: two.hash });
});

void test('the log is for its owner only', async (t) => {
  const path = await temporaryPath(t);
  const log = await openAudit(path, { clock });
  await log.close();
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.equal((await stat(join(path, '..'))).mode & 0o777, 0o700);
});

void test('records that are appended together keep their order', async (t) => {
  const path = await temporaryPath(t);
  const log = await openAudit(path, { clock });
  const records = await Promise.all(
    Array.from({ length: 1000 }, (_, index) => log.append('event', { index })),
  );
  t.same(
    records.map(({ seq, ['index']: index }) => [seq, index]),
    Array.from({ length: 1000 }, (_, index) => [index + 1, index]),
  );
  t.match(await log.verify(), { records: 1000, ok: true });
  await log.close();
});

void test('a record is on the disk when append resolves', async (t) => {
  const path = await temporaryPath(t);
  const log = await openAudit(path, { clock });
  await log.append('event', { text: 'a\nb' });
  const text = await readFile(path, 'utf8');
  const head = '{"seq":1,"time":"2026-01-01T00:00:00.000Z","kind":"event","text":"a\\nb"';
  t.ok(text.startsWith(`${head},"prev":"${GENESIS_HASH}","hash":"`), text);
  t.match(text, /"[0-9a-f]{64}"\}\n$/);
  await log.close();
});

void test('what a caller changes after append changes no record', async (t) => {
  const log = await openAudit(await temporaryPath(t), { clock });
  const fields = { disk: { name: 'a' } };
  const appended = log.append('event', fields);
  fields.disk.name = 'b';
  t.match(await appended, { disk: { name: 'a' } });
  await log.close();
});

for (const cut of [1, 50, 200]) {
  void test(`a last line cut ${cut} bytes short is set aside and recorded`, async (t) => {
    const path = await temporaryPath(t);
    const log = await openAudit(path, { clock });
    await log.append('one');
    const two = await log.append('two', { padding: 'x'.repeat(100) });
    await log.append('three', { padding: 'x'.repeat(100) });
    await log.close();
    const whole = await readFile(path);
    await writeFile(path, whole.subarray(0, whole.length - cut));

    const reopened = await openAudit(path, { clock });
    t.equal(reopened.lastSeq, 3);
    await reopened.close();
    const torn = await readFile(`${path}.torn-3`);
    const third = whole.subarray(whole.lastIndexOf(0x0a, whole.length - 2) + 1);
    t.same(torn, third.subarray(0, third.length - cut));
    const last = JSON.parse(
      (await readFile(path, 'utf8')).trim().split('\n').at(-1) ?? '',
    ) as object;
    t.match(last, {
      seq: 3,
      kind: 'audit-recovered',
      prev: two.hash,
      tornBytes: torn.length,
      movedTo: `${path}.torn-3`,
    });
    t.match(await verifyAudit(path), { ok: true, records: 3 });
  });
}

void test('a crash between setting aside and recording loses no record of it', async (t) => {
  const path = await temporaryPath(t);
  const log = await openAudit(path, { clock });
  await log.append('one');
  await log.close();
  await writeFile(`${path}.torn-2`, 'half a line');
  const reopened = await openAudit(path, { clock });
  t.equal(reopened.lastSeq, 2);
  await reopened.close();
  t.match(await readFile(path, 'utf8'), /"kind":"audit-recovered".*"tornBytes":11/);
});

void test('a log that is nothing but a torn line begins anew', async (t) => {
  const path = await temporaryPath(t);
  await (await openAudit(path, { clock })).close();
  await writeFile(path, '{"seq":1,');
  const log = await openAudit(path, { clock });
  t.match(await log.verify(), { ok: true, records: 1 });
  await log.close();
});

for (const [claim, spoil] of [
  ['a changed field', (text: string) => text.replace('"kind":"two"', '"kind":"owt"')],
  ['a cut in the middle', (text: string) => text.replace(/"kind":"two","prev":"..../, '')],
  ['a missing line before it', (text: string) => text.split('\n').slice(1).join('\n')],
  ['a line of garbage', (text: string) => `${text}garbage\n`],
  ['an empty line', (text: string) => `${text}\n`],
] as const) {
  void test(`a log that ends with ${claim} is refused and left as it is`, async (t) => {
    const path = await temporaryPath(t);
    const log = await openAudit(path, { clock });
    await log.append('one');
    await log.append('two');
    await log.close();
    const spoiled = spoil(await readFile(path, 'utf8'));
    await writeFile(path, spoiled);
    await t.rejects(openAudit(path, { clock }), { code: 'ERR_AUDIT_CORRUPT', kind: 'integrity' });
    t.equal(await readFile(path, 'utf8'), spoiled);
    t.same(await readdir(join(path, '..')), ['audit.jsonl']);
  });
}

void test('a megabyte without a newline is refused, not set aside', async (t) => {
  const path = await temporaryPath(t);
  await (await openAudit(path, { clock })).close();
  await writeFile(path, 'x'.repeat(2 ** 20));
  await t.rejects(openAudit(path, { clock }), { code: 'ERR_AUDIT_CORRUPT' });
});

void test('a path that is a directory is refused with its name', async (t) => {
  const path = await temporaryPath(t);
  await t.rejects(openAudit(join(path, '..', '..'), { clock }), {
    code: 'ERR_AUDIT_OPEN',
    message: /EISDIR/,
  });
});

void test('a record with a reserved field is refused and leaves no gap', async (t) => {
  const log = await openAudit(await temporaryPath(t), { clock });
  const results = await Promise.allSettled([
    log.append('one'),
    log.append('bad', { hash: 'x' }),
    log.append('big', { text: 'x'.repeat(70_000) }),
    log.append('two'),
  ]);
  t.match(results, [
    { status: 'fulfilled', value: { seq: 1 } },
    { reason: { code: 'ERR_AUDIT_RECORD', message: /field hash is reserved/ } },
    { reason: { code: 'ERR_AUDIT_RECORD', message: /at most 65536 bytes, got 70/ } },
    { status: 'fulfilled', value: { seq: 2 } },
  ]);
  t.match(await log.verify(), { ok: true, records: 2 });
  await log.close();
});

void test('records cut off at the end are missed by the log that wrote them', async (t) => {
  const path = await temporaryPath(t);
  const log = await openAudit(path, { clock });
  const one = await log.append('disk-online');
  const two = await log.append('disk-offline');
  const [first = ''] = (await readFile(path, 'utf8')).split('\n');
  await writeFile(path, `${first}\n`);
  t.same(await log.verify(), {
    records: 1,
    ok: false,
    lastHash: one.hash,
    firstBad: {
      line: 2,
      expected: `record 2 with hash ${two.hash} at the end`,
      actual: `record 1 with hash ${one.hash}`,
    },
  });
  await log.close();
});

void test('a sound chain in place of the log is not the log', async (t) => {
  const [path, otherPath] = [await temporaryPath(t), await temporaryPath(t)];
  const log = await openAudit(path, { clock });
  await log.append('disk-offline', { disk: 'd1' });
  const other = await openAudit(otherPath, { clock });
  await other.append('disk-offline', { disk: 'd2' });
  await other.close();
  await rm(path);
  await writeFile(path, await readFile(otherPath));
  t.ok((await verifyAudit(path)).ok);
  t.match(await log.verify(), { records: 1, ok: false, firstBad: { line: 1 } });
  await log.close();
});

void test('a closed log writes what waits and refuses more', async (t) => {
  const path = await temporaryPath(t);
  const log = await openAudit(path, { clock });
  const appended = log.append('one');
  await log.close();
  t.match(await appended, { seq: 1 });
  await t.rejects(log.append('two'), { code: 'ERR_AUDIT_CLOSED' });
  await log.close();
});

void test('lines that are being written are not part of what the log verifies', async (t) => {
  const path = await temporaryPath(t);
  const log = await openAudit(path, { clock });
  await log.append('one');
  await appendFile(path, '{"seq":2,"ti');
  t.match(await log.verify(), { ok: true, records: 1 });
  t.match(await verifyAudit(path), { ok: false, records: 1, firstBad: { line: 2 } });
  await log.close();
});

/** A file in memory whose disk can be full, refuse to truncate, or hang. */
class FaultyFile implements AuditFile {
  content = Buffer.alloc(0);
  capacityBytes = Number.POSITIVE_INFINITY;
  fault: 'truncate' | 'datasync' | undefined;
  datasyncs = 0;
  hold: Promise<void> | undefined;

  async write(data: Uint8Array, offset: number, length: number, position: number) {
    await this.hold;
    const bytesWritten = Math.min(length, this.capacityBytes - position);
    if (bytesWritten <= 0) throw Object.assign(new Error('disk is full'), { code: 'ENOSPC' });
    const end = Math.max(this.content.length, position + bytesWritten);
    const next = Buffer.alloc(end);
    this.content.copy(next);
    next.set(data.subarray(offset, offset + bytesWritten), position);
    this.content = next;
    return { bytesWritten };
  }
  truncate(lengthBytes: number): Promise<void> {
    if (this.fault === 'truncate') return Promise.reject(new Error('truncate failed'));
    this.content = this.content.subarray(0, lengthBytes);
    return Promise.resolve();
  }
  datasync(): Promise<void> {
    this.datasyncs += 1;
    if (this.fault === 'datasync') {
      return Promise.reject(Object.assign(new Error('i/o error'), { code: 'EIO' }));
    }
    return Promise.resolve();
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

const onFile = (file: AuditFile): AuditLog =>
  new AuditLog({ path: '/audit', file, tail: { seq: 0, hash: GENESIS_HASH, endBytes: 0 }, clock });

async function verifyContent(t: Teardown, file: FaultyFile): Promise<unknown> {
  const path = `${await temporaryPath(t)}.copy`;
  await mkdir(join(path, '..'));
  await writeFile(path, file.content);
  return verifyAudit(path);
}

void test('a full disk rejects the record; with space again the log goes on', async (t) => {
  const file = new FaultyFile();
  const log = onFile(file);
  await log.append('one');
  file.capacityBytes = file.content.length + 20;
  await t.rejects(log.append('two'), {
    code: 'ERR_AUDIT_NO_SPACE',
    kind: 'no-space',
    message: 'cannot write audit record two to /audit: disk is full',
  });
  t.equal(file.content.at(-1), 0x0a, 'nothing of the failed record is left');
  file.capacityBytes = Number.POSITIVE_INFINITY;
  t.match(await log.append('three'), { seq: 2 });
  t.match(await verifyContent(t, file), { ok: true, records: 2 });
});

void test('what a failed truncate leaves behind is removed before the next write', async (t) => {
  const file = new FaultyFile();
  const log = onFile(file);
  await log.append('one');
  file.capacityBytes = file.content.length + 150;
  file.fault = 'truncate';
  await t.rejects(log.append('a-kind-that-is-long', { text: 'x'.repeat(500) }));
  file.capacityBytes = Number.POSITIVE_INFINITY;
  await t.rejects(log.append('two'), { code: 'ERR_AUDIT_WRITE', message: /truncate failed/ });
  file.fault = undefined;
  await log.append('two');
  t.match(await verifyContent(t, file), { ok: true, records: 2 });
});

void test('a record that could not be synced is not in the chain', async (t) => {
  const file = new FaultyFile();
  const log = onFile(file);
  file.fault = 'datasync';
  await t.rejects(log.append('one'), { code: 'ERR_AUDIT_WRITE', kind: 'unavailable' });
  file.fault = undefined;
  t.match(await log.append('two'), { seq: 1, prev: GENESIS_HASH });
  t.match(await verifyContent(t, file), { ok: true, records: 1 });
});

void test('records that wait share one datasync', async (t) => {
  const file = new FaultyFile();
  const log = onFile(file);
  await Promise.all(Array.from({ length: 100 }, () => log.append('event')));
  t.equal(file.datasyncs, 1);
});

void test('a disk that hangs fills the queue and then refuses, in bounded memory', async (t) => {
  const file = new FaultyFile();
  let release = (): void => undefined;
  file.hold = new Promise((resolve) => (release = resolve));
  const log = onFile(file);
  const first = log.append('event');
  await new Promise((resolve) => setImmediate(resolve));
  const waiting = Array.from({ length: QUEUE_RECORDS_MAX }, () => log.append('event'));
  await t.rejects(log.append('event'), {
    code: 'ERR_AUDIT_QUEUE_FULL',
    message: new RegExp(`${QUEUE_RECORDS_MAX} records wait`),
  });
  release();
  await Promise.all([first, ...waiting]);
  t.match(await verifyContent(t, file), { ok: true, records: QUEUE_RECORDS_MAX + 1 });
});

// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import tap, { test } from 'tap';
import { openAudit } from '../../src/audit/audit-log.js';
import {
  canonicalJson,
  createRecord,
  GENESIS_HASH,
  isDiscrepancy,
  parseRecord,
} from '../../src/audit/record.js';
import { verifyAudit } from '../../src/audit/verify.js';
import { FakeClock } from '../support/fake-clock.js';

const directory = await mkdtemp(join(tmpdir(), 'keyhold-audit-'));
const path = join(directory, 'audit.jsonl');
const log = await openAudit(path, { clock: new FakeClock() });
for (let index = 0; index < 5; index += 1) {
  await log.append('disk-offline', {
    index,
    disk: 'dä',
    receipt: { connections: 2, '10': 'é', a: [1, null] },
  });
}
await log.close();
const sound = await readFile(path);
const lines = sound.toString('utf8').split('\n').slice(0, 5);

tap.teardown(() => rm(directory, { recursive: true }));

let copies = 0;
async function verifyBytes(
  bytes: Uint8Array | string,
): Promise<Awaited<ReturnType<typeof verifyAudit>>> {
  copies += 1;
  const copy = join(directory, `copy-${copies}`);
  await writeFile(copy, bytes);
  try {
    return await verifyAudit(copy);
  } finally {
    await rm(copy);
  }
}

void test('a sound log is sound', async (t) => {
  t.match(await verifyBytes(sound), { ok: true, records: 5 });
});

void test('an empty log is sound', async (t) => {
  t.same(await verifyBytes(''), { ok: true, records: 0, lastHash: GENESIS_HASH });
});

void test('changing any one byte is found', async (t) => {
  const lineOf = (offset: number): number =>
    sound.subarray(0, offset).filter((byte) => byte === 0x0a).length + 1;
  const failures: string[] = [];
  for (let offset = 0; offset < sound.length; offset += 1) {
    for (const flip of [0x01, 0x20, 0x80]) {
      const bytes = Buffer.from(sound);
      bytes[offset] = (bytes[offset] ?? 0) ^ flip;
      const { firstBad } = await verifyBytes(bytes);
      if (firstBad?.line !== lineOf(offset))
        failures.push(`${offset} ^ ${flip}: ${firstBad?.line}`);
    }
  }
  t.same(failures, []);
});

void test('bytes that mean nothing to JSON are found too', async (t) => {
  const text = sound.toString('utf8');
  const [first = ''] = lines;
  for (const [claim, changed] of [
    ['white space', first.replace('"kind":', '"kind": ')],
    ['an escape for a letter', first.replace('"disk":"d', '"disk":"\\u0064')],
    ['another order', first.replace('"disk":"dä","index":0', '"index":0,"disk":"dä"')],
    ['another number', first.replace('"index":0', '"index":0.0')],
    ['a repeated key', first.replace('"index":0', '"index":0,"index":0')],
    ['a byte order mark', `\ufeff${first}`],
    ['a carriage return', `${first}\r`],
  ] as const) {
    t.not(changed, first, claim);
    t.match(
      await verifyBytes(text.replace(first, changed)),
      { ok: false, records: 0, firstBad: { line: 1 } },
      claim,
    );
  }
});

for (const [claim, order, line] of [
  ['a removed first line', [1, 2, 3, 4], 1],
  ['a removed middle line', [0, 1, 3, 4], 3],
  ['two lines in another order', [0, 2, 1, 3, 4], 2],
  ['a repeated line', [0, 1, 1, 2, 3, 4], 3],
] as const) {
  void test(`${claim} is found where it is`, async (t) => {
    const text = order.map((index) => `${lines[index] ?? ''}\n`).join('');
    const report = await verifyBytes(text);
    t.match(report, { ok: false, records: line - 1, firstBad: { line } });
    t.match(report.firstBad, { expected: /^prev /, actual: /^prev / });
  });
}

void test('a cut at a record boundary is not found: that takes an anchor outside', async (t) => {
  t.match(await verifyBytes(`${lines.slice(0, 3).join('\n')}\n`), { ok: true, records: 3 });
});

void test('a cut anywhere else is found', async (t) => {
  for (const cut of [1, 2, 100]) {
    t.match(await verifyBytes(sound.subarray(0, sound.length - cut)), {
      ok: false,
      records: 4,
      firstBad: { line: 5 },
    });
  }
});

void test('a number that skips is found even when the hashes fit', async (t) => {
  const make = (seq: number, prev: string) =>
    createRecord({ seq, time: 't', kind: 'k', fields: {}, prev });
  const one = make(1, GENESIS_HASH);
  const three = make(3, one.record.hash);
  t.match(await verifyBytes(`${one.line}\n${three.line}\n`), {
    ok: false,
    firstBad: { line: 2, expected: 'seq 2', actual: 'seq 3' },
  });
});

void test('a line without end costs no more memory than a record', async (t) => {
  t.match(await verifyBytes('x'.repeat(5 * 2 ** 20)), {
    ok: false,
    records: 0,
    firstBad: { line: 1 },
  });
});

void test('a file that is missing is named', async (t) => {
  await t.rejects(verifyAudit(join(directory, 'missing')), {
    code: 'ERR_AUDIT_READ',
    message: /ENOENT/,
  });
});

void test('the hash is what sorted JSON without the hash gives', (t) => {
  // sha256sum of {"a":{"b":[1,"é"],"c":null},"kind":"k","prev":"0…0","seq":1,"time":"t"}
  const expected = 'e8488b07d5c0643f83c11f8f86c8e06ab34011ecd30e4f9048959fe3a65c626b';
  const { record } = createRecord({
    seq: 1,
    time: 't',
    kind: 'k',
    fields: { a: { c: null, b: [1, 'é'] } },
    prev: GENESIS_HASH,
  });
  t.equal(record.hash, expected);
  t.end();
});

void test('every record reads back as it was written', (t) => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (fields) => {
      for (const name of ['seq', 'time', 'kind', 'prev', 'hash'])
        Reflect.deleteProperty(fields, name);
      const made = createRecord({ seq: 1, time: 't', kind: 'k', fields, prev: GENESIS_HASH });
      const read = parseRecord(Buffer.from(made.line));
      return !isDiscrepancy(read) && canonicalJson(read) === canonicalJson(made.record);
    }),
    { numRuns: 300 },
  );
  t.end();
});

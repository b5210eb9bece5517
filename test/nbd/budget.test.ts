// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import type { ExportInfo } from '../../src/nbd/exports.js';
import { DEFAULT_LIMITS, OptionBudget } from '../../src/nbd/limits.js';
import { encodeInfoData, encodeOption, OPT, REP } from '../support/nbd-wire.js';
import { DEMO, directoryOf, feed, opened, outcome, replies, sent } from './fixture.js';

/* What a client that nobody knows may cost: reference section 3 and 6, "budget". */

const { optionsMax, listedExportsMax } = DEFAULT_LIMITS;

function manyDisks(count: number): ExportInfo[] {
  return Array.from({ length: count }, (_, index) => ({ ...DEMO, name: `disk-${index}` }));
}

const TEN_THOUSAND = directoryOf(...manyDisks(10_000));

/** Sends the option so often; gives the number of the one that closed, or 0. */
function closedAt(negotiation: ReturnType<typeof opened>, option: Buffer, count: number): number {
  for (let number = 1; number <= count; number += 1) {
    if (outcome(negotiation.receive(option)).includes('close')) return number;
  }
  return 0;
}

void test('the 65th option closes, whichever it is', (t) => {
  for (const option of [OPT.LIST, OPT.STRUCTURED_REPLY, 99]) {
    t.equal(closedAt(opened(), encodeOption(option), 200), option === OPT.LIST ? 71 : 65);
  }
  t.end();
});

void test('whoever was shown n exports may send 3n options more', (t) => {
  const negotiation = opened({ exports: directoryOf(...manyDisks(100)) });
  negotiation.receive(encodeOption(OPT.LIST));
  t.equal(closedAt(negotiation, encodeOption(99), 1000), optionsMax + 300);
  t.end();
});

void test('a second LIST earns nothing', (t) => {
  const negotiation = opened({ exports: directoryOf(...manyDisks(100)) });
  for (let count = 0; count < 5; count += 1) negotiation.receive(encodeOption(OPT.LIST));
  t.equal(closedAt(negotiation, encodeOption(99), 1000), optionsMax + 300 - 4);
  t.end();
});

void test('INFO of each of 10,000 listed disks is answered', (t) => {
  const negotiation = opened({ exports: TEN_THOUSAND });
  t.equal(replies(negotiation.receive(encodeOption(OPT.LIST))).length, 10_001);
  for (const { name } of TEN_THOUSAND.list()) {
    const actions = negotiation.receive(encodeOption(OPT.INFO, encodeInfoData(name)));
    if (outcome(actions).join() !== '3,1') t.fail(`INFO of ${name}: ${outcome(actions).join()}`);
  }
  t.pass('all were answered');
  t.end();
});

void test('LIST options in one segment make no more output than two full lists', (t) => {
  const lists = Buffer.concat(Array.from({ length: optionsMax }, () => encodeOption(OPT.LIST)));
  const actions = opened({ exports: TEN_THOUSAND }).receive(lists);
  const bytes = sent(actions).length;
  t.ok(bytes < 2_500_000, `${lists.length} bytes were answered with ${bytes}`);
  const types = replies(actions).map(({ type }) => type);
  t.equal(types.filter((type) => type === REP.SERVER).length, listedExportsMax);
  t.equal(types.filter((type) => type === REP.ERR_POLICY).length, optionsMax - 2);
  t.end();
});

void test('a refused LIST names the number and its limit, and negotiation goes on', (t) => {
  const negotiation = opened({ exports: directoryOf(...manyDisks(listedExportsMax + 1)) });
  const [reply] = replies(negotiation.receive(encodeOption(OPT.LIST)));
  t.match(reply, { type: REP.ERR_POLICY });
  t.match(reply?.data.toString(), /20001 exports listed on this connection, allowed are 20000/);
  const go = negotiation.receive(encodeOption(OPT.GO, encodeInfoData('disk-7')));
  t.equal(go.at(-1)?.kind, 'enterTransmission');
  t.end();
});

void test('a refused LIST counts nothing', (t) => {
  const budget = new OptionBudget({ ...DEFAULT_LIMITS, listedExportsMax: 10 });
  t.match(budget.takeList(11), /allowed are 10/);
  t.equal(budget.takeList(10), undefined);
  t.end();
});

void test('what is kept of a half-sent option is 8 KiB, however it is sent', (t) => {
  const bytes = encodeOption(OPT.GO, Buffer.alloc(8191), 8192);
  const half = Array.from({ length: 500 }, () => {
    const negotiation = opened();
    feed(negotiation, bytes, [1000]);
    return negotiation;
  });
  t.equal(half.length, 500);
  for (const negotiation of half)
    t.strictSame(outcome(negotiation.receive(Buffer.alloc(1))), [REP.ERR_INVALID]);
  t.end();
});

void test('an error text stays below the protocol bound for strings, whoever wrote it', (t) => {
  const text = `\u{1f4be}\u0007\u202e${'\u{1f4be}'.repeat(5000)}`;
  const exports = { list: () => [], find: () => ({ refused: 'offline', text }) as const };
  const go = encodeOption(OPT.GO, encodeInfoData('demo'));
  const [reply] = replies(opened({ exports }).receive(go));
  t.ok((reply?.data.length ?? 0) > 1000);
  t.ok((reply?.data.length ?? 9999) <= 4096, String(reply?.data.length));
  t.notMatch(reply?.data.toString(), /\p{Cc}|\u202e/u);
  t.end();
});

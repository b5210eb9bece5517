// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { DEFAULT_LIMITS } from '../../src/nbd/limits.js';
import { createNegotiation } from '../../src/nbd/negotiation.js';
import { encodeClientFlags, encodeInfoData, encodeOption, OPT, REP } from '../support/nbd-wire.js';
import { BOTH, opened, outcome, replies } from './fixture.js';

for (const flags of [4, 8, 0x10000, 0x80000000, 0x80000003, 0xffffffff]) {
  void test(`client flags 0x${flags.toString(16)} drop the connection`, (t) => {
    const negotiation = createNegotiation({ exports: BOTH, tls: 'off' });
    negotiation.start();
    const actions = negotiation.receive(encodeClientFlags(flags));
    t.match(actions, [{ kind: 'close', reason: 'bad-client-flags', detail: /offered are 0x3/ }]);
    t.end();
  });
}

void test('an option without IHAVEOPT closes and names both magics', (t) => {
  const actions = opened().receive(Buffer.from('GET / HTTP/1.1\r\n'));
  t.match(actions, [
    {
      kind: 'close',
      reason: 'bad-magic',
      detail: 'option magic is 0x474554202f204854, expected 0x49484156454f5054',
    },
  ]);
  t.end();
});

/** Data of INFO or GO whose inner lengths are wrong. */
function lying(nameLength: number, name: string, count: number, ids: number): Buffer {
  const data = Buffer.alloc(6 + name.length + 2 * ids);
  data.writeUInt32BE(nameLength, 0);
  data.write(name, 4);
  data.writeUInt16BE(count, 4 + name.length);
  return data;
}

const malformed: [string, Buffer, number, RegExp][] = [
  ['no data', Buffer.alloc(0), REP.ERR_INVALID, /has 0 bytes of data, expected at least 6/],
  ['5 bytes', Buffer.alloc(5), REP.ERR_INVALID, /has 5 bytes of data, expected at least 6/],
  [
    'name length 2^32-1',
    lying(0xffffffff, 'demo', 0, 0),
    REP.ERR_INVALID,
    /4294967295, room .* 4$/,
  ],
  ['name length 2^31', lying(0x80000000, 'demo', 0, 0), REP.ERR_INVALID, /2147483648, room/],
  ['a name one byte too long', lying(5, 'demo', 0, 0), REP.ERR_INVALID, /is 5, room is for 4/],
  ['a name one byte too short', lying(3, 'demo', 0, 0), REP.ERR_INVALID, /expected/],
  ['one id too few', lying(4, 'demo', 2, 1), REP.ERR_INVALID, /12 bytes of data, expected 14/],
  ['one id too many', lying(4, 'demo', 1, 2), REP.ERR_INVALID, /14 bytes of data, expected 12/],
  ['65,535 ids', lying(4, 'demo', 0xffff, 0), REP.ERR_INVALID, /expected 131080/],
  [
    'a trailing byte',
    Buffer.concat([encodeInfoData('demo'), Buffer.alloc(1)]),
    REP.ERR_INVALID,
    /11/,
  ],
  ['a zero byte in the name', encodeInfoData('de\0mo'), REP.ERR_INVALID, /"de\?mo" is not UTF-8/],
  [
    'a name cut in a character',
    encodeInfoData(Buffer.from('é').subarray(0, 1)),
    REP.ERR_INVALID,
    /8/,
  ],
  ['an overlong encoding', encodeInfoData(Buffer.from([0xc0, 0x80])), REP.ERR_INVALID, /UTF-8/],
  [
    'an encoded surrogate',
    encodeInfoData(Buffer.from([0xed, 0xa0, 0x80])),
    REP.ERR_INVALID,
    /UTF-8/,
  ],
  ['a name of 4097 bytes', encodeInfoData('x'.repeat(4097)), REP.ERR_TOO_BIG, /4097, .* 4096/],
];

for (const option of [OPT.INFO, OPT.GO]) {
  for (const [what, data, type, message] of malformed) {
    void test(`option ${option} with ${what} is refused and negotiation goes on`, (t) => {
      const negotiation = opened();
      const [reply] = replies(negotiation.receive(encodeOption(option, data)));
      t.equal(reply?.type, type);
      t.match(reply?.data.toString(), message);
      t.strictSame(outcome(negotiation.receive(encodeOption(OPT.STRUCTURED_REPLY))), [REP.ACK]);
      t.end();
    });
  }
}

void test('a name of 4096 bytes is looked up', (t) => {
  const go = encodeOption(OPT.GO, encodeInfoData('x'.repeat(4096)));
  t.strictSame(outcome(opened().receive(go)), [REP.ERR_UNKNOWN]);
  t.end();
});

const badExportNames: [string, Buffer, RegExp][] = [
  ['4097 bytes', encodeOption(OPT.EXPORT_NAME, Buffer.alloc(4097, 0x78)), /has 4097 bytes.* 4096/],
  ['2^32-1 bytes', encodeOption(OPT.EXPORT_NAME, Buffer.alloc(0), 0xffffffff), /has 4294967295/],
  ['2^31 bytes', encodeOption(OPT.EXPORT_NAME, Buffer.alloc(0), 0x80000000), /has 2147483648/],
  ['a zero byte', encodeOption(OPT.EXPORT_NAME, Buffer.from('a\0')), /"a\?" is not UTF-8/],
  ['no UTF-8', encodeOption(OPT.EXPORT_NAME, Buffer.from([0xff])), /is not UTF-8/],
];

for (const [what, option, detail] of badExportNames) {
  void test(`EXPORT_NAME with ${what} closes`, (t) => {
    t.match(opened().receive(option), [{ kind: 'close', reason: 'bad-export-name', detail }]);
    t.end();
  });
}

const READ = [OPT.LIST, OPT.INFO, OPT.GO, OPT.STRUCTURED_REPLY, OPT.SET_META_CONTEXT];

for (const option of READ) {
  void test(`option ${option} above 8 KiB is ERR_TOO_BIG once all of it has come`, (t) => {
    const negotiation = opened();
    const bytes = encodeOption(option, Buffer.alloc(8193));
    t.strictSame(negotiation.receive(bytes.subarray(0, -1)), []);
    const [reply] = replies(negotiation.receive(bytes.subarray(-1)));
    t.equal(reply?.type, REP.ERR_TOO_BIG);
    t.match(reply?.data.toString(), /has 8193 bytes of data, expected at most 8192/);
    t.strictSame(outcome(negotiation.receive(encodeOption(OPT.STRUCTURED_REPLY))), [REP.ACK]);
    t.end();
  });
}

for (const option of [OPT.LIST, OPT.GO, OPT.ABORT, OPT.SET_META_CONTEXT, 4242]) {
  void test(`option ${option} above 64 KiB closes on its head`, (t) => {
    const head = encodeOption(option, Buffer.alloc(0), 65_537);
    t.match(opened().receive(head), [{ kind: 'close', reason: 'option-too-large' }]);
    t.end();
  });
}

void test('64 KiB of an unknown option are consumed', (t) => {
  const actions = opened().receive(encodeOption(4242, Buffer.alloc(65_536)));
  t.strictSame(outcome(actions), [REP.ERR_UNSUP]);
  t.end();
});

void test('the 65th option closes', (t) => {
  const negotiation = opened();
  for (let count = 1; count <= 64; count += 1) negotiation.receive(encodeOption(4242));
  const actions = negotiation.receive(encodeOption(OPT.GO, encodeInfoData('demo')));
  t.match(actions, [
    { kind: 'close', reason: 'too-many-options', detail: 'option number 65, allowed are 64' },
  ]);
  t.end();
});

void test('what a client calls itself comes back shortened and without control characters', (t) => {
  const name = Buffer.from(`\u001b[31m\u202e${'n'.repeat(4000)}\0`);
  const [reply] = replies(opened().receive(encodeOption(OPT.GO, encodeInfoData(name))));
  const text = reply?.data.toString() ?? '';
  t.ok(text.length < 200, text);
  t.notMatch(text, /\p{Cc}|\u202e/u);
  t.end();
});

void test('bytes after the end are a programmer error, before the start too', (t) => {
  const ended = opened();
  ended.receive(encodeOption(OPT.ABORT));
  t.throws(() => ended.receive(Buffer.alloc(1)), { message: /in state ended/ });
  t.throws(() => createNegotiation({ exports: BOTH, tls: 'off' }).receive(Buffer.alloc(4)), {
    message: /in state created/,
  });
  const started = createNegotiation({ exports: BOTH, tls: 'off' });
  started.start();
  t.throws(() => started.start(), { message: /started twice/ });
  t.end();
});

void test('empty input changes nothing', (t) => {
  const negotiation = opened();
  t.strictSame(negotiation.receive(Buffer.alloc(0)), []);
  t.strictSame(outcome(negotiation.receive(encodeOption(OPT.STRUCTURED_REPLY))), [REP.ACK]);
  t.end();
});

void test('an endless payload is not kept', (t) => {
  const { optionBytesMax, skippedBytesMax } = DEFAULT_LIMITS;
  t.equal(optionBytesMax, 8192);
  t.equal(skippedBytesMax, 65_536);
  const negotiations = Array.from({ length: 2000 }, () => {
    const negotiation = opened();
    negotiation.receive(encodeOption(4242, Buffer.alloc(0), 65_536));
    return negotiation;
  });
  const piece = Buffer.alloc(60_000);
  const before = process.memoryUsage().arrayBuffers;
  for (const negotiation of negotiations) negotiation.receive(piece);
  const grown = process.memoryUsage().arrayBuffers - before;
  t.ok(grown < 2_000_000, `2000 connections kept ${grown} bytes of 120 MB`);
  t.end();
});

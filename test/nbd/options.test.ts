// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { createNegotiation } from '../../src/nbd/negotiation.js';
import {
  EXPORT_FLAG,
  encodeInfoData,
  encodeOption,
  INFO_ID,
  OPT,
  parseHello,
  parseInfoItems,
  parseServerData,
  REP,
} from '../support/nbd-wire.js';
import { ARCHIVE, BOTH, DEMO, directoryOf, opened, outcome, replies, sent } from './fixture.js';

/*
 * Row by row through reference sections 1.2, 1.3, 1.4 and 1.14, as far as they concern
 * negotiation.
 */

const ALL_INFOS = [INFO_ID.NAME, INFO_ID.DESCRIPTION, INFO_ID.BLOCK_SIZE];

void test('the hello offers FIXED_NEWSTYLE and NO_ZEROES and nothing else', (t) => {
  const actions = createNegotiation({ exports: BOTH, tls: 'off' }).start();
  t.equal(sent(actions).length, 18);
  t.equal(parseHello(sent(actions)), 3);
  t.end();
});

void test('ABORT is acknowledged before the close', (t) => {
  const actions = opened().receive(encodeOption(OPT.ABORT));
  t.strictSame(outcome(actions), [REP.ACK, 'close']);
  t.match(actions.at(-1), { reason: 'client-abort' });
  t.end();
});

void test('ABORT is acknowledged whatever data it carries', (t) => {
  const actions = opened().receive(encodeOption(OPT.ABORT, Buffer.alloc(20_000)));
  t.strictSame(outcome(actions), [REP.ACK, 'close']);
  t.end();
});

void test('LIST gives one SERVER reply for each export, then ACK', (t) => {
  const all = replies(opened().receive(encodeOption(OPT.LIST)));
  t.strictSame(
    all.slice(0, -1).map(({ data }) => parseServerData(data)),
    [
      { name: 'demo', description: 'a disk for tests' },
      { name: 'archive', description: '' },
    ],
  );
  t.match(all.at(-1), { type: REP.ACK, option: OPT.LIST });
  t.end();
});

void test('LIST of no exports is a bare ACK', (t) => {
  const actions = opened({ exports: directoryOf() }).receive(encodeOption(OPT.LIST));
  t.strictSame(outcome(actions), [REP.ACK]);
  t.end();
});

void test('LIST does not show an offline disk', (t) => {
  const all = replies(opened().receive(encodeOption(OPT.LIST)));
  t.notOk(all.some(({ data }) => data.includes('gone')));
  t.end();
});

for (const option of [OPT.LIST, OPT.STARTTLS, OPT.STRUCTURED_REPLY, OPT.EXTENDED_HEADERS]) {
  void test(`option ${option} with data is ERR_INVALID with both lengths`, (t) => {
    const [reply] = replies(opened().receive(encodeOption(option, Buffer.alloc(3))));
    t.equal(reply?.type, REP.ERR_INVALID);
    t.match(reply?.data.toString(), /has 3 bytes of data, expected 0/);
    t.end();
  });
}

void test('STARTTLS where there is no TLS is ERR_POLICY and negotiation goes on', (t) => {
  const negotiation = opened();
  t.strictSame(outcome(negotiation.receive(encodeOption(OPT.STARTTLS))), [REP.ERR_POLICY]);
  t.strictSame(outcome(negotiation.receive(encodeOption(OPT.STRUCTURED_REPLY))), [REP.ACK]);
  t.end();
});

const unsupported = [OPT.PEEK_EXPORT, 0, 12, 0xffffffff];

for (const option of unsupported) {
  void test(`option ${option} is ERR_UNSUP with a text, and the next option is understood`, (t) => {
    const negotiation = opened();
    const both = [encodeOption(option, Buffer.alloc(99, 0xff)), encodeOption(OPT.LIST)];
    const [reply, ...list] = replies(negotiation.receive(Buffer.concat(both)));
    t.match(reply, { option, type: REP.ERR_UNSUP });
    t.equal(reply?.data.toString(), `option ${option} is not supported`);
    t.equal(list.at(-1)?.type, REP.ACK);
    t.end();
  });
}

void test('INFO tells the export even when nothing was asked', (t) => {
  const data = encodeInfoData('demo');
  const all = replies(opened().receive(encodeOption(OPT.INFO, data)));
  t.strictSame(
    all.map(({ type }) => type),
    [REP.INFO, REP.ACK],
  );
  t.equal(parseInfoItems([all[0]?.data ?? Buffer.alloc(0)]).sizeBytes, 2n ** 30n);
  t.end();
});

void test('INFO gives name, description and block sizes when asked, each once', (t) => {
  const data = encodeInfoData('archive', [...ALL_INFOS, ...ALL_INFOS]);
  const all = replies(opened().receive(encodeOption(OPT.INFO, data)));
  t.equal(all.length, 5);
  t.match(parseInfoItems(all.slice(0, -1).map((reply) => reply.data)), {
    sizeBytes: 2n ** 40n,
    name: 'archive',
    description: '',
    blockSize: { min: 4096, preferred: 4096, max: 33_554_432 },
  });
  t.end();
});

void test('a disk with 512-byte sectors advertises a minimum block of 512', (t) => {
  const data = encodeInfoData('demo', [INFO_ID.BLOCK_SIZE]);
  const [, item] = replies(opened().receive(encodeOption(OPT.INFO, data)));
  t.equal(item?.data.readUInt32BE(2), 512);
  t.end();
});

void test('information that nobody knows is ignored', (t) => {
  const data = encodeInfoData('demo', [4, 77, 0xffff, INFO_ID.EXPORT]);
  t.strictSame(outcome(opened().receive(encodeOption(OPT.INFO, data))), [REP.INFO, REP.ACK]);
  t.end();
});

void test('INFO never enters transmission and GO tells the same facts', (t) => {
  const negotiation = opened();
  const data = encodeInfoData('demo', ALL_INFOS);
  const info = replies(negotiation.receive(encodeOption(OPT.INFO, data)));
  const actions = negotiation.receive(encodeOption(OPT.GO, data));
  t.strictSame(
    replies(actions).map((reply) => reply.data),
    info.map((reply) => reply.data),
  );
  t.match(actions.at(-1), { kind: 'enterTransmission', exportName: 'demo' });
  t.end();
});

void test('GO hands over the bytes that follow it', (t) => {
  const rest = Buffer.from('first request');
  const go = encodeOption(OPT.GO, encodeInfoData('demo'));
  const actions = opened().receive(Buffer.concat([go, rest]));
  t.strictSame(actions.at(-1), {
    kind: 'enterTransmission',
    exportName: 'demo',
    replies: 'simple',
    allocationContextId: null,
    leftover: new Uint8Array(rest),
  });
  t.end();
});

void test('the handed-over bytes are a copy that a reused receive buffer does not change', (t) => {
  const input = Buffer.concat([encodeOption(OPT.GO, encodeInfoData('demo')), Buffer.from('x')]);
  const last = opened().receive(input).at(-1);
  input.fill(0);
  t.strictSame(last?.kind === 'enterTransmission' && last.leftover, Uint8Array.from([0x78]));
  t.end();
});

for (const [name, option] of [
  ['INFO', OPT.INFO],
  ['GO', OPT.GO],
] as const) {
  void test(`${name} of an unknown export is ERR_UNKNOWN with a text`, (t) => {
    const [reply] = replies(opened().receive(encodeOption(option, encodeInfoData('nobody'))));
    t.match(reply, { type: REP.ERR_UNKNOWN });
    t.equal(reply?.data.toString(), 'no such export');
    t.end();
  });

  void test(`${name} of an offline disk is ERR_POLICY and names the reason`, (t) => {
    const [reply] = replies(opened().receive(encodeOption(option, encodeInfoData('gone'))));
    t.match(reply, { type: REP.ERR_POLICY });
    t.match(reply?.data.toString(), /offline: key-disabled/);
    t.end();
  });

  void test(`${name} of the default export is the only one there is`, (t) => {
    const negotiation = opened({ exports: directoryOf(ARCHIVE) });
    const actions = negotiation.receive(encodeOption(option, encodeInfoData('', [INFO_ID.NAME])));
    t.equal(replies(actions)[1]?.data.toString('utf8', 2), 'archive');
    t.end();
  });

  for (const exports of [directoryOf(), BOTH]) {
    const count = exports.list().length;
    void test(`${name} of the default export among ${count} is ERR_UNKNOWN`, (t) => {
      const negotiation = opened({ exports });
      const [reply] = replies(negotiation.receive(encodeOption(option, encodeInfoData(''))));
      t.match(reply, { type: REP.ERR_UNKNOWN });
      t.match(
        reply?.data.toString(),
        new RegExp(`${count} exports are served, expected exactly 1`),
      );
      t.end();
    });
  }

  void test(`${name} compares names exactly`, (t) => {
    for (const wrong of ['dem', 'demo2', 'DEMO', 'demo ', '/demo', '../demo']) {
      const [reply] = replies(opened().receive(encodeOption(option, encodeInfoData(wrong))));
      t.equal(reply?.type, REP.ERR_UNKNOWN, wrong);
    }
    t.end();
  });
}

void test('STRUCTURED_REPLY is acknowledged, also a second time, and reaches transmission', (t) => {
  const negotiation = opened();
  t.strictSame(outcome(negotiation.receive(encodeOption(OPT.STRUCTURED_REPLY))), [REP.ACK]);
  t.strictSame(outcome(negotiation.receive(encodeOption(OPT.STRUCTURED_REPLY))), [REP.ACK]);
  const actions = negotiation.receive(encodeOption(OPT.GO, encodeInfoData('demo')));
  t.match(actions.at(-1), { replies: 'structured' });
  t.end();
});

void test('a refused STRUCTURED_REPLY agrees on nothing', (t) => {
  const negotiation = opened();
  negotiation.receive(encodeOption(OPT.STRUCTURED_REPLY, Buffer.alloc(1)));
  const actions = negotiation.receive(encodeOption(OPT.GO, encodeInfoData('demo')));
  t.match(actions.at(-1), { replies: 'simple' });
  t.end();
});

/** What a client agrees on before it asks for the flags of a disk. */
const AGREEMENTS = {
  nothing: [],
  structured: [encodeOption(OPT.STRUCTURED_REPLY)],
  extended: [encodeOption(OPT.EXTENDED_HEADERS)],
} as const;

const F = EXPORT_FLAG;
const ALWAYS = F.HAS_FLAGS | F.SEND_FLUSH | F.SEND_FUA | F.CAN_MULTI_CONN | F.SEND_CACHE;
const DEMO_FLAGS = ALWAYS | F.SEND_TRIM | F.SEND_WRITE_ZEROES | F.SEND_FAST_ZERO;
const ARCHIVE_FLAGS = ALWAYS | F.READ_ONLY | F.ROTATIONAL;

for (const [name, agreed, expected] of [
  ['demo', 'nothing', DEMO_FLAGS],
  ['demo', 'structured', DEMO_FLAGS | F.SEND_DF],
  ['demo', 'extended', DEMO_FLAGS | F.SEND_DF],
  ['archive', 'nothing', ARCHIVE_FLAGS],
  ['archive', 'structured', ARCHIVE_FLAGS | F.SEND_DF],
  ['archive', 'extended', ARCHIVE_FLAGS | F.SEND_DF],
] as const) {
  for (const option of [OPT.INFO, OPT.GO]) {
    void test(`option ${option}: transmission flags of ${name}, agreed ${agreed}`, (t) => {
      const negotiation = opened();
      for (const earlier of AGREEMENTS[agreed]) negotiation.receive(earlier);
      const [item] = replies(negotiation.receive(encodeOption(option, encodeInfoData(name))));
      t.equal(item?.data.readUInt16BE(10).toString(2), expected.toString(2));
      t.end();
    });
  }
}

for (const [clientFlags, length] of [
  [0, 134],
  [1, 134],
  [2, 10],
  [3, 10],
] as const) {
  void test(`EXPORT_NAME under client flags ${clientFlags} is answered with ${length} bytes`, (t) => {
    const negotiation = opened({ flags: clientFlags });
    const actions = negotiation.receive(encodeOption(OPT.EXPORT_NAME, Buffer.from('demo')));
    const reply = sent(actions);
    t.equal(reply.length, length);
    t.equal(reply.readBigUInt64BE(0), 2n ** 30n);
    t.equal(reply.readUInt16BE(8), DEMO_FLAGS);
    t.ok(reply.subarray(10).every((byte) => byte === 0));
    t.match(actions.at(-1), { kind: 'enterTransmission', exportName: 'demo' });
    t.end();
  });
}

void test('EXPORT_NAME of the default export enters with the name of the disk', (t) => {
  const negotiation = opened({ exports: directoryOf(DEMO) });
  const actions = negotiation.receive(encodeOption(OPT.EXPORT_NAME));
  t.match(actions.at(-1), { kind: 'enterTransmission', exportName: 'demo' });
  t.end();
});

for (const [name, detail] of [
  ['nobody', /no such export/],
  ['gone', /key-disabled/],
  ['', /no default export/],
] as const) {
  void test(`EXPORT_NAME of "${name}" closes without a byte`, (t) => {
    const actions = opened().receive(encodeOption(OPT.EXPORT_NAME, Buffer.from(name)));
    t.match(actions, [{ kind: 'close', reason: 'export-refused', detail }]);
    t.equal(actions.length, 1);
    t.end();
  });
}

void test('a client without FIXED_NEWSTYLE may use no other option', (t) => {
  for (const option of [...Object.values(OPT), 99].filter((other) => other !== OPT.EXPORT_NAME)) {
    const actions = opened({ flags: 0 }).receive(encodeOption(option));
    t.strictSame(outcome(actions), ['close']);
    t.match(actions[0], { reason: 'option-before-fixed-newstyle' });
  }
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import type { Action, Negotiation } from '../../src/nbd/negotiation.js';
import {
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  encodeUint32,
  EXPORT_FLAG,
  OPT,
  parseMetaContext,
  REP,
} from '../support/nbd-wire.js';
import { ARCHIVE, BOTH, DEMO, directoryOf, opened, outcome, replies } from './fixture.js';

/* Metadata contexts and extended headers: reference sections 1.3, 1.9 and 1.13. */

const STRUCTURED = encodeOption(OPT.STRUCTURED_REPLY);
const EXTENDED = encodeOption(OPT.EXTENDED_HEADERS);
const ALLOCATION = 'base:allocation';

const list = (name: string, ...queries: string[]): Buffer =>
  encodeOption(OPT.LIST_META_CONTEXT, encodeMetaContextData(name, queries));
const set = (name: string, ...queries: string[]): Buffer =>
  encodeOption(OPT.SET_META_CONTEXT, encodeMetaContextData(name, queries));
const go = (name: string): Buffer => encodeOption(OPT.GO, encodeInfoData(name));

/** A negotiation that has received these options. */
function after(...options: Buffer[]): Negotiation {
  const negotiation = opened();
  for (const option of options) negotiation.receive(option);
  return negotiation;
}

/** The contexts that are named in the answer. */
function contexts(actions: readonly Action[]): { id: number; name: string }[] {
  const all = replies(actions);
  if (all.at(-1)?.type !== REP.ACK) throw new Error('the option was refused');
  return all.slice(0, -1).map(({ data }) => parseMetaContext(data));
}

const LISTED: readonly [string, string[], boolean][] = [
  ['no query', [], true],
  ['base:', ['base:'], true],
  ['base:allocation', [ALLOCATION], true],
  ['both, twice', ['base:', ALLOCATION, 'base:', ALLOCATION], true],
  ['an unknown namespace', ['qemu:dirty-bitmap:x'], false],
  ['an unknown and a known one', ['x-none:', ALLOCATION], true],
  ['an unknown leaf', ['base:nothing'], false],
  ['a prefix', ['base:alloc'], false],
  ['a longer leaf', ['base:allocation2'], false],
  ['a leaf with a zero byte', ['base:allocation\0'], false],
  ['another case', ['Base:Allocation'], false],
  ['no colon', ['base'], false],
  ['an empty query', [''], false],
];

for (const [what, queries, found] of LISTED) {
  void test(`LIST_META_CONTEXT of ${what} lists ${found ? 'base:allocation' : 'nothing'}`, (t) => {
    const actions = after(STRUCTURED).receive(list('demo', ...queries));
    t.strictSame(contexts(actions), found ? [{ id: 0, name: ALLOCATION }] : []);
    t.end();
  });
}

for (const [what, queries, found] of LISTED) {
  const selects = found && queries.includes(ALLOCATION);
  const selected = selects ? ALLOCATION : 'nothing';
  void test(`SET_META_CONTEXT of ${what} selects ${selected}`, (t) => {
    const negotiation = after(STRUCTURED);
    const actions = negotiation.receive(set('demo', ...queries));
    t.strictSame(contexts(actions), selects ? [{ id: 1, name: ALLOCATION }] : []);
    const end = negotiation.receive(go('demo')).at(-1);
    t.match(end, { allocationContextId: selects ? 1 : null });
    t.end();
  });
}

for (const [name, option] of [
  ['LIST_META_CONTEXT', OPT.LIST_META_CONTEXT],
  ['SET_META_CONTEXT', OPT.SET_META_CONTEXT],
] as const) {
  const data = encodeMetaContextData('demo', [ALLOCATION]);

  void test(`${name} before structured or extended headers is ERR_INVALID and says why`, (t) => {
    const [reply] = replies(after().receive(encodeOption(option, data)));
    t.equal(reply?.type, REP.ERR_INVALID);
    t.match(reply?.data.toString(), /needs STRUCTURED_REPLY or EXTENDED_HEADERS before it/);
    t.end();
  });

  void test(`${name} after extended headers alone works`, (t) => {
    const actions = after(EXTENDED).receive(encodeOption(option, data));
    t.equal(contexts(actions).length, 1);
    t.end();
  });

  for (const [wanted, type, text] of [
    ['nobody', REP.ERR_UNKNOWN, /no such export/],
    ['gone', REP.ERR_POLICY, /key-disabled/],
    ['', REP.ERR_UNKNOWN, /no default export/],
  ] as const) {
    void test(`${name} for "${wanted}" is refused with a text`, (t) => {
      const bytes = encodeOption(option, encodeMetaContextData(wanted, [ALLOCATION]));
      const [reply] = replies(after(STRUCTURED).receive(bytes));
      t.equal(reply?.type, type);
      t.match(reply?.data.toString(), text);
      t.end();
    });
  }

  void test(`${name} in clear where TLS is allowed never answers ERR_TLS_REQD`, (t) => {
    const negotiation = opened({ tls: 'allow' });
    negotiation.receive(STRUCTURED);
    const bytes = encodeOption(option, encodeMetaContextData('nobody', []));
    t.strictSame(outcome(negotiation.receive(bytes)), [REP.ERR_UNKNOWN]);
    t.end();
  });

  void test(`${name} with 64 queries works, with 65 it is ERR_TOO_BIG`, (t) => {
    const queries = (count: number): Buffer =>
      encodeOption(
        option,
        encodeMetaContextData(
          'demo',
          Array.from({ length: count }, (_, index) => `x-${index}:`),
        ),
      );
    t.strictSame(outcome(after(STRUCTURED).receive(queries(64))), [REP.ACK]);
    const [reply] = replies(after(STRUCTURED).receive(queries(65)));
    t.equal(reply?.type, REP.ERR_TOO_BIG);
    t.match(reply?.data.toString(), /number of queries is 65, expected at most 64/);
    t.end();
  });

  const name4 = Buffer.concat([encodeUint32(4), Buffer.from('demo')]);
  const lies: readonly [string, Buffer[], number, RegExp][] = [
    ['no data', [], REP.ERR_INVALID, /has 0 bytes of data, expected at least 8/],
    ['7 bytes', [Buffer.alloc(7)], REP.ERR_INVALID, /has 7 bytes/],
    [
      'name length 2^32-1',
      [encodeUint32(0xffffffff), Buffer.alloc(8)],
      REP.ERR_INVALID,
      /4294967295, room is for 4/,
    ],
    [
      'name length 2^31',
      [encodeUint32(0x80000000), Buffer.alloc(8)],
      REP.ERR_INVALID,
      /2147483648, room/,
    ],
    [
      'a name one byte too long',
      [encodeUint32(5), Buffer.from('demo'), encodeUint32(0)],
      REP.ERR_INVALID,
      /is 5, room is for 4/,
    ],
    [
      '2^32-1 queries',
      [name4, encodeUint32(0xffffffff)],
      REP.ERR_INVALID,
      /4294967295, room is for 0/,
    ],
    [
      '2^30 queries',
      [name4, encodeUint32(0x40000000)],
      REP.ERR_INVALID,
      /1073741824, room is for 0/,
    ],
    [
      'a query of 2^32-1 bytes',
      [name4, encodeUint32(1), encodeUint32(0xffffffff)],
      REP.ERR_INVALID,
      /query 1 is 4294967295, room is for 0/,
    ],
    [
      'a query one byte too long',
      [name4, encodeUint32(1), encodeUint32(6), Buffer.from('base:')],
      REP.ERR_INVALID,
      /query 1 is 6, room is for 5/,
    ],
    [
      'a query one byte too short',
      [name4, encodeUint32(1), encodeUint32(4), Buffer.from('base:')],
      REP.ERR_INVALID,
      /has 21 bytes of data, expected 20/,
    ],
    [
      'a query too few',
      [name4, encodeUint32(2), encodeUint32(5), Buffer.from('base:')],
      REP.ERR_INVALID,
      /ends before query 2 of 2/,
    ],
    [
      'a query too many',
      [name4, encodeUint32(0), encodeUint32(5), Buffer.from('base:')],
      REP.ERR_INVALID,
      /for 0 queries/,
    ],
    [
      'a trailing byte',
      [name4, encodeUint32(0), Buffer.alloc(1)],
      REP.ERR_INVALID,
      /for 0 queries/,
    ],
    [
      'a name with a zero byte',
      [encodeMetaContextData('de\0mo', [])],
      REP.ERR_INVALID,
      /"de\?mo" is not UTF-8/,
    ],
    [
      'a name of 4097 bytes',
      [encodeMetaContextData('x'.repeat(4097), [])],
      REP.ERR_TOO_BIG,
      /is 4097, expected at most 4096/,
    ],
    [
      'a query of 4097 bytes',
      [encodeMetaContextData('demo', ['x'.repeat(4097)])],
      REP.ERR_TOO_BIG,
      /is 4097, expected at most 4096/,
    ],
  ];
  for (const [what, parts, type, text] of lies) {
    void test(`${name} with ${what} is refused and negotiation goes on`, (t) => {
      const negotiation = after(STRUCTURED);
      const [reply] = replies(negotiation.receive(encodeOption(option, Buffer.concat(parts))));
      t.equal(reply?.type, type);
      t.match(reply?.data.toString(), text);
      t.strictSame(outcome(negotiation.receive(STRUCTURED)), [REP.ACK]);
      t.end();
    });
  }
}

/** Every way in which SET_META_CONTEXT may select nothing after it selected something. */
const FORGETTING: readonly [string, Buffer][] = [
  ['none', set('demo')],
  ['an unknown one', set('demo', 'qemu:allocation-depth')],
  ['the same for another export', set('archive', ALLOCATION)],
  ['the same for an unknown export', set('nobody', ALLOCATION)],
  ['the same with a lying length', encodeOption(OPT.SET_META_CONTEXT, Buffer.alloc(8, 0xff))],
  ['the same without data', encodeOption(OPT.SET_META_CONTEXT)],
  ['the same with too much data', encodeOption(OPT.SET_META_CONTEXT, Buffer.alloc(8193))],
];

for (const [what, option] of FORGETTING) {
  void test(`a SET_META_CONTEXT of ${what} replaces what was selected`, (t) => {
    const negotiation = after(STRUCTURED, set('demo', ALLOCATION), option);
    t.match(negotiation.receive(go('demo')).at(-1), { allocationContextId: null });
    t.end();
  });
}

for (const [what, option] of [
  ['LIST_META_CONTEXT', list('demo')],
  ['INFO of another export', encodeOption(OPT.INFO, encodeInfoData('archive'))],
  ['a refused GO', go('nobody')],
  ['EXTENDED_HEADERS', EXTENDED],
  ['an unknown option', encodeOption(99)],
] as const) {
  void test(`${what} leaves what was selected`, (t) => {
    const negotiation = after(STRUCTURED, set('demo', ALLOCATION), option);
    t.match(negotiation.receive(go('demo')).at(-1), { allocationContextId: 1 });
    t.end();
  });
}

void test('a context selected by the default name counts for the disk that it meant', (t) => {
  const negotiation = opened({ exports: directoryOf(DEMO) });
  negotiation.receive(STRUCTURED);
  negotiation.receive(set('', ALLOCATION));
  t.match(negotiation.receive(go('demo')).at(-1), { allocationContextId: 1 });
  t.end();
});

void test('a default name that means another disk by then has no context', (t) => {
  const disks = [DEMO];
  const negotiation = opened({ exports: { ...BOTH, list: () => disks } });
  negotiation.receive(STRUCTURED);
  negotiation.receive(set('', ALLOCATION));
  disks[0] = ARCHIVE;
  t.match(negotiation.receive(go('')).at(-1), { exportName: 'archive', allocationContextId: null });
  t.end();
});

void test('EXPORT_NAME takes the context along', (t) => {
  const negotiation = after(STRUCTURED, set('demo', ALLOCATION));
  const actions = negotiation.receive(encodeOption(OPT.EXPORT_NAME, Buffer.from('demo')));
  t.match(actions.at(-1), { replies: 'structured', allocationContextId: 1 });
  t.end();
});

void test('the default export may be asked for 16 times', (t) => {
  const negotiation = opened({ exports: directoryOf(DEMO) });
  const info = encodeOption(OPT.INFO, encodeInfoData(''));
  for (let count = 1; count <= 16; count += 1) {
    t.strictSame(outcome(negotiation.receive(info)), [REP.INFO, REP.ACK]);
  }
  const [reply] = replies(negotiation.receive(info));
  t.match(reply?.data.toString(), /asked for 17 times, allowed are 16/);
  t.equal(negotiation.receive(go('demo')).at(-1)?.kind, 'enterTransmission');
  t.end();
});

for (const [what, options, kind] of [
  ['EXTENDED_HEADERS alone', [EXTENDED], 'extended'],
  ['EXTENDED_HEADERS twice', [EXTENDED, EXTENDED], 'extended'],
  ['EXTENDED_HEADERS after STRUCTURED_REPLY', [STRUCTURED, EXTENDED], 'extended'],
  ['EXTENDED_HEADERS with data', [encodeOption(OPT.EXTENDED_HEADERS, Buffer.alloc(1))], 'simple'],
] as const) {
  void test(`${what} leads to ${kind} replies`, (t) => {
    t.match(
      after(...options)
        .receive(go('demo'))
        .at(-1),
      { replies: kind },
    );
    t.end();
  });
}

void test('STRUCTURED_REPLY after EXTENDED_HEADERS is ERR_EXT_HEADER_REQD, and nothing changes', (t) => {
  const negotiation = after(EXTENDED);
  t.strictSame(outcome(negotiation.receive(STRUCTURED)), [REP.ERR_EXT_HEADER_REQD]);
  t.match(negotiation.receive(go('demo')).at(-1), { replies: 'extended' });
  t.end();
});

void test('EXPORT_NAME after EXTENDED_HEADERS closes', (t) => {
  const actions = after(EXTENDED).receive(encodeOption(OPT.EXPORT_NAME, Buffer.from('demo')));
  t.match(actions, [{ kind: 'close', reason: 'export-name-after-extended-headers' }]);
  t.end();
});

for (const [what, options, advertised] of [
  ['extended headers and a context', [EXTENDED, set('demo', ALLOCATION)], true],
  ['extended headers without a context', [EXTENDED], false],
  ['extended headers and another disk', [EXTENDED, set('archive', ALLOCATION)], false],
  ['structured replies and a context', [STRUCTURED, set('demo', ALLOCATION)], false],
] as const) {
  void test(`${what}: BLOCK_STATUS_PAYLOAD is ${advertised ? '' : 'not '}advertised`, (t) => {
    const [item] = replies(after(...options).receive(go('demo')));
    const flags = item?.data.readUInt16BE(10) ?? 0;
    t.equal((flags & EXPORT_FLAG.BLOCK_STATUS_PAYLOAD) !== 0, advertised);
    t.end();
  });
}

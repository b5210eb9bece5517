// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { test } from 'tap';
import { DEFAULT_LIMITS } from '../../src/nbd/limits.js';
import { type Action, createNegotiation, type TlsMode } from '../../src/nbd/negotiation.js';
import {
  encodeClientFlags,
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  OPT,
} from '../support/nbd-wire.js';
import { BOTH, feed, opened, outcome, replies, sent } from './fixture.js';

/* Random and hostile bytes, in random splits, in every TLS mode. */

/** Each property is tried for this long, and by count at most as given. */
const PROPERTY_TIME_MS = 4000;

/** The longest answer to one option that the exports of these tests give. */
const ANSWER_BYTES_MAX = 600;

const MODES = ['off', 'allow', 'require'] as const;

const samples = [
  encodeOption(OPT.EXPORT_NAME, Buffer.from('demo')),
  encodeOption(OPT.EXPORT_NAME, Buffer.from('nobody')),
  encodeOption(OPT.ABORT),
  encodeOption(OPT.LIST),
  encodeOption(OPT.PEEK_EXPORT),
  encodeOption(OPT.INFO, encodeInfoData('demo', [1, 2, 3])),
  encodeOption(OPT.INFO, encodeInfoData('gone')),
  encodeOption(OPT.GO, encodeInfoData('demo', [3])),
  encodeOption(OPT.GO, encodeInfoData('nobody')),
  encodeOption(OPT.GO, Buffer.alloc(9000)),
  encodeOption(OPT.STRUCTURED_REPLY),
  encodeOption(OPT.LIST_META_CONTEXT, encodeMetaContextData('demo', [])),
  encodeOption(OPT.SET_META_CONTEXT, encodeMetaContextData('demo', ['base:allocation'])),
  encodeOption(OPT.SET_META_CONTEXT, Buffer.alloc(12)),
  encodeOption(OPT.EXTENDED_HEADERS),
  encodeOption(4242, Buffer.alloc(20)),
];

const STARTTLS = encodeOption(OPT.STARTTLS);
const mode = fc.constantFrom(...MODES);
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 10 });
const options = fc.array(fc.constantFrom(...samples), { maxLength: 6 });

/** What a client sends: in clear, and, where there is TLS, after it. */
const session = fc.record({
  tls: mode,
  clear: fc
    .tuple(fc.constantFrom(0, 1, 2, 3, 7), options)
    .map(([flags, list]) => Buffer.concat([encodeClientFlags(flags), ...list])),
  secured: fc
    .array(fc.constantFrom(...samples, STARTTLS), { maxLength: 6 })
    .map((list) => Buffer.concat(list)),
});

type Session = typeof session extends fc.Arbitrary<infer T> ? T : never;

function ended(actions: readonly Action[]): boolean {
  const last = actions.at(-1)?.kind;
  return last === 'close' || last === 'enterTransmission';
}

/** Everything that a session sends and how it ends, fed in pieces of the given sizes. */
function run({ tls, clear, secured }: Session, pieces: readonly number[]): unknown {
  const negotiation = createNegotiation({ exports: BOTH, tls });
  negotiation.start();
  const actions = feed(negotiation, clear, pieces);
  if (!ended(actions)) {
    actions.push(...feed(negotiation, STARTTLS, pieces));
    if (actions.at(-1)?.kind === 'startTls') {
      negotiation.tlsStarted(BOTH);
      actions.push(...feed(negotiation, secured, pieces));
    }
  }
  const last = actions.at(-1);
  return { sent: sent(actions), last: last?.kind === 'send' ? undefined : last };
}

void test('input in any split gives the same actions', (t) => {
  fc.assert(
    fc.property(session, sizes, (input, pieces) => {
      const whole = run(input, [2 ** 20]);
      return [pieces, [1]].every((split) => isDeepStrictEqual(run(input, split), whole));
    }),
    { numRuns: 400, interruptAfterTimeLimit: PROPERTY_TIME_MS },
  );
  t.pass('the property holds');
  t.end();
});

/** Options with hostile heads and data, mixed with good ones. */
const hostileOption = fc.oneof(
  fc.constantFrom(...samples, STARTTLS),
  fc
    .tuple(
      fc.oneof(fc.integer({ min: 0, max: 12 }), fc.nat(0x7fffffff)),
      fc.uint8Array({ maxLength: 64 }),
      fc.option(fc.nat(0xffff), { nil: undefined }),
    )
    .map(([option, data, length]) => encodeOption(option, Buffer.from(data), length)),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
);

void test('hostile bytes never throw, and every answer is well-formed and of bounded size', (t) => {
  const hostile = fc.array(hostileOption, { maxLength: 12 });
  fc.assert(
    fc.property(mode, hostile, fc.nat(3), sizes, (tls, list, flags, pieces) => {
      const negotiation = createNegotiation({ exports: BOTH, tls });
      negotiation.start();
      const actions = feed(negotiation, encodeClientFlags(flags), [4]);
      for (const option of list) {
        if (ended(actions)) break;
        const step = feed(negotiation, option, pieces);
        if (step.at(-1)?.kind === 'startTls') negotiation.tlsStarted(BOTH);
        outcome(step);
        // A hostile payload may hide several options: each is at least 16 bytes.
        const optionsMax = 2 + Math.floor(option.length / 16);
        if (sent(step).length > optionsMax * ANSWER_BYTES_MAX) return false;
        actions.push(...step);
      }
      return true;
    }),
    { numRuns: 3000, interruptAfterTimeLimit: PROPERTY_TIME_MS },
  );
  t.pass('the property holds');
  t.end();
});

/** Options whose heads tell the truth, with any number and any data. */
const framedOption = fc
  .tuple(
    fc.oneof(fc.integer({ min: 0, max: 14 }), fc.nat(0xffff)),
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.constantFrom(...samples.map((sample) => sample.subarray(16))),
      fc.integer({ min: 8000, max: 65_536 }).map((length) => Buffer.alloc(length)),
    ),
  )
  .map(([option, data]) => ({ option, bytes: encodeOption(option, Buffer.from(data)) }));

/** Ends an option: ACK, or an error. */
function isFinal(type: number): boolean {
  return type === 1 || type >= 0x80000000;
}

void test('options with any data are answered one by one, each with its own number', (t) => {
  fc.assert(
    fc.property(mode, fc.array(framedOption, { maxLength: 12 }), (tls, list) => {
      const negotiation = opened({ tls });
      for (const { option, bytes } of list) {
        const actions = negotiation.receive(bytes);
        const last = actions.at(-1);
        if (last?.kind === 'startTls') negotiation.tlsStarted(BOTH);
        if (ended(actions)) return true;
        const all = replies(actions);
        const finals = all.filter(({ type }) => isFinal(type));
        if (finals.length !== 1 || all.at(-1) !== finals[0]) return false;
        if (all.some((reply) => reply.option !== option)) return false;
      }
      return true;
    }),
    { numRuns: 2000, interruptAfterTimeLimit: PROPERTY_TIME_MS },
  );
  t.pass('the property holds');
  t.end();
});

void test('no sequence of options goes on for longer than the budget', (t) => {
  const max = DEFAULT_LIMITS.optionsMax + 3 * BOTH.list().length;
  fc.assert(
    fc.property(mode, fc.array(fc.constantFrom(...samples), { minLength: 1 }), (tls, list) => {
      const negotiation = opened({ tls });
      for (let count = 1; count <= max + 1; count += 1) {
        const option = list[count % list.length] ?? STARTTLS;
        if (ended(negotiation.receive(option))) return true;
      }
      return false;
    }),
    { numRuns: 500, interruptAfterTimeLimit: PROPERTY_TIME_MS },
  );
  t.pass('the property holds');
  t.end();
});

/** A whole negotiation with every kind of option, and GO. */
function script(tls: TlsMode): { clear: Buffer; secured: Buffer } {
  const all = [
    encodeOption(OPT.LIST),
    encodeOption(99, Buffer.alloc(7)),
    encodeOption(OPT.STRUCTURED_REPLY),
    encodeOption(OPT.SET_META_CONTEXT, encodeMetaContextData('demo', ['base:allocation'])),
    encodeOption(OPT.EXTENDED_HEADERS),
    encodeOption(OPT.INFO, encodeInfoData('demo', [1, 2, 3])),
    encodeOption(OPT.GO, encodeInfoData('demo')),
  ];
  const flags = encodeClientFlags(3);
  if (tls === 'off') return { clear: Buffer.concat([flags, ...all]), secured: Buffer.alloc(0) };
  return { clear: Buffer.concat([flags, STARTTLS]), secured: Buffer.concat(all) };
}

for (const tls of MODES) {
  void test(`TLS ${tls}: a client may stop after any byte, and only the last one ends it`, (t) => {
    const { clear, secured } = script(tls);
    const negotiation = createNegotiation({ exports: BOTH, tls });
    negotiation.start();
    const endings: string[] = [];
    const bytes = Buffer.concat([clear, secured]);
    for (const [index, byte] of bytes.entries()) {
      const last = negotiation.receive(Uint8Array.of(byte)).at(-1)?.kind;
      if (last === 'startTls') negotiation.tlsStarted(BOTH);
      if (last !== undefined && last !== 'send') endings.push(`${last} at ${index + 1}`);
    }
    const expected = [`enterTransmission at ${bytes.length}`];
    if (tls !== 'off') expected.unshift(`startTls at ${clear.length}`);
    t.strictSame(endings, expected);
    t.end();
  });
}

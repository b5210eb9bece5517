// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import type { ExportDirectory } from '../../src/nbd/exports.js';
import { encodeInfoData, encodeOption, OPT, REP } from '../support/nbd-wire.js';
import { ARCHIVE, BOTH, DEMO, directoryOf, opened, outcome, replies } from './fixture.js';

/* Row by row through reference section 1.10, and what CVE-2021-3716 is about. */

const STARTTLS = encodeOption(OPT.STARTTLS);

/** In clear only `archive` is there; `demo` is for peers with TLS. */
const IN_CLEAR = directoryOf(ARCHIVE);

/** Mode `require` has no reason to ask what there is before TLS. */
const UNTOUCHED: ExportDirectory = {
  list: () => {
    throw new Error('LIST before TLS');
  },
  find: (name) => {
    throw new Error(`find ${name} before TLS`);
  },
};

function inClear(mode: 'allow' | 'require', flags = 3) {
  return opened({ tls: mode, flags, exports: mode === 'require' ? UNTOUCHED : IN_CLEAR });
}

/** After STARTTLS, the handshake, and whatever was sent before. */
function secured(mode: 'allow' | 'require', ...before: Buffer[]) {
  const negotiation = inClear(mode);
  for (const option of before) negotiation.receive(option);
  negotiation.receive(STARTTLS);
  negotiation.tlsStarted(BOTH);
  return negotiation;
}

const info = (name: string): Buffer => encodeOption(OPT.INFO, encodeInfoData(name));
const go = (name: string): Buffer => encodeOption(OPT.GO, encodeInfoData(name));
const exportName = (name: string): Buffer => encodeOption(OPT.EXPORT_NAME, Buffer.from(name));

for (const mode of ['allow', 'require'] as const) {
  void test(`${mode}: STARTTLS is acknowledged, then TLS starts`, (t) => {
    t.strictSame(outcome(inClear(mode).receive(STARTTLS)), [REP.ACK, 'startTls']);
    t.end();
  });

  void test(`${mode}: STARTTLS after TLS is ERR_INVALID and negotiation goes on`, (t) => {
    const negotiation = secured(mode);
    t.strictSame(outcome(negotiation.receive(STARTTLS)), [REP.ERR_INVALID]);
    t.strictSame(outcome(negotiation.receive(info('demo'))), [REP.INFO, REP.ACK]);
    t.end();
  });

  void test(`${mode}: STARTTLS with data is ERR_INVALID and starts nothing`, (t) => {
    const negotiation = inClear(mode);
    const actions = negotiation.receive(encodeOption(OPT.STARTTLS, Buffer.alloc(1)));
    t.strictSame(outcome(actions), [REP.ERR_INVALID]);
    t.throws(() => negotiation.tlsStarted(BOTH), { message: /state negotiating/ });
    t.strictSame(outcome(negotiation.receive(STARTTLS)), [REP.ACK, 'startTls']);
    t.end();
  });

  void test(`${mode}: bytes in the same segment as STARTTLS end the connection without an ACK`, (t) => {
    for (const rest of [Buffer.alloc(1), go('demo'), Buffer.alloc(70_000)]) {
      const actions = inClear(mode).receive(Buffer.concat([STARTTLS, rest]));
      t.match(actions, [{ kind: 'close', reason: 'bytes-before-tls' }]);
    }
    t.end();
  });

  void test(`${mode}: options before STARTTLS in one segment are answered, and TLS starts`, (t) => {
    const before = encodeOption(99);
    const types = outcome(inClear(mode).receive(Buffer.concat([before, STARTTLS])));
    t.strictSame(types.slice(1), [REP.ACK, 'startTls']);
    t.end();
  });

  void test(`${mode}: bytes while TLS starts are a programmer error`, (t) => {
    const negotiation = inClear(mode);
    negotiation.receive(STARTTLS);
    t.throws(() => negotiation.receive(Buffer.alloc(1)), { message: /in state starting-tls/ });
    t.end();
  });

  void test(`${mode}: TLS starts once`, (t) => {
    const negotiation = secured(mode);
    t.throws(() => negotiation.tlsStarted(BOTH), { message: /state negotiating/ });
    t.end();
  });

  void test(`${mode}: after TLS nothing is ERR_TLS_REQD`, (t) => {
    const negotiation = secured(mode);
    for (const option of [...Object.values(OPT), 0, 99].filter((id) => id > 2)) {
      const types = outcome(negotiation.receive(encodeOption(option)));
      t.notOk(types.includes(REP.ERR_TLS_REQD), `option ${option}: ${types.join()}`);
    }
    t.strictSame(outcome(negotiation.receive(info('nobody'))), [REP.ERR_UNKNOWN]);
    t.strictSame(outcome(negotiation.receive(info('gone'))), [REP.ERR_POLICY]);
    t.end();
  });

  void test(`${mode}: after TLS the exports are those of the authenticated peer`, (t) => {
    const types = outcome(secured(mode).receive(encodeOption(OPT.LIST)));
    t.strictSame(types, [REP.SERVER, REP.SERVER, REP.ACK]);
    t.strictSame(outcome(secured(mode).receive(exportName('demo'))), [
      'export',
      'enterTransmission',
    ]);
    t.end();
  });

  void test(`${mode}: structured replies agreed on in clear are forgotten`, (t) => {
    const actions = secured(mode, encodeOption(OPT.STRUCTURED_REPLY)).receive(go('demo'));
    t.match(actions.at(-1), { kind: 'enterTransmission', replies: 'simple' });
    t.end();
  });

  void test(`${mode}: options counted in clear are forgotten`, (t) => {
    const before = Array.from({ length: 60 }, () => encodeOption(99));
    const negotiation = secured(mode, ...before);
    for (let count = 1; count <= 64; count += 1) {
      t.strictSame(outcome(negotiation.receive(encodeOption(99))), [REP.ERR_UNSUP]);
    }
    t.strictSame(outcome(negotiation.receive(encodeOption(99))), ['close']);
    t.end();
  });

  void test(`${mode}: a client without FIXED_NEWSTYLE cannot start TLS`, (t) => {
    t.match(inClear(mode, 0).receive(STARTTLS), [{ reason: 'option-before-fixed-newstyle' }]);
    t.end();
  });

  void test(`${mode}: ABORT before TLS is acknowledged`, (t) => {
    t.strictSame(outcome(inClear(mode).receive(encodeOption(OPT.ABORT))), [REP.ACK, 'close']);
    t.end();
  });
}

for (const option of [...Object.values(OPT), 0, 12, 99, 0xffffffff]) {
  if ([OPT.EXPORT_NAME, OPT.ABORT, OPT.STARTTLS].some((allowed) => allowed === option)) continue;
  for (const data of [0, 1, 8192, 8193, 65_536]) {
    void test(`require: option ${option} with ${data} bytes before TLS is ERR_TLS_REQD`, (t) => {
      const negotiation = inClear('require');
      const bytes = encodeOption(option, Buffer.alloc(data));
      const [reply, ...more] = replies(negotiation.receive(bytes));
      t.match(reply, { option, type: REP.ERR_TLS_REQD });
      t.match(reply?.data.toString(), /requires TLS/);
      t.strictSame(more, []);
      t.strictSame(outcome(negotiation.receive(STARTTLS)), [REP.ACK, 'startTls']);
      t.end();
    });
  }
}

void test('require: ERR_TLS_REQD comes once the whole option has come', (t) => {
  const negotiation = inClear('require');
  const bytes = go('demo');
  t.strictSame(negotiation.receive(bytes.subarray(0, -1)), []);
  t.strictSame(outcome(negotiation.receive(bytes.subarray(-1))), [REP.ERR_TLS_REQD]);
  t.end();
});

for (const flags of [0, 1, 2, 3]) {
  void test(`require: EXPORT_NAME before TLS closes under client flags ${flags}`, (t) => {
    const actions = inClear('require', flags).receive(exportName('demo'));
    t.match(actions, [{ kind: 'close', reason: 'tls-required' }]);
    t.end();
  });
}

void test('allow: exports in clear are served without a word of TLS', (t) => {
  const negotiation = inClear('allow');
  t.strictSame(outcome(negotiation.receive(info('archive'))), [REP.INFO, REP.ACK]);
  t.strictSame(outcome(negotiation.receive(go('archive'))), [
    REP.INFO,
    REP.ACK,
    'enterTransmission',
  ]);
  t.end();
});

for (const [name, id] of [
  ['INFO', OPT.INFO],
  ['GO', OPT.GO],
] as const) {
  void test(`allow: ${name} in clear tells no TLS-only export from one that is not there`, (t) => {
    const texts = ['demo', 'nobody'].map((wanted) => {
      const [reply] = replies(inClear('allow').receive(encodeOption(id, encodeInfoData(wanted))));
      t.equal(reply?.type, REP.ERR_TLS_REQD, wanted);
      return reply?.data.toString();
    });
    t.equal(texts[0], texts[1]);
    t.match(texts[0], /no such export/);
    t.end();
  });

  void test(`allow: ${name} in clear of an offline disk is ERR_POLICY`, (t) => {
    const actions = inClear('allow').receive(encodeOption(id, encodeInfoData('gone')));
    t.strictSame(outcome(actions), [REP.ERR_POLICY]);
    t.end();
  });
}

void test('allow: LIST in clear leaves out what needs TLS', (t) => {
  const actions = inClear('allow').receive(encodeOption(OPT.LIST));
  t.strictSame(outcome(actions), [REP.SERVER, REP.ACK]);
  t.end();
});

void test('allow: EXPORT_NAME in clear of a TLS-only export closes', (t) => {
  t.match(inClear('allow').receive(exportName(DEMO.name)), [{ reason: 'export-refused' }]);
  t.end();
});

void test('allow: a client without FIXED_NEWSTYLE is served in clear', (t) => {
  const actions = inClear('allow', 0).receive(exportName('archive'));
  t.strictSame(outcome(actions), ['export', 'enterTransmission']);
  t.end();
});

void test('off: nothing is ever ERR_TLS_REQD', (t) => {
  const negotiation = opened();
  for (const option of [...Object.values(OPT), 0, 99].filter((id) => id > 2)) {
    const types = outcome(negotiation.receive(encodeOption(option)));
    t.notOk(types.includes(REP.ERR_TLS_REQD), `option ${option}: ${types.join()}`);
  }
  t.strictSame(outcome(negotiation.receive(info('nobody'))), [REP.ERR_UNKNOWN]);
  t.end();
});

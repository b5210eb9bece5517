// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import type { Action, Negotiation } from '../../src/nbd/negotiation.js';
import {
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  OPT,
  REP,
} from '../support/nbd-wire.js';
import { BOTH, opened, outcome } from './fixture.js';

/*
 * Every pair and triple of options, in every TLS mode, against a model written from the protocol
 * document (CVE-2019-14851 was an order of options that nobody had tried).
 */

/** What a connection has agreed on, as the protocol document has it. */
interface Model {
  tls: 'off' | 'allow' | 'require' | 'secured';
  structured: boolean;
  extended: boolean;
  selected: string | null;
}

interface Row {
  readonly bytes: Buffer;
  /** The answer without TLS, and under it. */
  readonly plain: string;
  /** In clear where TLS is allowed, if it differs. */
  readonly allow?: string;
  /** In clear where TLS is required, if it is not ERR_TLS_REQD. */
  readonly require?: string;
  readonly secured?: string;
  /** Once extended headers are agreed on, if it differs. */
  readonly extended?: string;
  /** ERR_INVALID before structured or extended headers. */
  readonly needsChunks?: true;
  /** Also called when the option was refused, but not when TLS has to come first. */
  readonly effect?: (model: Model, worked: boolean) => void;
}

const info = (name: string): Buffer => encodeInfoData(name);
const meta = (name: string, ...queries: string[]): Buffer => encodeMetaContextData(name, queries);
const base = 'base:allocation';

/** A row of SET_META_CONTEXT: whatever comes of it, what was selected before is gone. */
function set(data: Buffer, plain: string, selects: string | null = null): Row {
  const effect: Row['effect'] = (model, worked) => {
    model.selected = worked ? selects : null;
  };
  return { bytes: encodeOption(OPT.SET_META_CONTEXT, data), plain, needsChunks: true, effect };
}

function list(data: Buffer, plain: string): Row {
  return { bytes: encodeOption(OPT.LIST_META_CONTEXT, data), plain, needsChunks: true };
}

function exportName(name: string, plain: string): Row {
  const bytes = encodeOption(OPT.EXPORT_NAME, Buffer.from(name));
  return { bytes, plain, require: 'close', extended: 'close' };
}

const ROWS: Readonly<Record<string, Row>> = {
  'EXPORT_NAME demo': exportName('demo', 'export enter demo'),
  'EXPORT_NAME nobody': exportName('nobody', 'close'),
  'EXPORT_NAME gone': exportName('gone', 'close'),
  ABORT: { bytes: encodeOption(OPT.ABORT), plain: 'ACK close', require: 'ACK close' },
  'ABORT with data': {
    bytes: encodeOption(OPT.ABORT, Buffer.alloc(9)),
    plain: 'ACK close',
    require: 'ACK close',
  },
  LIST: { bytes: encodeOption(OPT.LIST), plain: 'SERVER SERVER ACK' },
  'LIST with data': { bytes: encodeOption(OPT.LIST, Buffer.alloc(4)), plain: 'ERR_INVALID' },
  PEEK_EXPORT: { bytes: encodeOption(OPT.PEEK_EXPORT), plain: 'ERR_UNSUP' },
  STARTTLS: {
    bytes: encodeOption(OPT.STARTTLS),
    plain: 'ERR_POLICY',
    allow: 'ACK startTls',
    require: 'ACK startTls',
    secured: 'ERR_INVALID',
  },
  'STARTTLS with data': {
    bytes: encodeOption(OPT.STARTTLS, Buffer.alloc(4)),
    plain: 'ERR_INVALID',
    require: 'ERR_INVALID',
  },
  'INFO demo': { bytes: encodeOption(OPT.INFO, info('demo')), plain: 'INFO ACK' },
  'INFO nobody': {
    bytes: encodeOption(OPT.INFO, info('nobody')),
    plain: 'ERR_UNKNOWN',
    allow: 'ERR_TLS_REQD',
  },
  'INFO gone': { bytes: encodeOption(OPT.INFO, info('gone')), plain: 'ERR_POLICY' },
  'INFO cut': { bytes: encodeOption(OPT.INFO, info('demo').subarray(1)), plain: 'ERR_INVALID' },
  'GO demo': { bytes: encodeOption(OPT.GO, info('demo')), plain: 'INFO ACK enter demo' },
  'GO archive': { bytes: encodeOption(OPT.GO, info('archive')), plain: 'INFO ACK enter archive' },
  'GO nobody': {
    bytes: encodeOption(OPT.GO, info('nobody')),
    plain: 'ERR_UNKNOWN',
    allow: 'ERR_TLS_REQD',
  },
  'GO of 9000 bytes': { bytes: encodeOption(OPT.GO, Buffer.alloc(9000)), plain: 'ERR_TOO_BIG' },
  STRUCTURED_REPLY: {
    bytes: encodeOption(OPT.STRUCTURED_REPLY),
    plain: 'ACK',
    extended: 'ERR_EXT_HEADER_REQD',
    effect: (model, worked) => {
      model.structured ||= worked;
    },
  },
  'STRUCTURED_REPLY with data': {
    bytes: encodeOption(OPT.STRUCTURED_REPLY, Buffer.alloc(1)),
    plain: 'ERR_INVALID',
  },
  EXTENDED_HEADERS: {
    bytes: encodeOption(OPT.EXTENDED_HEADERS),
    plain: 'ACK',
    effect: (model, worked) => {
      model.extended ||= worked;
    },
  },
  'EXTENDED_HEADERS with data': {
    bytes: encodeOption(OPT.EXTENDED_HEADERS, Buffer.alloc(1)),
    plain: 'ERR_INVALID',
  },
  'LIST_META_CONTEXT demo': list(meta('demo'), 'META_CONTEXT ACK'),
  'LIST_META_CONTEXT demo base:': list(meta('demo', 'base:'), 'META_CONTEXT ACK'),
  'LIST_META_CONTEXT nobody': list(meta('nobody'), 'ERR_UNKNOWN'),
  'SET_META_CONTEXT demo': set(meta('demo', base), 'META_CONTEXT ACK', 'demo'),
  'SET_META_CONTEXT archive': set(meta('archive', base), 'META_CONTEXT ACK', 'archive'),
  'SET_META_CONTEXT demo base:': set(meta('demo', 'base:'), 'ACK'),
  'SET_META_CONTEXT demo, no query': set(meta('demo'), 'ACK'),
  'SET_META_CONTEXT nobody': set(meta('nobody', base), 'ERR_UNKNOWN'),
  'SET_META_CONTEXT cut': set(meta('demo', base).subarray(1), 'ERR_INVALID'),
  'SET_META_CONTEXT of 9000 bytes': {
    bytes: encodeOption(OPT.SET_META_CONTEXT, Buffer.alloc(9000)),
    plain: 'ERR_TOO_BIG',
    effect: (model) => {
      model.selected = null;
    },
  },
  'option 99': { bytes: encodeOption(99, Buffer.alloc(20)), plain: 'ERR_UNSUP' },
};

/** What the protocol document says is answered; changes the model as it says. */
function expected(row: Row, model: Model): string {
  const answer = rowAnswer(row, model);
  if (answer === 'ERR_TLS_REQD') return answer;
  row.effect?.(model, !answer.startsWith('ERR_'));
  if (answer.endsWith('startTls')) {
    Object.assign(model, { tls: 'secured', structured: false, extended: false, selected: null });
  }
  const [before, name] = answer.split('enter ');
  if (name === undefined) return answer;
  const kind = model.extended ? 'extended' : model.structured ? 'structured' : 'simple';
  return `${before ?? ''}enter ${name} ${kind} ${model.selected === name ? '1' : 'null'}`;
}

function rowAnswer(row: Row, model: Model): string {
  if (model.tls === 'require') return row.require ?? 'ERR_TLS_REQD';
  if (model.tls === 'allow' && row.allow !== undefined) return row.allow;
  if (model.tls === 'secured' && row.secured !== undefined) return row.secured;
  if (model.extended && row.extended !== undefined) return row.extended;
  if (row.needsChunks && !model.structured && !model.extended) return 'ERR_INVALID';
  return row.plain;
}

const WORDS = new Map(Object.entries(REP).map(([word, value]) => [value as number, word]));

/** What the machine answered, in the same words. */
function actual(negotiation: Negotiation, bytes: Buffer): string {
  const actions = negotiation.receive(bytes);
  const last = actions.at(-1);
  if (last?.kind === 'startTls') negotiation.tlsStarted(BOTH);
  const words = outcome(actions).map((type) =>
    typeof type === 'number' ? (WORDS.get(type) ?? String(type)) : type,
  );
  return words.map((word) => (word === 'enterTransmission' ? entered(last) : word)).join(' ');
}

function entered(action: Action | undefined): string {
  if (action?.kind !== 'enterTransmission') return 'nothing';
  const { exportName: name, replies, allocationContextId } = action;
  return `enter ${name} ${replies} ${String(allocationContextId)}`;
}

/** Runs options one after another until one ends the connection; gives the first wrong answer. */
function wrongAnswer(names: readonly string[], tls: Model['tls']): string | undefined {
  const negotiation = opened({ tls: tls === 'secured' ? 'require' : tls });
  const model: Model = { tls, structured: false, extended: false, selected: null };
  if (tls === 'secured') {
    negotiation.receive(encodeOption(OPT.STARTTLS));
    negotiation.tlsStarted(BOTH);
  }
  for (const [index, name] of names.entries()) {
    const row = ROWS[name];
    if (row === undefined) throw new Error(`no row ${name}`);
    const want = expected(row, model);
    const got = actual(negotiation, row.bytes);
    const so = names.slice(0, index + 1).join(', then ');
    if (got !== want) return `${so}: ${got}, expected ${want}`;
    if (/close|enter/.test(got)) return undefined;
  }
  return undefined;
}

const NAMES = Object.keys(ROWS);

for (const tls of ['off', 'allow', 'require', 'secured'] as const) {
  const mode = tls === 'secured' ? 'after TLS' : `TLS ${tls}`;

  void test(`${mode}: every option alone is answered as the table says`, (t) => {
    for (const name of NAMES) t.equal(wrongAnswer([name], tls), undefined, name);
    t.end();
  });

  void test(`${mode}: every pair and triple of options is answered as the model says`, (t) => {
    const wrong: string[] = [];
    for (const first of NAMES) {
      for (const second of NAMES) {
        for (const third of NAMES) {
          const found = wrongAnswer([first, second, third], tls);
          if (found !== undefined) wrong.push(found);
        }
      }
    }
    t.strictSame([...new Set(wrong)].slice(0, 20), []);
    t.end();
  });
}

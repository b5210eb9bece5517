// SPDX-License-Identifier: Apache-2.0
import { KeyholdError, messageOf } from '../base/errors.js';
import { nearestName } from '../base/nearest.js';
import { quoteName } from '../base/names.js';
import { codes } from './errors.js';
import { formatIpAddress, formatIpNetwork, parseIpAddress, parseIpNetwork } from './ip-network.js';

/**
 * A rule of an allow list: conditions on a peer, all of which must hold. It has one spelling, which
 * records, the API, the CLI and logs share:
 *
 *   rule      = condition *( " and " condition )         in the order of CONDITIONS
 *   condition = name "=" ( bare / quoted )
 *   bare      = characters other than white space and `"`
 *   quoted    = `"`, characters with `\"` and `\\` for `"` and `\`, `"`
 */
export interface AccessRule {
  /** SO_PEERCRED of a peer on a unix socket. */
  readonly uid?: number;
  readonly gid?: number;
  readonly pid?: number;
  /** RFC 2253 subject of the client certificate. */
  readonly subject?: string;
  /** A subject alternative name of the client certificate with its type: `DNS:vm1.example`. */
  readonly san?: string;
  /** Identity of the pre-shared key. */
  readonly psk?: string;
  /** Network of a TCP peer. */
  readonly cidr?: string;
}

type ConditionName = keyof AccessRule;

/** Rules of one disk: one for each client or network, and a disk has a handful of them. */
export const ACCESS_RULES_MAX = 32;

/** Bytes of one rule: a subject with a few names; 64 of them still fit one audit record. */
export const ACCESS_RULE_BYTES_MAX = 512;

/** The largest id but one: (uid_t)-1 means "none" to the kernel. */
const UNIX_ID_MAX = 0xffff_fffe;
/** PID_MAX_LIMIT of 64-bit Linux; 0 is a process of a pid namespace that we cannot see. */
const PID_MAX = 2 ** 22;

/** Reads a value into its one spelling; throws an Error that says what was expected. */
const CONDITIONS: Readonly<Record<ConditionName, (text: string) => string | number>> = {
  uid: wholeNumber(0, UNIX_ID_MAX),
  gid: wholeNumber(0, UNIX_ID_MAX),
  pid: wholeNumber(1, PID_MAX),
  subject: parseSubject,
  san: parseSan,
  psk: parseIdentity,
  cidr: (text) => formatIpNetwork(parseIpNetwork(text)),
};
const NAMES = Object.keys(CONDITIONS) as ConditionName[];

/** Conditions that no peer fulfils at once, and why. */
const EXCLUSIONS: ReadonlyArray<readonly [ConditionName[], ConditionName[], string]> = [
  [['uid', 'gid', 'pid'], ['cidr'], 'one is of unix sockets and the other of TCP'],
  [['subject', 'san'], ['psk'], 'a client shows a certificate or a pre-shared key'],
];

/** Reads the text of a rule. Throws ERR_ACCESS_RULE naming the condition and what is expected. */
export function parseAccessRule(text: string): AccessRule {
  const lengthBytes = Buffer.byteLength(text);
  if (lengthBytes > ACCESS_RULE_BYTES_MAX) {
    throw refused(text, `expected at most ${ACCESS_RULE_BYTES_MAX} bytes, got ${lengthBytes}`);
  }
  // Whatever is allowed here is printed to terminals and logs.
  if (/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)) {
    throw refused(text, 'expected text without control characters');
  }
  const rule: Record<string, string | number> = {};
  for (const { name, value } of tokenize(text)) {
    if (Object.hasOwn(rule, name)) throw refused(text, `condition ${name} stands twice`);
    try {
      rule[name] = CONDITIONS[name](value);
    } catch (error) {
      throw refused(text, `condition ${name}: ${messageOf(error)}`);
    }
  }
  assertPossible(text, rule);
  return Object.fromEntries(
    NAMES.flatMap((name) => (Object.hasOwn(rule, name) ? [[name, rule[name]]] : [])),
  );
}

/** The one spelling of a rule; `parseAccessRule` reads it back. */
export function formatAccessRule(rule: AccessRule): string {
  return NAMES.flatMap((name) => {
    const value = rule[name];
    return value === undefined ? [] : [`${name}=${spell(String(value))}`];
  }).join(' and ');
}

function* tokenize(text: string): Generator<{ name: ConditionName; value: string }> {
  const condition = /\s*([^\s="]+)=(?:"((?:[^"\\]|\\["\\])*)"|([^\s"]+))(?=\s|$)/y;
  const separator = /\s+and(?=\s|$)/y;
  let at = 0;
  for (;;) {
    condition.lastIndex = at;
    const match = condition.exec(text);
    if (match === null) throw refused(text, expectation(text, at));
    const [whole, name = '', escaped, bare] = match;
    if (!isCondition(name)) throw refused(text, unknownCondition(name));
    at += whole.length;
    yield { name, value: bare ?? (escaped ?? '').replace(/\\(["\\])/g, '$1') };
    separator.lastIndex = at;
    const next = separator.exec(text);
    if (next === null && text.slice(at).trim() !== '') {
      const got = quoteName(text.slice(at).trim());
      throw refused(
        text,
        `expected "and" after condition ${name}, or quotes around it, got ${got}`,
      );
    }
    if (next === null) return;
    at += next[0].length;
  }
}

function expectation(text: string, at: number): string {
  const got = text.slice(at).trim();
  const name = /^([^\s="]+)=/.exec(got)?.[1];
  if (name === undefined || !isCondition(name)) {
    const shown = got === '' ? 'nothing' : quoteName(got);
    return `expected a condition such as uid=1000 or cidr=10.0.0.0/8, got ${shown}`;
  }
  const value = got.slice(name.length + 1);
  const shown = value === '' ? 'nothing' : quoteName(value);
  return `condition ${name}: expected a value, in double quotes if it has spaces, got ${shown}`;
}

function unknownCondition(name: string): string {
  const nearest = nearestName(name, NAMES);
  const hint = nearest === undefined ? `one of ${NAMES.join(', ')}` : nearest;
  return `there is no condition ${quoteName(name)}, expected ${hint}`;
}

function assertPossible(text: string, rule: AccessRule): void {
  for (const [some, others, why] of EXCLUSIONS) {
    const one = some.find((name) => rule[name] !== undefined);
    const other = others.find((name) => rule[name] !== undefined);
    if (one === undefined || other === undefined) continue;
    throw refused(text, `conditions ${one} and ${other} never hold together: ${why}`);
  }
}

function isCondition(name: string): name is ConditionName {
  return Object.hasOwn(CONDITIONS, name);
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^(?:0|[1-9]\d{0,9})$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new Error(`expected a whole number from ${min} to ${max}, got ${quoteName(text)}`);
  };
}

/** Only its beginning is looked at: what else an RFC 2253 name may hold is compared, not read. */
function parseSubject(text: string): string {
  if (/^(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*)=\S/.test(text)) return text;
  throw new Error(`expected an RFC 2253 name such as CN=vm1,O=Example, got ${quoteName(text)}`);
}

function parseSan(text: string): string {
  const match = /^(DNS|URI|IP|email):(.+)$/.exec(text);
  const [, type = '', name = ''] = match ?? [];
  if (match === null) {
    throw new Error(
      `expected a type and a name such as DNS:vm1.example, URI:… or IP:…, got ${quoteName(text)}`,
    );
  }
  if (type === 'DNS' && name.includes('*')) {
    throw new Error(`expected a whole name, since wildcards match nothing, got ${quoteName(name)}`);
  }
  if (type !== 'IP') return text;
  const address = parseIpAddress(name);
  if (address === undefined) {
    throw new Error(`expected an IPv4 or IPv6 address after IP:, got ${quoteName(name)}`);
  }
  return `IP:${formatIpAddress(address)}`;
}

function parseIdentity(text: string): string {
  if (text !== '') return text;
  throw new Error('expected the identity of a pre-shared key, got nothing');
}

function spell(value: string): string {
  if (value !== '' && !/[\s"]/.test(value)) return value;
  return `"${value.replace(/["\\]/g, '\\$&')}"`;
}

function refused(text: string, detail: string): KeyholdError {
  return new KeyholdError(codes.ERR_ACCESS_RULE, `reading rule ${quoteName(text)}: ${detail}`, {
    fields: { rule: text.slice(0, ACCESS_RULE_BYTES_MAX) },
  });
}

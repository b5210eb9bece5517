// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';

/**
 * One line of the log:
 *
 *   {"seq":7,"time":"2026-…Z","kind":"disk-offline", …fields…, "prev":"<64 hex>","hash":"<64 hex>"}
 *
 * `hash` is SHA-256 over the canonical JSON of the record without `hash`: keys sorted by code unit
 * at every level, no white space, numbers and strings as JSON.stringify writes them. `prev` is the
 * hash of the line before, so a change anywhere breaks every line from there on.
 *
 * The line itself has one spelling too (fixed keys at both ends, fields sorted between them), and a
 * reader refuses any other: so a byte that means nothing to JSON cannot be changed either.
 */
export interface AuditRecord {
  readonly seq: number;
  readonly time: string;
  readonly kind: string;
  readonly prev: string;
  readonly hash: string;
  readonly [field: string]: unknown;
}

/** What the first record names as its predecessor. */
export const GENESIS_HASH = '0'.repeat(64);

/** A receipt of a take-offline is about 1 KiB; more than this is no audit record. */
export const RECORD_BYTES_MAX = 64 * 1024;

const FRAME = ['seq', 'time', 'kind', 'prev', 'hash'];

/** Makes the record that follows `prev`. Throws ERR_AUDIT_RECORD for fields that do not fit. */
export function createRecord(head: {
  seq: number;
  time: string;
  kind: string;
  fields: Readonly<Record<string, unknown>>;
  prev: string;
}): { record: AuditRecord; line: string } {
  const { seq, time, kind, prev } = head;
  // Through JSON once: what a reader will see is what is hashed (no undefined, no NaN, no dates).
  const fields = JSON.parse(JSON.stringify(head.fields)) as Record<string, unknown>;
  const reserved = FRAME.find((name) => Object.hasOwn(fields, name));
  if (reserved !== undefined) {
    throw recordError(kind, `field ${reserved} is reserved`);
  }
  const hash = hashOf({ ...fields, seq, time, kind, prev });
  const record = { ...fields, seq, time, kind, prev, hash };
  const line = serialize(record);
  const lineBytes = Buffer.byteLength(line);
  if (lineBytes > RECORD_BYTES_MAX) {
    throw recordError(kind, `expected at most ${RECORD_BYTES_MAX} bytes, got ${lineBytes}`);
  }
  return { record, line };
}

/** Something about a line that is not as it must be. */
export interface Discrepancy {
  readonly expected: string;
  readonly actual: string;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads a line (without its newline) and checks all that one line can show: form, spelling and
 * hash. Whether it follows its predecessor is for the caller to compare.
 */
export function parseRecord(line: Uint8Array): AuditRecord | Discrepancy {
  let text: string;
  let value: unknown;
  try {
    text = utf8.decode(line);
    value = JSON.parse(text);
  } catch (error) {
    return { expected: 'a line of JSON in UTF-8', actual: messageOf(error).slice(0, 200) };
  }
  if (!isRecord(value)) {
    return { expected: 'seq, time, kind, prev and hash', actual: text.slice(0, 200) };
  }
  const { hash, ...rest } = value;
  const computed = hashOf(rest);
  if (computed !== hash) return { expected: `hash ${computed}`, actual: `hash ${hash}` };
  const spelled = serialize(value);
  if (spelled !== text) return { expected: spelled.slice(0, 200), actual: text.slice(0, 200) };
  return value;
}

export function isDiscrepancy(found: AuditRecord | Discrepancy): found is Discrepancy {
  return !Object.hasOwn(found, 'hash');
}

/** JSON with the keys of every object sorted by code unit and no white space. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = value as Record<string, unknown>;
  // Text is joined by hand: an object would move keys that look like numbers to the front.
  const parts = Object.keys(members)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(members[key])}`);
  return `{${parts.join(',')}}`;
}

function hashOf(unhashed: object): string {
  return createHash('sha256').update(canonicalJson(unhashed)).digest('hex');
}

function serialize(record: AuditRecord): string {
  const fields = Object.keys(record)
    .filter((name) => !FRAME.includes(name))
    .sort();
  const parts = ['seq', 'time', 'kind', ...fields, 'prev', 'hash'].map(
    (name) => `${JSON.stringify(name)}:${canonicalJson(record[name])}`,
  );
  return `{${parts.join(',')}}`;
}

function isRecord(value: unknown): value is AuditRecord {
  if (typeof value !== 'object' || value === null) return false;
  const { seq, time, kind, prev, hash } = value as Partial<AuditRecord>;
  return (
    Number.isSafeInteger(seq) &&
    typeof time === 'string' &&
    typeof kind === 'string' &&
    isHash(prev) &&
    isHash(hash)
  );
}

function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
}

function recordError(kind: string, detail: string): KeyholdError {
  return new KeyholdError(
    codes.ERR_AUDIT_RECORD,
    `cannot write audit record ${JSON.stringify(kind)}: ${detail}`,
    { fields: { kind } },
  );
}

// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, open } from 'node:fs/promises';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';
import { type LogLine, readLogLines } from './lines.js';
import { type AuditRecord, isDiscrepancy, parseRecord } from './record.js';
import { type AuditReport, ChainCheck, compareHead } from './verify.js';

/** What of a log, as it was acknowledged at one moment. */
export interface LogSnapshot {
  readonly path: string;
  readonly lengthBytes: number;
  /** What the writer wrote last; a file that ends otherwise is not what was written. */
  readonly seq: number;
  readonly hash: string;
}

export interface ExportQuery {
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly kind?: string | undefined;
  readonly set?: string | undefined;
  readonly disk?: string | undefined;
}

export interface AuditExport {
  readonly chain: AuditReport;
  readonly contiguous: boolean;
  readonly first: { readonly seq: number; readonly hash: string } | null;
  readonly last: { readonly seq: number; readonly hash: string } | null;
  readonly count: number;
  /** Each record as JSON on one line, in order. Reads the log a second time. */
  records(): AsyncGenerator<string>;
}

/** Lines of the log, counted from 1, between which everything that matches is exported. */
interface Range {
  first: number;
  last: number;
}

/**
 * Reads the log once to check its chain and to find the range, so that both can stand at the head
 * of the export; `records` then reads it again. Neither holds more than a few lines in memory.
 *
 * A range of times is what lies between the first record that is not older than `since` and the
 * last one that is not younger than `until`: without gaps, whatever the clock did meanwhile. What
 * is no record any more is exported as `{"damaged": base64}`, since it is evidence.
 */
export async function prepareExport(
  snapshot: LogSnapshot,
  query: ExportQuery,
): Promise<AuditExport> {
  const chain = new ChainCheck();
  const found = new Selection(query);
  await eachLine(snapshot, (line, index) => {
    const record = line.whole ? parseRecord(line.bytes) : undefined;
    if (chain.isSound()) {
      if (record === undefined) chain.addTorn(line.bytes);
      else chain.addFound(record);
    }
    found.look(index, exportedOf(line, record));
  });
  const { range, contiguous } = found;
  const ends = found.ends();
  return {
    chain: compareHead(chain.report(), snapshot),
    contiguous,
    ...ends,
    async *records() {
      let index = 0;
      for await (const line of openLines(snapshot)) {
        index += 1;
        if (index < range.first) continue;
        if (index > range.last) return;
        const exported = exportedOf(line, line.whole ? parseRecord(line.bytes) : undefined);
        if (matches(query, exported.record)) yield exported.text;
      }
    },
  };
}

interface Exported {
  readonly text: string;
  /** Undefined for what is no record any more. */
  readonly record: { readonly time: number; readonly fields: Record<string, unknown> } | undefined;
}

/** Finds the range; `ends` tells its records once every line was looked at. */
class Selection {
  readonly contiguous: boolean;
  readonly range: Range = { first: Number.POSITIVE_INFINITY, last: 0 };
  readonly #query: ExportQuery;
  readonly #sinceMs: number;
  readonly #untilMs: number;
  /** Matching records so far, and those up to the last line that `until` admits. */
  #pending: Ends = NO_ENDS;
  #ends: Ends = NO_ENDS;

  constructor(query: ExportQuery) {
    this.#query = query;
    this.#sinceMs = query.since === undefined ? Number.NEGATIVE_INFINITY : Date.parse(query.since);
    this.#untilMs = query.until === undefined ? Number.POSITIVE_INFINITY : Date.parse(query.until);
    const { kind, set, disk } = query;
    this.contiguous = kind === undefined && set === undefined && disk === undefined;
  }

  look(index: number, exported: Exported): void {
    const { record } = exported;
    const begun = Number.isFinite(this.range.first);
    const isOpen = this.#query.since === undefined;
    if (!begun && !(isOpen || (record !== undefined && record.time >= this.#sinceMs))) return;
    if (!begun) this.range.first = index;
    if (matches(this.#query, record)) this.#pending = extend(this.#pending, record);
    const isIn =
      this.#query.until === undefined || (record !== undefined && record.time <= this.#untilMs);
    if (!isIn) return;
    this.range.last = index;
    this.#ends = this.#pending;
  }

  ends(): Ends {
    return this.#ends;
  }
}

interface Ends {
  readonly first: AuditExport['first'];
  readonly last: AuditExport['last'];
  readonly count: number;
}

const NO_ENDS: Ends = { first: null, last: null, count: 0 };

function extend({ first, last, count }: Ends, record: Exported['record']): Ends {
  const { seq, hash } = record?.fields ?? {};
  const end = typeof seq === 'number' && typeof hash === 'string' ? { seq, hash } : undefined;
  return { first: first ?? end ?? null, last: end ?? last, count: count + 1 };
}

function exportedOf(
  { bytes }: LogLine,
  parsed: ReturnType<typeof parseRecord> | undefined,
): Exported {
  if (parsed !== undefined && !isDiscrepancy(parsed))
    return asRecord(bytes.toString('utf8'), parsed);
  const broken = parsed === undefined ? undefined : readBroken(bytes);
  if (broken !== undefined) return broken;
  return { text: JSON.stringify({ damaged: bytes.toString('base64') }), record: undefined };
}

function asRecord(text: string, fields: AuditRecord | Record<string, unknown>): Exported {
  const time = typeof fields['time'] === 'string' ? Date.parse(fields['time']) : Number.NaN;
  return { text, record: { time, fields } };
}

/** A record that somebody changed is still JSON, and says more as it stands than in base64. */
function readBroken(bytes: Buffer): Exported | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const value = JSON.parse(text) as unknown;
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    // White space at the ends could carry the line over into the export's own form.
    if (!isObject || text !== text.trim()) return undefined;
    return asRecord(text, value as Record<string, unknown>);
  } catch {
    return undefined;
  }
}

/** What is damaged matches everything: it may have been what is looked for. */
function matches(query: ExportQuery, record: Exported['record']): boolean {
  if (record === undefined) return true;
  const { fields } = record;
  return (['kind', 'set', 'disk'] as const).every(
    (name) => query[name] === undefined || query[name] === fields[name],
  );
}

async function eachLine(
  snapshot: LogSnapshot,
  look: (line: LogLine, index: number) => void,
): Promise<void> {
  let index = 0;
  for await (const line of openLines(snapshot)) {
    index += 1;
    look(line, index);
  }
}

async function* openLines({ path, lengthBytes }: LogSnapshot): AsyncGenerator<LogLine> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'r');
    for await (const lines of readLogLines(file, lengthBytes)) yield* lines;
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_AUDIT_READ,
      `cannot read audit log ${path}: ${codeOf(error) ?? messageOf(error)}`,
      { fields: { path }, cause: error },
    );
  } finally {
    await file?.close();
  }
}

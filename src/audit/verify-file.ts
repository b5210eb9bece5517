// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { type Anchor, AnchorBook, type AnchorReport } from './anchors.js';
import { selectAnchors } from './anchor-file.js';
import { codes } from './errors.js';
import { EXPORT_FORMAT } from './export-form.js';
import { type LogLine, splitLines } from './lines.js';
import {
  type AuditRecord,
  type Discrepancy,
  GENESIS_HASH,
  isDiscrepancy,
  parseRecord,
} from './record.js';

export interface FileReport {
  /** A log as the daemon writes it, or what `audit export` made of one. */
  readonly form: 'log' | 'export';
  /** Host and path of the log that an export was made of. */
  readonly log: { readonly host: string; readonly path: string } | null;
  readonly ok: boolean;
  /** Sound records up to the first bad line. */
  readonly records: number;
  readonly firstSeq: number | null;
  readonly lastSeq: number | null;
  /** Hash of the last sound record; 64 zeros when there is none. */
  readonly lastHash: string;
  /** Line of the file, counted from 1. */
  readonly firstBad: (Discrepancy & { readonly line: number }) | null;
  /** Null when none were given. */
  readonly anchors: AnchorReport | null;
}

interface Head {
  readonly host: string;
  readonly path: string;
  readonly contiguous: boolean;
  readonly query: Readonly<Record<string, string>>;
  readonly chain: { readonly ok: boolean; readonly records: number; readonly lastHash: string };
  readonly first: { readonly seq: number; readonly hash: string } | null;
  readonly last: { readonly seq: number; readonly hash: string } | null;
}

const HEAD_START = Buffer.from(`{"format":"${EXPORT_FORMAT}"`);

/**
 * Checks a log, or an export of one, without the daemon and in constant memory; `anchors` are those
 * that were collected elsewhere. What cannot be found is said at verifyAudit; anchors find it.
 */
export async function verifyFile(
  chunks: AsyncIterable<Buffer>,
  anchors: readonly Anchor[] | undefined,
): Promise<FileReport> {
  let check: FileCheck | undefined;
  for await (const lines of splitLines(chunks)) {
    for (const line of lines) {
      if (check === undefined) {
        const head = line.bytes.subarray(0, HEAD_START.length).equals(HEAD_START)
          ? readHead(line)
          : undefined;
        const log = head === undefined ? undefined : { host: head.host, path: head.path };
        const book =
          anchors === undefined ? undefined : new AnchorBook(selectAnchors(anchors, log));
        check = new FileCheck(head, book);
        if (head !== undefined) continue;
      }
      check.add(line);
    }
  }
  if (check === undefined) {
    // An empty log is in good order; anchors may say that it should not be empty.
    const book =
      anchors === undefined ? undefined : new AnchorBook(selectAnchors(anchors, undefined));
    check = new FileCheck(undefined, book);
  }
  return check.report();
}

function readHead({ bytes }: LogLine): Head {
  try {
    const head = JSON.parse(`${bytes.toString('utf8')}]}`) as Head;
    if (typeof head.host === 'string' && typeof head.path === 'string') return head;
  } catch {
    // Below.
  }
  throw new KeyholdError(
    codes.ERR_AUDIT_EXPORT_FORM,
    'reading an export of the audit log: expected its head on the first line, as it was written',
  );
}

class FileCheck {
  readonly #head: Head | undefined;
  readonly #book: AnchorBook | undefined;
  #line: number;
  #records = 0;
  #first: AuditRecord | undefined;
  #last: AuditRecord | undefined;
  #tail: string | undefined;
  #firstBad: (Discrepancy & { line: number }) | undefined;

  constructor(head: Head | undefined, book: AnchorBook | undefined) {
    this.#head = head;
    this.#book = book;
    this.#line = head === undefined ? 0 : 1;
  }

  add({ bytes, whole }: LogLine): void {
    this.#line += 1;
    if (this.#firstBad !== undefined) return;
    if (this.#tail !== undefined) {
      this.#refuse({ expected: 'nothing after the end of the export', actual: 'another line' });
      return;
    }
    const isExport = this.#head !== undefined;
    if (isExport && bytes[0] === 0x5d) {
      this.#tail = bytes.toString('utf8');
      return;
    }
    if (!whole) {
      const actual = `${bytes.length} bytes without one`;
      this.#refuse({ expected: 'a line that ends in a newline', actual });
      return;
    }
    const end = isExport && bytes.at(-1) === 0x2c ? -1 : bytes.length;
    this.#addRecord(parseRecord(bytes.subarray(0, end)));
  }

  #addRecord(found: AuditRecord | Discrepancy): void {
    const problem = isDiscrepancy(found) ? found : this.#linkProblem(found);
    if (problem !== undefined || isDiscrepancy(found)) {
      this.#refuse(problem ?? { expected: 'a record', actual: 'something else' });
      return;
    }
    this.#records += 1;
    this.#first ??= found;
    this.#last = found;
    this.#book?.compare(found);
  }

  /** Whether a record follows the one before it, as far as this file can tell. */
  #linkProblem({ seq, prev }: AuditRecord): Discrepancy | undefined {
    const last = this.#last;
    const before = last ?? { seq: 0, hash: GENESIS_HASH };
    if (last === undefined && this.#head !== undefined && seq !== 1) return undefined;
    const mayLeaveOut = this.#head?.contiguous === false;
    if (mayLeaveOut && seq > before.seq + 1) return undefined;
    if (seq !== before.seq + 1) {
      return { expected: `seq ${before.seq + 1}`, actual: `seq ${seq}` };
    }
    if (prev !== before.hash) return { expected: `prev ${before.hash}`, actual: `prev ${prev}` };
    return undefined;
  }

  report(): FileReport {
    if (this.#firstBad === undefined) this.#checkEnds();
    const head = this.#head;
    const last = this.#last;
    // A log that was cut short is known by anchors beyond its end; a range says nothing about it.
    const end = head === undefined ? (last?.seq ?? 0) : endOfLog(head);
    const anchors = this.#book?.report(end) ?? null;
    return {
      form: head === undefined ? 'log' : 'export',
      log: head === undefined ? null : { host: head.host, path: head.path },
      ok: this.#firstBad === undefined && (anchors?.contradictions ?? 0) === 0,
      records: this.#records,
      firstSeq: this.#first?.seq ?? null,
      lastSeq: last?.seq ?? null,
      lastHash: last?.hash ?? GENESIS_HASH,
      firstBad: this.#firstBad ?? null,
      anchors,
    };
  }

  /** What the head and the tail of an export promise. */
  #checkEnds(): void {
    const head = this.#head;
    if (head === undefined) return;
    const tail = `],"count":${this.#records}}`;
    const nameOf = (end: { seq: number; hash: string } | null | undefined): string =>
      end == null ? 'no record' : `record ${end.seq} with hash ${end.hash}`;
    const compare = (place: string, expected: string, actual: string): void => {
      if (expected === actual || this.#firstBad !== undefined) return;
      this.#refuse({ expected: `${place} ${expected}`, actual });
    };
    compare('the end', tail, this.#tail ?? 'no end: the export was cut short');
    compare('as its first', nameOf(head.first), nameOf(this.#first));
    compare('as its last', nameOf(head.last), nameOf(this.#last));
    if (!head.chain.ok && this.#firstBad === undefined) {
      const actual = 'a log that was not sound when it was exported';
      this.#refuse({ expected: 'a sound log', actual });
    }
    const isToTheEnd = head.contiguous && head.query['until'] === undefined;
    if (isToTheEnd && this.#last !== undefined) {
      const { records: seq, lastHash: hash } = head.chain;
      compare('at the end of the log', nameOf({ seq, hash }), nameOf(this.#last));
    }
  }

  #refuse(found: Discrepancy): void {
    this.#firstBad ??= { line: this.#line, ...found };
  }
}

function endOfLog({ chain }: Head): number | null {
  return chain.ok ? chain.records : null;
}

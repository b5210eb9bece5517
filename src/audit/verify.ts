// SPDX-License-Identifier: Apache-2.0
import { open } from 'node:fs/promises';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';
import { readLogLines } from './lines.js';
import {
  type AuditRecord,
  GENESIS_HASH,
  isDiscrepancy,
  parseRecord,
  RECORD_BYTES_MAX,
  type Discrepancy,
} from './record.js';

export interface AuditReport {
  /** Sound records from the start of the file, up to the first bad line. */
  readonly records: number;
  readonly ok: boolean;
  /** Hash of the last sound record; GENESIS_HASH when there is none. */
  readonly lastHash: string;
  /** The first line, counted from 1, that is not what it must be. */
  readonly firstBad?: Discrepancy & { readonly line: number };
}

/**
 * Checks the chain from the first record to the last, in constant memory.
 *
 * It finds every changed byte and every line that was removed, inserted or moved. It cannot find
 * that whole records were cut off at the end, nor that somebody who may write the file rewrote it
 * from some record on: both are chains in good order. The daemon that wrote the log finds them as
 * long as it runs (AuditLog.verify); later only an anchor outside the host does, which is what
 * `lastHash` and `records` are for.
 *
 * `lengthBytes` limits the check to what was acknowledged when the log is being written meanwhile.
 */
export async function verifyAudit(
  path: string,
  options: { lengthBytes?: number } = {},
): Promise<AuditReport> {
  const chain = new ChainCheck();
  try {
    await readLines(path, options.lengthBytes, chain);
  } catch (error) {
    const detail = codeOf(error) ?? messageOf(error);
    throw new KeyholdError(codes.ERR_AUDIT_READ, `cannot read audit log ${path}: ${detail}`, {
      fields: { path },
      cause: error,
    });
  }
  return chain.report();
}

async function readLines(
  path: string,
  lengthBytes: number | undefined,
  chain: ChainCheck,
): Promise<void> {
  const file = await open(path, 'r');
  try {
    const endBytes = lengthBytes ?? (await file.stat()).size;
    for await (const lines of readLogLines(file, endBytes)) {
      for (const { bytes, whole } of lines) {
        if (!chain.isSound()) return;
        if (whole) chain.addFound(parseRecord(bytes));
        else chain.addTorn(bytes);
      }
    }
  } finally {
    await file.close();
  }
}

/** A report on a log whose writer knows how it must end. */
export function compareHead(
  report: AuditReport,
  { seq, hash }: { seq: number; hash: string },
): AuditReport {
  if (!report.ok || report.lastHash === hash) return report;
  const { records, lastHash } = report;
  const firstBad = {
    line: Math.min(records + 1, seq),
    expected: `record ${seq} with hash ${hash} at the end`,
    actual: `record ${records} with hash ${lastHash}`,
  };
  return { ...report, ok: false, firstBad };
}

/** The chain from its first record on, fed line by line until it is not sound any more. */
export class ChainCheck {
  #records = 0;
  #lastHash = GENESIS_HASH;
  #firstBad: (Discrepancy & { line: number }) | undefined;

  isSound(): boolean {
    return this.#firstBad === undefined;
  }

  addFound(found: AuditRecord | Discrepancy): void {
    if (isDiscrepancy(found)) {
      this.#refuse(found);
      return;
    }
    const seq = this.#records + 1;
    if (found.prev !== this.#lastHash) {
      this.#refuse({ expected: `prev ${this.#lastHash}`, actual: `prev ${found.prev}` });
    } else if (found.seq !== seq) {
      this.#refuse({ expected: `seq ${seq}`, actual: `seq ${found.seq}` });
    } else {
      this.#records = seq;
      this.#lastHash = found.hash;
    }
  }

  addTorn(rest: Uint8Array): void {
    this.#refuse({
      expected: `a line of at most ${RECORD_BYTES_MAX} bytes that ends in a newline`,
      actual: `${rest.length} bytes without one`,
    });
  }

  report(): AuditReport {
    const sums = { records: this.#records, lastHash: this.#lastHash };
    if (this.#firstBad === undefined) return { ...sums, ok: true };
    return { ...sums, ok: false, firstBad: this.#firstBad };
  }

  #refuse(found: Discrepancy): void {
    this.#firstBad = { line: this.#records + 1, ...found };
  }
}

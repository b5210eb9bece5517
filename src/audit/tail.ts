// SPDX-License-Identifier: Apache-2.0
import type { FileHandle } from 'node:fs/promises';
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import { GENESIS_HASH, isDiscrepancy, parseRecord, RECORD_BYTES_MAX } from './record.js';

export interface Tail {
  readonly seq: number;
  readonly hash: string;
  /** Where the last whole line ends. */
  readonly endBytes: number;
  /** What stands behind it: a line that a crash cut short. */
  readonly torn: Uint8Array;
}

/** Two records, the newline of the one before them, and a torn third. */
const WINDOW_BYTES = 3 * (RECORD_BYTES_MAX + 1) + 1;

/**
 * Reads where a log goes on. Checks the last record and that it follows the one before; the whole
 * chain is `verifyAudit`'s work, which takes too long to do at every start.
 */
export async function readTail(file: FileHandle, path: string): Promise<Tail> {
  const { size: sizeBytes } = await file.stat();
  const startBytes = Math.max(0, sizeBytes - WINDOW_BYTES);
  const window = Buffer.alloc(sizeBytes - startBytes);
  const { bytesRead } = await file.read(window, 0, window.length, startBytes);
  if (bytesRead !== window.length) {
    throw corrupt(path, `expected ${window.length} bytes at ${startBytes}, got ${bytesRead}`);
  }
  const lastNewline = window.lastIndexOf(0x0a);
  const torn = new Uint8Array(window.subarray(lastNewline + 1));
  if (torn.length > RECORD_BYTES_MAX) {
    throw corrupt(path, `expected a line of at most ${RECORD_BYTES_MAX} bytes at its end`);
  }
  if (lastNewline < 0) return { seq: 0, hash: GENESIS_HASH, endBytes: 0, torn };

  const lines = window.subarray(0, lastNewline);
  const last = recordAt(lines, path);
  const before = lines.lastIndexOf(0x0a);
  if (before < 0 && startBytes === 0) {
    compare(path, { seq: 0, hash: GENESIS_HASH }, last);
  } else {
    compare(path, recordAt(lines.subarray(0, Math.max(0, before)), path), last);
  }
  return { seq: last.seq, hash: last.hash, endBytes: startBytes + lastNewline + 1, torn };
}

/** The record on the last line of `lines`. */
function recordAt(lines: Buffer, path: string): { seq: number; prev: string; hash: string } {
  const found = parseRecord(lines.subarray(lines.lastIndexOf(0x0a) + 1));
  if (!isDiscrepancy(found)) return found;
  throw corrupt(path, `expected ${found.expected}, got ${found.actual}`);
}

function compare(
  path: string,
  before: { seq: number; hash: string },
  last: { seq: number; prev: string },
): void {
  if (last.prev !== before.hash) {
    throw corrupt(path, `expected prev ${before.hash}, got ${last.prev}`);
  }
  if (last.seq !== before.seq + 1) {
    throw corrupt(path, `expected seq ${before.seq + 1}, got ${last.seq}`);
  }
}

function corrupt(path: string, detail: string): KeyholdError {
  return new KeyholdError(
    codes.ERR_AUDIT_CORRUPT,
    `audit log ${path} is corrupt or was tampered with at its end: ${detail}`,
    { fields: { path } },
  );
}

// SPDX-License-Identifier: Apache-2.0
import type { AuditExport } from './export.js';

/**
 * The form of an export: one JSON object, laid out so that it can be written and checked line by
 * line, whatever its length.
 *
 *   {"format":"keyhold-audit-export",…,"records":[     head
 *   {…},                                               a record as it stands in the log
 *   {…}                                                the last one
 *   ],"count":2}                                       tail: missing when it was cut short
 */
export const EXPORT_FORMAT = 'keyhold-audit-export';

/** Pieces of about this many characters: few enough writes, little enough memory. */
const PIECE_CHARACTERS = 64 * 1024;

export interface ExportHead {
  readonly host: string;
  readonly daemonVersion: string;
  readonly path: string;
  readonly exportedAt: string;
  readonly query: Readonly<Record<string, string>>;
}

export async function* formatExport(head: ExportHead, found: AuditExport): AsyncGenerator<string> {
  const { chain, contiguous, first, last, count } = found;
  const object = JSON.stringify({
    format: EXPORT_FORMAT,
    formatVersion: 1,
    ...head,
    contiguous,
    chain: { ...chain, firstBad: chain.firstBad ?? null },
    first,
    last,
    records: [],
  });
  // Ends in `"records":[]}`.
  let piece = `${object.slice(0, -2)}\n`;
  let separator = '';
  let written = 0;
  for await (const record of found.records()) {
    piece += separator + record;
    separator = ',\n';
    written += 1;
    if (piece.length < PIECE_CHARACTERS) continue;
    yield piece;
    piece = '';
  }
  if (written !== count) {
    throw new Error(`the log changed while it was exported: ${written} records, not ${count}`);
  }
  yield `${piece}${written === 0 ? '' : '\n'}],"count":${count}}\n`;
}

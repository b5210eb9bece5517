// SPDX-License-Identifier: Apache-2.0
import { createReadStream } from 'node:fs';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { type Anchor, parseAnchor } from './anchors.js';
import { codes } from './errors.js';
import { splitLines } from './lines.js';

/** One every minute for two years. */
const ANCHORS_MAX = 1_000_000;

/** Every anchor of a file that a journal or syslog was written to; other lines are passed over. */
export async function readAnchors(path: string): Promise<Anchor[]> {
  const anchors: Anchor[] = [];
  try {
    const chunks = createReadStream(path) as AsyncIterable<Buffer>;
    for await (const lines of splitLines(chunks)) {
      for (const { bytes } of lines) {
        const anchor = parseAnchor(bytes.toString('utf8'));
        if (anchor !== undefined) anchors.push(anchor);
      }
      if (anchors.length > ANCHORS_MAX) throw new Error(`more than ${ANCHORS_MAX} anchors`);
    }
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_AUDIT_READ,
      `cannot read anchors from ${path}: ${codeOf(error) ?? messageOf(error)}`,
      { fields: { path }, cause: error },
    );
  }
  return anchors;
}

/**
 * The anchors of one log among those of many. `log`: host and path of the log, where they are
 * known; a bare copy of a log does not say, and then all anchors must be of one.
 */
export function selectAnchors(
  anchors: readonly Anchor[],
  log: { host: string; path: string } | undefined,
): Anchor[] {
  const nameOf = ({ host, path }: { host: string; path: string }): string => `${host}:${path}`;
  const names = [...new Set(anchors.map(nameOf))];
  const wanted = log === undefined ? names[0] : nameOf(log);
  const selected = anchors.filter((anchor) => nameOf(anchor) === wanted);
  if (selected.length > 0 && (log !== undefined || names.length === 1)) return selected;
  const found = names.slice(0, 5).join(', ') || 'none';
  const expected = log === undefined ? 'anchors of one log' : `anchors of ${nameOf(log)}`;
  throw new KeyholdError(
    codes.ERR_AUDIT_ANCHORS,
    `comparing the audit log with its anchors: expected ${expected}, found ${found}`,
    { fields: { found: names.length } },
  );
}

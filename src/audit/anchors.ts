// SPDX-License-Identifier: Apache-2.0

/**
 * An anchor says, somewhere that whoever rewrites the log cannot reach, which record stood at its
 * end. One line, found again in whatever a journal or a collector makes of it:
 *
 *   audit-anchor host=vm1 seq=4711 hash=<64 hex> path=/var/lib/keyhold/audit/audit.jsonl
 */
export interface Anchor {
  readonly host: string;
  readonly seq: number;
  readonly hash: string;
  readonly path: string;
}

const PATTERN = /\baudit-anchor host=(\S+) seq=(\d{1,15}) hash=([0-9a-f]{64}) path=([^\s"\\]+)/;

/** Percent-encoded, so that a field holds neither blanks nor quotes, in JSON or out of it. */
export function formatAnchor({ host, seq, hash, path }: Anchor): string {
  return `audit-anchor host=${encodeURI(host)} seq=${seq} hash=${hash} path=${encodeURI(path)}`;
}

/** The anchor in a line of a journal, of syslog, or of the daemon's own log; if there is one. */
export function parseAnchor(line: string): Anchor | undefined {
  const [, host, seq, hash, path] = PATTERN.exec(line) ?? [];
  if (host === undefined || hash === undefined || path === undefined) return undefined;
  try {
    return { host: decodeURI(host), seq: Number(seq), hash, path: decodeURI(path) };
  } catch {
    return undefined;
  }
}

/** An anchor that a log does not bear out. */
export interface AnchorContradiction {
  readonly seq: number;
  readonly expected: string;
  /** Null: the log ends before it. */
  readonly actual: string | null;
}

export interface AnchorReport {
  /** Anchors whose record is there, with the hash that they name. */
  readonly matched: number;
  /** Anchors for records that were not looked at: not in the range of an export. */
  readonly outside: number;
  /** At most CONTRADICTIONS_MAX of them, the oldest first. */
  readonly contradicted: readonly AnchorContradiction[];
  readonly contradictions: number;
}

const CONTRADICTIONS_MAX = 20;

/** The anchors of one log, compared with its records as they pass. */
export class AnchorBook {
  /** More than one hash for a record is what a rewritten log leaves behind. */
  readonly #bySeq = new Map<number, Set<string>>();
  #matched = 0;
  readonly #contradicted: AnchorContradiction[] = [];

  constructor(anchors: Iterable<Anchor>) {
    for (const { seq, hash } of anchors) {
      const hashes = this.#bySeq.get(seq) ?? new Set();
      this.#bySeq.set(seq, hashes.add(hash));
    }
  }

  /** A record of the log. */
  compare(record: { seq: number; hash: string }): void {
    const hashes = this.#bySeq.get(record.seq);
    if (hashes === undefined) return;
    this.#bySeq.delete(record.seq);
    for (const expected of hashes) {
      if (expected === record.hash) this.#matched += 1;
      else this.#contradicted.push({ seq: record.seq, expected, actual: record.hash });
    }
  }

  /** After the last record. `endSeq`: where the log ends, if that is known; else null. */
  report(endSeq: number | null): AnchorReport {
    let outside = 0;
    const contradicted = [...this.#contradicted];
    for (const [seq, hashes] of this.#bySeq) {
      if (endSeq === null || seq <= endSeq) outside += hashes.size;
      else for (const expected of hashes) contradicted.push({ seq, expected, actual: null });
    }
    contradicted.sort((a, b) => a.seq - b.seq);
    return {
      matched: this.#matched,
      outside,
      contradicted: contradicted.slice(0, CONTRADICTIONS_MAX),
      contradictions: contradicted.length,
    };
  }
}

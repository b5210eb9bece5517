// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import {
  decodeCopy,
  encodeCopy,
  hasMagic,
  headerSizeOf,
  isUuid,
  labelFits,
  versionOf,
} from './header-copy.js';
import type { CopyName, DecodedCopy } from './header-copy.js';
import { decodeJson, encodeJson, type JsonContents } from './json-area.js';
import { FOREIGN_HEADER_BYTES, HEADER_BYTES, LABEL_BYTES_MAX, SALT_BYTES } from './layout.js';
import {
  type AnyHeaderMetadata,
  type AnyToken,
  type HeaderMetadata,
  isOuterToken,
  type OuterHeaderMetadata,
} from './metadata.js';

/**
 * The two copies of a header as they lie on the store.
 *
 * To change a header: decode the pair; repair it if `repair` says so; then encode with seqid + 1,
 * write one copy, fsync, write the other, fsync. A crash at any point leaves one copy whole.
 */
export interface HeaderPair {
  readonly primary: Uint8Array;
  readonly secondary: Uint8Array;
}

export interface DecodedHeaderPair<Metadata extends AnyHeaderMetadata = HeaderMetadata> {
  readonly metadata: Metadata;
  readonly seqid: number;
  /**
   * The copy that must be written again (the same metadata and seqid, a new salt) before the header
   * is next changed: until then a crash could lose both.
   */
  readonly repair: 'none' | CopyName;
  /** What is wrong with the copy to be repaired: for the log. */
  readonly faults: Readonly<Partial<Record<CopyName, string>>>;
}

/**
 * Throws ERR_LUKS2_METADATA for contents that decoding would refuse, ERR_LUKS2_TOO_LARGE when they
 * do not fit. Salts are random, new for every write of each copy.
 */
export function encodeHeaderPair(
  metadata: AnyHeaderMetadata,
  options: {
    seqid: number;
    salts: { primary: Uint8Array; secondary: Uint8Array };
  },
): HeaderPair {
  const { seqid, salts } = options;
  if (!Number.isSafeInteger(seqid) || seqid < 1) {
    throw new Error(`encode LUKS2 header: seqid is ${seqid}, expected a positive safe integer`);
  }
  for (const [copy, salt] of Object.entries(salts)) {
    if (salt.length === SALT_BYTES) continue;
    throw new Error(
      `encode LUKS2 header: ${copy} salt is ${salt.length} bytes, expected ${SALT_BYTES}`,
    );
  }
  assertStrings(metadata);
  const { uuid, label, ...rest } = metadata;
  const json = encodeJson(rest);
  return {
    primary: encodeCopy('primary', { uuid, label, seqid, json, salt: salts.primary }),
    secondary: encodeCopy('secondary', { uuid, label, seqid, json, salt: salts.secondary }),
  };
}

/**
 * Reads the 16 KiB at the two copies' offsets; fewer bytes (a short store) count as damage. The
 * undamaged copy with the higher sequence number wins, and only its contents count: when it is not
 * ours to serve, the older copy is no way round that. ERR_LUKS2_LAYER for the outer container of a
 * disk that is encrypted twice.
 */
export function decodeHeaderPair(primary: Uint8Array, secondary: Uint8Array): DecodedHeaderPair {
  const { metadata, ...rest } = decodeAnyPair(primary, secondary);
  const { token } = metadata;
  if (isOuterToken(token)) throw layerError(token, 'the only or the inner');
  return { ...rest, metadata: { ...metadata, token } };
}

/** The same for the outer container of a disk that is encrypted twice. */
export function decodeOuterHeaderPair(
  primary: Uint8Array,
  secondary: Uint8Array,
): DecodedHeaderPair<OuterHeaderMetadata> {
  const { metadata, ...rest } = decodeAnyPair(primary, secondary);
  const { token } = metadata;
  if (!isOuterToken(token)) throw layerError(token, 'the outer');
  return { ...rest, metadata: { ...metadata, token } };
}

function layerError(token: AnyToken, expected: string): KeyholdError {
  const found = isOuterToken(token) ? 'the outer' : 'the only or the inner';
  return new KeyholdError(
    codes.ERR_LUKS2_LAYER,
    `decode LUKS2 header: it is ${found} container's, expected ${expected} container's`,
    { fields: { expected, actual: found } },
  );
}

function decodeAnyPair(
  primary: Uint8Array,
  secondary: Uint8Array,
): DecodedHeaderPair<AnyHeaderMetadata> {
  refuseOtherFormats(primary, secondary);
  const decode = decodeOnce();
  const first = decodeCopy('primary', primary, decode);
  const second = decodeCopy('secondary', secondary, decode);
  if (first.kind === 'invalid' && second.kind === 'invalid') {
    throw new KeyholdError(
      codes.ERR_LUKS2_DAMAGED,
      `decode LUKS2 header: primary copy: ${first.fault}; secondary copy: ${second.fault}`,
      { fields: { primary: first.fault, secondary: second.fault } },
    );
  }
  if (first.kind === 'invalid') return winner(second, 'primary', first.fault);
  if (second.kind === 'invalid') return winner(first, 'secondary', second.fault);
  const seqids = `seqid is ${Math.min(first.seqid, second.seqid)}, the other copy has`;
  if (first.seqid < second.seqid) return winner(second, 'primary', `${seqids} ${second.seqid}`);
  if (first.seqid > second.seqid) return winner(first, 'secondary', `${seqids} ${first.seqid}`);
  if (!sameContents(first, second)) {
    // No update leaves this behind. cryptsetup takes the primary copy here, and so does this.
    return winner(first, 'secondary', 'contents differ from the primary copy of equal seqid');
  }
  return winner(first, 'none', '');
}

function winner(
  copy: DecodedCopy,
  repair: DecodedHeaderPair['repair'],
  fault: string,
): DecodedHeaderPair<AnyHeaderMetadata> {
  if (copy.kind === 'foreign') throw copy.error;
  if (copy.kind === 'invalid') throw new Error('an invalid header copy cannot win');
  const faults = repair === 'none' ? {} : { [repair]: fault };
  return { metadata: copy.metadata, seqid: copy.seqid, repair, faults };
}

/** Stores that no version of Keyhold wrote, told apart by more than "damaged". */
function refuseOtherFormats(primary: Uint8Array, secondary: Uint8Array): void {
  const hasPrimary = hasMagic('primary', primary);
  const hasSecondary = hasMagic('secondary', secondary);
  if (!hasPrimary && !hasSecondary) {
    const found = Buffer.from(primary.subarray(0, 6)).toString('hex');
    throw new KeyholdError(
      codes.ERR_LUKS2_NOT_LUKS,
      `decode LUKS2 header: magic is ${found === '' ? 'missing' : found}, expected 4c554b53babe`,
    );
  }
  if (hasPrimary && versionOf(primary) === 1) {
    // Even beside an intact secondary: someone has formatted the store anew since.
    throw new KeyholdError(
      codes.ERR_LUKS2_VERSION,
      'decode LUKS2 header: LUKS version is 1, expected 2',
      { fields: { expected: 2, actual: 1 } },
    );
  }
  const size = headerSizeOf(primary);
  if (hasPrimary && !hasSecondary && FOREIGN_HEADER_BYTES.some((other) => BigInt(other) === size)) {
    throw new KeyholdError(
      codes.ERR_LUKS2_NOT_KEYHOLD,
      `decode LUKS2 header: hdr_size is ${size}, Keyhold writes ${HEADER_BYTES}`,
      { fields: { expected: HEADER_BYTES, actual: Number(size) } },
    );
  }
}

/** Sound copies have the same text, and checking it is most of what opening a disk costs. */
function decodeOnce(): typeof decodeJson {
  let last: { text: string; contents: JsonContents } | undefined;
  return (text) => {
    if (last?.text !== text) last = { text, contents: decodeJson(text) };
    return last.contents;
  };
}

function sameContents(first: DecodedCopy, second: DecodedCopy): boolean {
  if (first.kind === 'foreign' && second.kind === 'foreign') return true;
  if (first.kind !== 'valid' || second.kind !== 'valid') return false;
  const { uuid, label } = second.metadata;
  if (first.json === second.json) {
    return first.metadata.uuid === uuid && first.metadata.label === label;
  }
  return canonical(first.metadata) === canonical(second.metadata);
}

function canonical({ uuid, label, ...rest }: AnyHeaderMetadata): string {
  return JSON.stringify([uuid, label, encodeJson(rest)]);
}

function assertStrings(metadata: AnyHeaderMetadata): void {
  if (!isUuid(metadata.uuid)) {
    throw new KeyholdError(
      codes.ERR_LUKS2_METADATA,
      `encode LUKS2 header: uuid is ${JSON.stringify(metadata.uuid)}, expected a uuid`,
    );
  }
  if (!labelFits(metadata.label)) {
    throw new KeyholdError(
      codes.ERR_LUKS2_METADATA,
      `encode LUKS2 header: label is ${Buffer.byteLength(metadata.label)} bytes, ` +
        `expected at most ${LABEL_BYTES_MAX} of UTF-8 without zero bytes`,
    );
  }
}

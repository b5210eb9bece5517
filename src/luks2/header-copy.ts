// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import { decodeJson } from './json-area.js';
import {
  BINARY_HEADER_BYTES,
  HEADER_BYTES,
  JSON_AREA_BYTES,
  LABEL_BYTES_MAX,
  PRIMARY_OFFSET_BYTES,
  SALT_BYTES,
  SECONDARY_OFFSET_BYTES,
} from './layout.js';
import type { AnyHeaderMetadata } from './metadata.js';

/*
 * The binary header, big-endian, 4096 bytes:
 *
 *   0 magic[6]   6 version u16   8 hdr_size u64   16 seqid u64   24 label[48]   72 csum_alg[32]
 *   104 salt[64]   168 uuid[40]   208 subsystem[48]   256 hdr_offset u64   264 padding[184]
 *   448 csum[64]   512 padding
 */
const FIELD = {
  version: 6,
  headerSize: 8,
  seqid: 16,
  label: { offset: 24, length: 48 },
  checksumAlgorithm: { offset: 72, length: 32 },
  salt: { offset: 104, length: SALT_BYTES },
  uuid: { offset: 168, length: 40 },
  subsystem: { offset: 208, length: 48 },
  headerOffset: 256,
  checksum: { offset: 448, length: 64 },
} as const;

const LUKS_VERSION = 2;
const CHECKSUM_ALGORITHM = 'sha256';
const CHECKSUM_BYTES = 32;
const SUBSYSTEM = 'keyhold';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export type CopyName = 'primary' | 'secondary';

const COPY = {
  primary: { magic: Buffer.from('LUKS\xba\xbe', 'latin1'), offsetBytes: PRIMARY_OFFSET_BYTES },
  secondary: { magic: Buffer.from('SKUL\xba\xbe', 'latin1'), offsetBytes: SECONDARY_OFFSET_BYTES },
} as const;

const ZEROES = Buffer.alloc(JSON_AREA_BYTES);

interface StringField {
  readonly offset: number;
  readonly length: number;
}

/** What one copy turned out to be. */
export type DecodedCopy =
  | {
      readonly kind: 'valid';
      readonly seqid: number;
      readonly metadata: AnyHeaderMetadata;
      /** The text of the JSON area, from which the metadata were read. */
      readonly json: string;
    }
  /** Undamaged, but not ours to serve or repair. */
  | { readonly kind: 'foreign'; readonly seqid: number; readonly error: KeyholdError }
  | { readonly kind: 'invalid'; readonly fault: string };

/** One copy of a header; `json` must already have passed `encodeJson`. */
export function encodeCopy(
  copy: CopyName,
  header: { uuid: string; label: string; seqid: number; salt: Uint8Array; json: string },
): Uint8Array {
  const jsonBytes = Buffer.from(header.json);
  if (jsonBytes.length >= JSON_AREA_BYTES) {
    throw new KeyholdError(
      codes.ERR_LUKS2_TOO_LARGE,
      `encode LUKS2 header: JSON is ${jsonBytes.length} bytes, room is for ${JSON_AREA_BYTES - 1}`,
      { fields: { expected: JSON_AREA_BYTES - 1, actual: jsonBytes.length } },
    );
  }
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.set(COPY[copy].magic, 0);
  bytes.writeUInt16BE(LUKS_VERSION, FIELD.version);
  bytes.writeBigUInt64BE(BigInt(HEADER_BYTES), FIELD.headerSize);
  bytes.writeBigUInt64BE(BigInt(header.seqid), FIELD.seqid);
  bytes.write(header.label, FIELD.label.offset);
  bytes.write(CHECKSUM_ALGORITHM, FIELD.checksumAlgorithm.offset);
  bytes.set(header.salt, FIELD.salt.offset);
  bytes.write(header.uuid, FIELD.uuid.offset);
  bytes.write(SUBSYSTEM, FIELD.subsystem.offset);
  bytes.writeBigUInt64BE(BigInt(COPY[copy].offsetBytes), FIELD.headerOffset);
  bytes.set(jsonBytes, BINARY_HEADER_BYTES);
  bytes.set(checksumOf(bytes), FIELD.checksum.offset);
  return new Uint8Array(bytes);
}

/** `decode` reads the JSON text: whoever reads both copies need not read one text twice. */
export function decodeCopy(
  copy: CopyName,
  bytes: Uint8Array,
  decode: typeof decodeJson = decodeJson,
): DecodedCopy {
  const view = viewOf(bytes);
  const binaryFault = checkBinaryHeader(copy, view);
  if (binaryFault !== undefined) return { kind: 'invalid', fault: binaryFault };
  const seqid = Number(view.readBigUInt64BE(FIELD.seqid));
  const json = readJsonArea(view);
  if ('fault' in json) return { kind: 'invalid', fault: json.fault };
  const contents = decode(json.text);
  if (contents.kind === 'foreign') return { kind: 'foreign', seqid, error: contents.error };
  if (contents.kind === 'invalid') return contents;
  const label = readString(view, FIELD.label);
  const uuid = readString(view, FIELD.uuid);
  if (label === undefined) return { kind: 'invalid', fault: 'label is not terminated UTF-8' };
  if (uuid === undefined || !UUID.test(uuid)) {
    return { kind: 'invalid', fault: `uuid is ${JSON.stringify(uuid ?? null)}, expected a uuid` };
  }
  const metadata = { uuid, label, ...contents.metadata };
  return { kind: 'valid', seqid, metadata, json: json.text };
}

export function hasMagic(copy: CopyName, bytes: Uint8Array): boolean {
  const { magic } = COPY[copy];
  return magic.equals(viewOf(bytes).subarray(0, magic.length));
}

/** The `version` field, or undefined where the bytes end before it. */
export function versionOf(bytes: Uint8Array): number | undefined {
  return bytes.length < FIELD.version + 2 ? undefined : viewOf(bytes).readUInt16BE(FIELD.version);
}

/** The `hdr_size` field, or undefined where the bytes end before it. */
export function headerSizeOf(bytes: Uint8Array): bigint | undefined {
  if (bytes.length < FIELD.headerSize + 8) return undefined;
  return viewOf(bytes).readBigUInt64BE(FIELD.headerSize);
}

/** True when the strings fit their fields; the reader's checks, made before writing. */
export function labelFits(label: string): boolean {
  return Buffer.byteLength(label) <= LABEL_BYTES_MAX && !/[\0\p{Cs}]/u.test(label);
}

export function isUuid(uuid: string): boolean {
  return UUID.test(uuid);
}

function checkBinaryHeader(copy: CopyName, view: Buffer): string | undefined {
  if (view.length !== HEADER_BYTES) return `is ${view.length} bytes, expected ${HEADER_BYTES}`;
  if (!hasMagic(copy, view)) {
    return `magic is ${view.toString('hex', 0, 6)}, expected ${COPY[copy].magic.toString('hex')}`;
  }
  const version = view.readUInt16BE(FIELD.version);
  if (version !== LUKS_VERSION) return `version is ${version}, expected ${LUKS_VERSION}`;
  const size = view.readBigUInt64BE(FIELD.headerSize);
  if (size !== BigInt(HEADER_BYTES)) return `hdr_size is ${size}, expected ${HEADER_BYTES}`;
  const offset = view.readBigUInt64BE(FIELD.headerOffset);
  const expectedOffset = COPY[copy].offsetBytes;
  if (offset !== BigInt(expectedOffset)) {
    return `hdr_offset is ${offset}, expected ${expectedOffset}`;
  }
  const algorithm = readString(view, FIELD.checksumAlgorithm);
  if (algorithm !== CHECKSUM_ALGORITHM) {
    return `csum_alg is ${JSON.stringify(algorithm ?? null)}, expected "${CHECKSUM_ALGORITHM}"`;
  }
  const stored = view.subarray(FIELD.checksum.offset, FIELD.checksum.offset + CHECKSUM_BYTES);
  const computed = checksumOf(view);
  if (!computed.equals(stored)) {
    return `checksum is ${stored.toString('hex')}, computed ${computed.toString('hex')}`;
  }
  const seqid = view.readBigUInt64BE(FIELD.seqid);
  if (seqid > BigInt(Number.MAX_SAFE_INTEGER)) {
    return `seqid is ${seqid}, expected at most ${Number.MAX_SAFE_INTEGER}`;
  }
  return undefined;
}

/** The JSON text: from the area's start to its first zero byte; only zeros may follow. */
function readJsonArea(view: Buffer): { text: string } | { fault: string } {
  const area = view.subarray(BINARY_HEADER_BYTES);
  const end = area.indexOf(0);
  if (end === -1) return { fault: 'JSON area has no terminating zero' };
  if (!area.subarray(end).equals(ZEROES.subarray(end))) {
    return { fault: 'JSON area has bytes after its terminating zero, expected none' };
  }
  const text = decodeUtf8(area.subarray(0, end));
  return text === undefined ? { fault: 'JSON area is not UTF-8' } : { text };
}

function readString(view: Buffer, field: StringField): string | undefined {
  const bytes = view.subarray(field.offset, field.offset + field.length);
  const end = bytes.indexOf(0);
  return end === -1 ? undefined : decodeUtf8(bytes.subarray(0, end));
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** SHA-256 over the whole copy with the checksum's own field taken as zeros. */
function checksumOf(view: Buffer): Buffer {
  const { offset, length } = FIELD.checksum;
  return createHash('sha256')
    .update(view.subarray(0, offset))
    .update(Buffer.alloc(length))
    .update(view.subarray(offset + length))
    .digest();
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

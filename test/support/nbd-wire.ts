// SPDX-License-Identifier: Apache-2.0

/*
 * The NBD protocol as a client sees it, written from the protocol document and on purpose not from
 * src/nbd: a wrong constant there must not be wrong here as well.
 */

export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  PEEK_EXPORT: 4,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

export const REP = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_POLICY: 0x80000002,
  ERR_INVALID: 0x80000003,
  ERR_PLATFORM: 0x80000004,
  ERR_TLS_REQD: 0x80000005,
  ERR_UNKNOWN: 0x80000006,
  ERR_SHUTDOWN: 0x80000007,
  ERR_BLOCK_SIZE_REQD: 0x80000008,
  ERR_TOO_BIG: 0x80000009,
  ERR_EXT_HEADER_REQD: 0x8000000a,
} as const;

export const INFO_ID = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const CMD_FLAG = {
  FUA: 1,
  NO_HOLE: 2,
  DF: 4,
  REQ_ONE: 8,
  FAST_ZERO: 16,
  PAYLOAD_LEN: 32,
} as const;

/** Bits of the transmission flags. */
export const EXPORT_FLAG = {
  HAS_FLAGS: 1,
  READ_ONLY: 2,
  SEND_FLUSH: 4,
  SEND_FUA: 8,
  ROTATIONAL: 16,
  SEND_TRIM: 32,
  SEND_WRITE_ZEROES: 64,
  SEND_DF: 128,
  CAN_MULTI_CONN: 256,
  SEND_CACHE: 1024,
  SEND_FAST_ZERO: 2048,
  BLOCK_STATUS_PAYLOAD: 4096,
} as const;

export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

export const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;

export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** A server did what the protocol forbids. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation';
}

export function demand(holds: boolean, violation: string): asserts holds {
  if (!holds) throw new ProtocolViolation(violation);
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

export function encodeClientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(flags, 0);
  return bytes;
}

/** An option; `lengthBytes` may lie about the data that follows. */
export function encodeOption(
  option: number,
  data: Buffer = Buffer.alloc(0),
  lengthBytes?: number,
): Buffer {
  const head = Buffer.alloc(16);
  head.write('IHAVEOPT', 0, 'latin1');
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(lengthBytes ?? data.length, 12);
  return Buffer.concat([head, data]);
}

/** Data of INFO and GO. */
export function encodeInfoData(name: string | Buffer, infos: readonly number[] = []): Buffer {
  const nameBytes = Buffer.from(name);
  const bytes = Buffer.alloc(6 + nameBytes.length + 2 * infos.length);
  bytes.writeUInt32BE(nameBytes.length, 0);
  bytes.set(nameBytes, 4);
  bytes.writeUInt16BE(infos.length, 4 + nameBytes.length);
  for (const [index, id] of infos.entries()) {
    bytes.writeUInt16BE(id, 6 + nameBytes.length + 2 * index);
  }
  return bytes;
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function encodeMetaContextData(name: string, queries: readonly string[]): Buffer {
  const counted = (text: string): Buffer => {
    const bytes = Buffer.from(text);
    return Buffer.concat([encodeUint32(bytes.length), bytes]);
  };
  return Buffer.concat([counted(name), encodeUint32(queries.length), ...queries.map(counted)]);
}

export function encodeUint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}

/** Data of REP_META_CONTEXT. */
export function parseMetaContext(data: Buffer): { id: number; name: string } {
  demand(data.length > 4, `REP_META_CONTEXT has ${data.length} bytes`);
  return { id: data.readUInt32BE(0), name: data.toString('utf8', 4) };
}

export interface RequestHead {
  readonly command: number;
  readonly flags?: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: number | bigint;
}

/** A compact request. */
export function encodeRequest(head: RequestHead): Buffer {
  const bytes = Buffer.alloc(28);
  encodeRequestStart(bytes, 0x25609513, head);
  bytes.writeUInt32BE(Number(head.length), 24);
  return bytes;
}

/** A request with an extended header. */
export function encodeExtendedRequest(head: RequestHead): Buffer {
  const bytes = Buffer.alloc(32);
  encodeRequestStart(bytes, 0x21e41c71, head);
  bytes.writeBigUInt64BE(BigInt(head.length), 24);
  return bytes;
}

function encodeRequestStart(bytes: Buffer, magic: number, head: RequestHead): void {
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt16BE(head.flags ?? 0, 4);
  bytes.writeUInt16BE(head.command, 6);
  bytes.writeBigUInt64BE(head.cookie, 8);
  bytes.writeBigUInt64BE(head.offset, 16);
}

/** The server's first 18 bytes; gives its handshake flags. */
export function parseHello(bytes: Buffer): number {
  demand(bytes.toString('latin1', 0, 8) === 'NBDMAGIC', 'hello does not begin with NBDMAGIC');
  demand(bytes.toString('latin1', 8, 16) === 'IHAVEOPT', 'hello lacks IHAVEOPT');
  const flags = bytes.readUInt16BE(16);
  demand((flags & ~3) === 0, `handshake flags 0x${flags.toString(16)} have unknown bits`);
  return flags;
}

/** The head of an option reply: 20 bytes. */
export function parseOptionReplyHead(head: Buffer): {
  option: number;
  type: number;
  length: number;
} {
  const magic = head.readBigUInt64BE(0);
  demand(magic === 0x3e889045565a9n, `option reply magic is 0x${magic.toString(16)}`);
  const length = head.readUInt32BE(16);
  demand(length <= 16_384, `option reply has ${length} bytes of data`);
  return { option: head.readUInt32BE(8), type: head.readUInt32BE(12), length };
}

/** A run of whole option replies, as a state machine's output has them. */
export function parseOptionReplies(bytes: Uint8Array): OptionReply[] {
  let rest = Buffer.from(bytes);
  const replies: OptionReply[] = [];
  while (rest.length > 0) {
    demand(rest.length >= 20, `${rest.length} bytes are left over after the last option reply`);
    const { option, type, length } = parseOptionReplyHead(rest);
    demand(rest.length >= 20 + length, 'option reply is cut');
    replies.push({ option, type, data: rest.subarray(20, 20 + length) });
    rest = rest.subarray(20 + length);
  }
  return replies;
}

export interface ExportFacts {
  readonly sizeBytes: bigint;
  readonly flags: number;
  readonly name?: string;
  readonly description?: string;
  readonly blockSize?: { readonly min: number; readonly preferred: number; readonly max: number };
}

/** The facts in the REP_INFO items of one INFO or GO. */
export function parseInfoItems(items: readonly Buffer[]): ExportFacts {
  let facts: Partial<ExportFacts> = {};
  for (const item of items) {
    demand(item.length >= 2, 'information item is shorter than its type');
    facts = { ...facts, ...parseInfoItem(item.readUInt16BE(0), item) };
  }
  const { sizeBytes, flags } = facts;
  demand(sizeBytes !== undefined && flags !== undefined, 'INFO_EXPORT is missing');
  return { ...facts, sizeBytes, flags };
}

function parseInfoItem(id: number, item: Buffer): Partial<ExportFacts> {
  switch (id) {
    case INFO_ID.EXPORT: {
      demand(item.length === 12, `INFO_EXPORT has ${item.length} bytes`);
      const flags = item.readUInt16BE(10);
      demand((flags & 1) === 1, 'transmission flags lack HAS_FLAGS');
      return { sizeBytes: item.readBigUInt64BE(2), flags };
    }
    case INFO_ID.NAME:
      return { name: item.toString('utf8', 2) };
    case INFO_ID.DESCRIPTION:
      return { description: item.toString('utf8', 2) };
    case INFO_ID.BLOCK_SIZE: {
      demand(item.length === 14, `INFO_BLOCK_SIZE has ${item.length} bytes`);
      const blockSize = {
        min: item.readUInt32BE(2),
        preferred: item.readUInt32BE(6),
        max: item.readUInt32BE(10),
      };
      checkBlockSize(blockSize);
      return { blockSize };
    }
    default:
      return {};
  }
}

function checkBlockSize({ min, preferred, max }: { min: number; preferred: number; max: number }) {
  const isPowerOf2 = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
  demand(isPowerOf2(min) && min <= 65_536, `minimum block size is ${min}`);
  demand(
    isPowerOf2(preferred) && preferred >= Math.max(min, 512),
    `preferred block size is ${preferred}`,
  );
  demand(max >= preferred, `maximum payload is ${max}, below the preferred block size`);
}

/** Data of REP_SERVER. */
export function parseServerData(data: Buffer): { name: string; description: string } {
  demand(data.length >= 4, 'REP_SERVER is shorter than its name length');
  const length = data.readUInt32BE(0);
  demand(length <= data.length - 4, 'REP_SERVER has a name longer than its data');
  return {
    name: data.toString('utf8', 4, 4 + length),
    description: data.toString('utf8', 4 + length),
  };
}

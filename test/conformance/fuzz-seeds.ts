// SPDX-License-Identifier: Apache-2.0
import { CMD, CMD_FLAG, encodeExtendedRequest, encodeRequest } from '../support/nbd-wire.js';

/*
 * The seeds of native/fuzz: valid and nearly valid streams of requests, so that the fuzzer starts
 * behind the magic numbers. Layout of an input: see Mode in native/fuzz/session_fuzz.cc.
 */

const SIMPLE = 0;
const STRUCTURED = 1;
const EXTENDED = 3;
const READ_ONLY = 4;
const SECTORS_4096 = 8;
const NO_HOLES = 16;
/** base:allocation is selected, with id 7. */
const CONTEXT = 32;
const KEY = { kept: 0, absent: 0xfd, suspended: 0xfe, revoked: 0xff } as const;
const DISK_BYTES = 9 * 4096;

interface Seed {
  readonly mode: number;
  /** Bytes that come with the option that ends negotiation. */
  readonly cut?: number;
  readonly key?: number;
  readonly stream: readonly Buffer[];
}

interface Sent {
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number | bigint;
}

function request(command: number, { flags = 0, offset = 0, length = 0 }: Sent = {}): Buffer {
  return encodeRequest({ command, flags, cookie: 0n, offset: BigInt(offset), length });
}

function write(offset: number, payload: Buffer, flags = 0): Buffer {
  return Buffer.concat([request(CMD.WRITE, { flags, offset, length: payload.length }), payload]);
}

const read = (offset: number, length: number, flags = 0): Buffer =>
  request(CMD.READ, { flags, offset, length });
const DISC = request(CMD.DISC);
const BLOCK = Buffer.alloc(512, 0xa5);

/** One of every command, with every flag that it takes. */
const everything: readonly Buffer[] = [
  write(512, BLOCK),
  write(1024, BLOCK, CMD_FLAG.FUA),
  read(0, 4096),
  read(512, 1024, CMD_FLAG.FUA),
  request(CMD.FLUSH),
  request(CMD.TRIM, { offset: 4096, length: 4096 }),
  request(CMD.WRITE_ZEROES, { offset: 8192, length: 4096 }),
  request(CMD.WRITE_ZEROES, { offset: 8192, length: 4096, flags: CMD_FLAG.NO_HOLE }),
  request(CMD.WRITE_ZEROES, { offset: 0, length: 512, flags: CMD_FLAG.FAST_ZERO }),
  request(CMD.CACHE, { offset: 0, length: 4096 }),
  request(CMD.BLOCK_STATUS, { offset: 0, length: DISK_BYTES }),
  request(CMD.BLOCK_STATUS, { offset: 0, length: 4096, flags: CMD_FLAG.REQ_ONE }),
  DISC,
];

const unaligned: readonly Buffer[] = [
  write(1, Buffer.alloc(3, 1)),
  write(511, Buffer.alloc(1026, 2)),
  read(510, 5),
  request(CMD.WRITE_ZEROES, { offset: 100, length: 5000 }),
  request(CMD.TRIM, { offset: 513, length: 8191 }),
  read(0, DISK_BYTES),
  DISC,
];

const bounds: readonly Buffer[] = [
  read(DISK_BYTES - 1, 1),
  read(DISK_BYTES, 0),
  read(DISK_BYTES, 1),
  request(CMD.READ, { offset: 2n ** 64n - 1n, length: 1 }),
  request(CMD.READ, { offset: 0, length: 0xffffffff }),
  request(CMD.WRITE_ZEROES, { offset: 2n ** 63n, length: 0x80000000 }),
  request(CMD.TRIM, { offset: 0, length: 0xffffffff }),
  write(DISK_BYTES - 256, BLOCK),
  request(CMD.FLUSH, { offset: 1 }),
  request(CMD.FLUSH, { length: 1 }),
  request(99, { length: 512 }),
  read(0, 512, 0x8000),
  DISC,
];

const overlapping: readonly Buffer[] = Array.from({ length: 24 }, (_, index) =>
  index % 3 === 0 ? write(index * 100, Buffer.alloc(700, index)) : read(index * 64, 2000),
);

/** With extended headers: a payload follows exactly if the flag says so. */
function extended(command: number, sent: Sent = {}, payload?: Buffer): Buffer {
  const flags = (sent.flags ?? 0) | (payload === undefined ? 0 : CMD_FLAG.PAYLOAD_LEN);
  const length = payload?.length ?? sent.length ?? 0;
  const offset = BigInt(sent.offset ?? 0);
  const head = encodeExtendedRequest({ command, flags, cookie: 0n, offset, length });
  return Buffer.concat([head, payload ?? Buffer.alloc(0)]);
}

/** BLOCK_STATUS that names contexts. */
function statusOf(lengthBytes: number, ids: readonly number[], flags = 0): Buffer {
  const payload = Buffer.alloc(8 + 4 * ids.length);
  payload.writeBigUInt64BE(BigInt(lengthBytes), 0);
  ids.forEach((id, index) => payload.writeUInt32BE(id, 8 + 4 * index));
  return extended(CMD.BLOCK_STATUS, { flags }, payload);
}

const ALL = { offset: 0, length: DISK_BYTES };

/** Data, holes, and every way to ask for them. */
const sparse: readonly Buffer[] = [
  write(4096, Buffer.alloc(4096, 3)),
  write(20_000, Buffer.alloc(700, 4)),
  request(CMD.BLOCK_STATUS, ALL),
  request(CMD.BLOCK_STATUS, { offset: 100, length: 9000, flags: CMD_FLAG.REQ_ONE }),
  request(CMD.READ, ALL),
  request(CMD.READ, { ...ALL, flags: CMD_FLAG.DF }),
  request(CMD.WRITE_ZEROES, { offset: 5, length: 100, flags: CMD_FLAG.FAST_ZERO }),
  request(CMD.WRITE_ZEROES, { offset: 5, length: 9000, flags: CMD_FLAG.FAST_ZERO }),
  request(CMD.BLOCK_STATUS, { offset: 0, length: 0 }),
  request(CMD.BLOCK_STATUS, { offset: 1, length: DISK_BYTES }),
  request(CMD.READ, ALL),
];

const everythingExtended: readonly Buffer[] = [
  extended(CMD.WRITE, { offset: 4096 }, Buffer.alloc(4096, 5)),
  extended(CMD.WRITE, { offset: 20_001, flags: CMD_FLAG.FUA }, Buffer.alloc(700, 6)),
  extended(CMD.READ, ALL),
  extended(CMD.READ, { ...ALL, flags: CMD_FLAG.DF }),
  extended(CMD.BLOCK_STATUS, ALL),
  extended(CMD.BLOCK_STATUS, { offset: 77, length: 9000, flags: CMD_FLAG.REQ_ONE }),
  statusOf(DISK_BYTES, [7]),
  statusOf(100, [7], CMD_FLAG.REQ_ONE),
  extended(CMD.CACHE, ALL),
  extended(CMD.FLUSH),
  extended(CMD.WRITE_ZEROES, { offset: 700, length: 9000, flags: CMD_FLAG.FAST_ZERO }),
  extended(CMD.WRITE_ZEROES, { offset: 0, length: 4096, flags: CMD_FLAG.NO_HOLE }),
  extended(CMD.TRIM, { offset: 1, length: DISK_BYTES - 1 }),
  extended(CMD.READ, ALL),
];

const refusedExtended: readonly Buffer[] = [
  extended(CMD.READ, {}, Buffer.alloc(100, 7)),
  extended(99, {}, Buffer.alloc(33, 8)),
  extended(CMD.FLUSH, {}, Buffer.alloc(0)),
  extended(CMD.WRITE, { length: 4096 }),
  extended(CMD.TRIM, {}, Buffer.alloc(5, 9)),
  statusOf(DISK_BYTES, []),
  statusOf(DISK_BYTES, [8]),
  statusOf(DISK_BYTES, [7, 7]),
  statusOf(DISK_BYTES + 1, [7]),
  statusOf(0, [7]),
  extended(CMD.BLOCK_STATUS, {}, Buffer.alloc(3)),
  extended(CMD.TRIM, { length: 2n ** 40n }),
  extended(CMD.WRITE_ZEROES, { offset: 2n ** 63n, length: 2n ** 63n }),
  extended(CMD.READ, { length: 2n ** 33n }),
  extended(CMD.CACHE, { length: 2n ** 64n - 1n }),
  extended(CMD.READ, { length: 512 }),
];

export const SESSION_SEEDS: Readonly<Record<string, Seed>> = {
  'simple-everything': { mode: SIMPLE, stream: everything },
  'structured-everything': { mode: STRUCTURED, stream: everything },
  'read-only-everything': { mode: STRUCTURED | READ_ONLY, stream: everything },
  'no-holes-everything': { mode: STRUCTURED | NO_HOLES | SECTORS_4096, stream: everything },
  'simple-unaligned': { mode: SIMPLE, stream: unaligned },
  'structured-unaligned-4096': { mode: STRUCTURED | SECTORS_4096, stream: unaligned },
  'no-holes-unaligned': { mode: SIMPLE | NO_HOLES, stream: unaligned },
  'simple-bounds': { mode: SIMPLE, stream: bounds },
  'structured-bounds': { mode: STRUCTURED, stream: bounds },
  'structured-overlapping': { mode: STRUCTURED, stream: overlapping },
  'leftover-with-half-a-header': { mode: STRUCTURED, cut: 40, stream: everything },
  'key-absent': { mode: STRUCTURED, key: KEY.absent, stream: everything },
  'key-suspended': { mode: STRUCTURED, key: KEY.suspended, stream: overlapping },
  'key-revoked': { mode: STRUCTURED, key: KEY.revoked, stream: overlapping },
  'key-revoked-unaligned': { mode: SIMPLE | SECTORS_4096, key: KEY.revoked, stream: unaligned },
  'write-cut-short': { mode: SIMPLE, stream: [write(0, BLOCK).subarray(0, 300)] },
  'header-cut-short': { mode: SIMPLE, stream: [read(0, 512), read(0, 512).subarray(0, 27)] },
  'write-too-long': {
    mode: STRUCTURED,
    stream: [read(0, 512), request(CMD.WRITE, { length: 33_554_433 })],
  },
  'refused-write-is-skipped': {
    mode: STRUCTURED | READ_ONLY,
    stream: [write(0, BLOCK), write(DISK_BYTES, BLOCK, 0x40), read(0, 512), DISC],
  },
  'structured-sparse': { mode: STRUCTURED | CONTEXT, stream: sparse },
  'structured-without-context': { mode: STRUCTURED, stream: sparse },
  'simple-sparse': { mode: SIMPLE | CONTEXT, stream: sparse },
  'extended-everything': { mode: EXTENDED | CONTEXT, stream: everythingExtended },
  'extended-4096': { mode: EXTENDED | CONTEXT | SECTORS_4096, stream: everythingExtended },
  'extended-no-holes': { mode: EXTENDED | CONTEXT | NO_HOLES, stream: everythingExtended },
  'extended-read-only': { mode: EXTENDED | CONTEXT | READ_ONLY, stream: everythingExtended },
  'extended-refused': { mode: EXTENDED | CONTEXT, stream: refusedExtended },
  'extended-without-context': { mode: EXTENDED, stream: refusedExtended },
  'extended-key-absent': { mode: EXTENDED | CONTEXT, key: KEY.absent, stream: everythingExtended },
  'extended-key-suspended': {
    mode: EXTENDED | CONTEXT,
    key: KEY.suspended,
    stream: [...everythingExtended, ...everythingExtended],
  },
  'extended-key-revoked': {
    mode: EXTENDED | CONTEXT,
    key: KEY.revoked,
    stream: [...everythingExtended, ...everythingExtended],
  },
  'extended-cut': { mode: EXTENDED | CONTEXT, cut: 40, stream: [statusOf(DISK_BYTES, [7])] },
  'extended-payload-too-long': {
    mode: EXTENDED,
    stream: [extended(CMD.READ, { flags: CMD_FLAG.PAYLOAD_LEN, length: 33_554_433 })],
  },
  'bad-magic': { mode: STRUCTURED, stream: [read(0, 512), Buffer.alloc(28, 0x25)] },
  'bytes-after-disc': { mode: SIMPLE, stream: [read(0, 512), DISC, read(0, 512)] },
};

export function encodeSessionSeed({ mode, cut = 0, key = KEY.kept, stream }: Seed): Buffer {
  return Buffer.concat([Buffer.from([mode, cut, key]), ...stream]);
}

/** Inputs of native/fuzz/validate_fuzz.cc: flags, size of the disk, one request. */
function validateSeed(flags: number, sizeBytes: number | bigint, header: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUInt8(flags, 0);
  head.writeBigUInt64BE(BigInt(sizeBytes), 1);
  return Buffer.concat([head, header]);
}

export const VALIDATE_SEEDS: Readonly<Record<string, Buffer>> = {
  read: validateSeed(0, DISK_BYTES, read(0, 512)),
  'read-df': validateSeed(1, DISK_BYTES, read(0, 512, CMD_FLAG.DF)),
  'read-too-long': validateSeed(1, 2 ** 40, read(0, 33_554_433)),
  'write-past-end': validateSeed(0, 512, request(CMD.WRITE, { offset: 1, length: 512 })),
  'write-read-only': validateSeed(2, 512, request(CMD.WRITE, { length: 512 })),
  flush: validateSeed(0, 512, request(CMD.FLUSH)),
  'trim-wraps': validateSeed(
    0,
    2n ** 63n - 1n,
    request(CMD.TRIM, { offset: 2n ** 64n - 1n, length: 1 }),
  ),
  cache: validateSeed(0, DISK_BYTES, request(CMD.CACHE, ALL)),
  status: validateSeed(9, DISK_BYTES, request(CMD.BLOCK_STATUS, { ...ALL, flags: 8 })),
  'status-payload': validateSeed(12, DISK_BYTES, statusOf(512, [7])),
  'write-extended': validateSeed(4, 2 ** 40, extended(CMD.WRITE, { offset: 2 ** 33 }, BLOCK)),
  'read-extended-too-long': validateSeed(4, 2 ** 40, extended(CMD.READ, { length: 2n ** 33n })),
  'fast-zero-unaligned': validateSeed(
    36,
    DISK_BYTES,
    extended(CMD.WRITE_ZEROES, { offset: 1, length: 8190, flags: CMD_FLAG.FAST_ZERO }),
  ),
  'zeroes-no-hole': validateSeed(
    1,
    512,
    request(CMD.WRITE_ZEROES, { length: 512, flags: CMD_FLAG.NO_HOLE }),
  ),
};

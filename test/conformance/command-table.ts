// SPDX-License-Identifier: Apache-2.0
import type { ReplyKind } from '../support/nbd-chunk-rules.js';
import type { Request } from '../support/nbd-client.js';
import { CMD, CMD_FLAG, ERRNO, EXPORT_FLAG } from '../support/nbd-wire.js';
import { SIZE_BYTES } from './targets.js';

/*
 * The protocol's table of commands: what a request must be answered with, derived from the protocol
 * document and from what the server itself advertised, never from a server's code.
 */

export interface Row {
  readonly name: string;
  readonly request: Request;
  /** Errors that a correct server may answer; 0 is success. */
  readonly allowed: readonly number[];
}

/** What an expectation depends on. */
export interface Circumstances {
  readonly replies: ReplyKind;
  /** Transmission flags that the server advertised. */
  readonly advertised: number;
  readonly hasContext: boolean;
}

const { EPERM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP } = ERRNO;
const BLOCK = 512;

export const COMMANDS: readonly (readonly [string, number])[] = [
  ['READ', CMD.READ],
  ['WRITE', CMD.WRITE],
  ['FLUSH', CMD.FLUSH],
  ['TRIM', CMD.TRIM],
  ['CACHE', CMD.CACHE],
  ['WRITE_ZEROES', CMD.WRITE_ZEROES],
  ['BLOCK_STATUS', CMD.BLOCK_STATUS],
  ['command 8', 8],
  ['command 9', 9],
  ['command 65535', 65_535],
];

const isFlush = (command: number): boolean => command === CMD.FLUSH;
const writes = (command: number): boolean =>
  command === CMD.WRITE || command === CMD.TRIM || command === CMD.WRITE_ZEROES;

/** Whether the server can be expected to know the command at all. */
function known(command: number, { advertised, hasContext, replies }: Circumstances): boolean {
  const offers = (flag: number): boolean => (advertised & flag) !== 0;
  switch (command) {
    case CMD.READ:
    case CMD.WRITE:
      return true;
    case CMD.FLUSH:
      return offers(EXPORT_FLAG.SEND_FLUSH);
    case CMD.TRIM:
      return offers(EXPORT_FLAG.SEND_TRIM);
    case CMD.CACHE:
      return offers(EXPORT_FLAG.SEND_CACHE);
    case CMD.WRITE_ZEROES:
      return offers(EXPORT_FLAG.SEND_WRITE_ZEROES);
    case CMD.BLOCK_STATUS:
      return hasContext && replies !== 'simple';
    default:
      return false;
  }
}

/** Flags that a command takes besides FUA, which every command takes. */
function takenFlags(command: number, { advertised, replies }: Circumstances): number {
  const offers = (flag: number): boolean => (advertised & flag) !== 0;
  const fastZero = offers(EXPORT_FLAG.SEND_FAST_ZERO) ? CMD_FLAG.FAST_ZERO : 0;
  const payload = replies === 'extended' ? CMD_FLAG.PAYLOAD_LEN : 0;
  switch (command) {
    case CMD.READ:
      return offers(EXPORT_FLAG.SEND_DF) ? CMD_FLAG.DF : 0;
    case CMD.WRITE:
      return payload;
    case CMD.WRITE_ZEROES:
      return CMD_FLAG.NO_HOLE | fastZero;
    case CMD.BLOCK_STATUS:
      return CMD_FLAG.REQ_ONE;
    default:
      return 0;
  }
}

/** Every command with no flag, each single flag, and all flags at once. */
export function flagRows(on: Circumstances): Row[] {
  const singles = Array.from({ length: 16 }, (_, bit) => 1 << bit);
  return COMMANDS.flatMap(([name, command]) =>
    [0, ...singles, 0xffff].map((flags) => ({
      name: `${name} with flags 0x${flags.toString(16)}`,
      request: makeRequest(command, flags, on.replies),
      allowed: flagAnswers(command, flags, on),
    })),
  );
}

function makeRequest(command: number, flags: number, replies: ReplyKind): Request {
  const length = isFlush(command) ? 0 : BLOCK;
  // With extended headers PAYLOAD_LEN says that length bytes follow, whatever the command is.
  const hasPayload =
    command === CMD.WRITE || (replies === 'extended' && (flags & CMD_FLAG.PAYLOAD_LEN) !== 0);
  const payload = hasPayload ? { payload: Buffer.alloc(length, command) } : {};
  return { command, flags, offset: 0, length, ...payload };
}

function flagAnswers(command: number, flags: number, on: Circumstances): readonly number[] {
  if (!known(command, on)) return [EINVAL];
  const fua = (on.advertised & EXPORT_FLAG.SEND_FUA) !== 0 ? CMD_FLAG.FUA : 0;
  if ((flags & ~(takenFlags(command, on) | fua)) !== 0) return [EINVAL];
  if ((flags & CMD_FLAG.FAST_ZERO) !== 0) return [0, ENOTSUP];
  return [0];
}

interface Range {
  readonly offset: bigint;
  readonly length: bigint;
}

const SIZE = BigInt(SIZE_BYTES);

/** Around every border that an addition could wrap at. */
const RANGES: readonly Range[] = [
  { offset: 0n, length: 1n },
  { offset: 0n, length: SIZE },
  { offset: SIZE - 1n, length: 1n },
  { offset: SIZE - 512n, length: 512n },
  { offset: SIZE, length: 1n },
  { offset: SIZE - 1n, length: 2n },
  { offset: SIZE + 1n, length: 1n },
  { offset: 0n, length: SIZE + 1n },
  { offset: 1n, length: SIZE },
  { offset: 2n ** 31n, length: 512n },
  { offset: 2n ** 32n, length: 512n },
  { offset: 2n ** 63n - 1n, length: 1n },
  { offset: 2n ** 63n, length: 1n },
  { offset: 2n ** 64n - 1n, length: 1n },
  { offset: 2n ** 64n - 512n, length: 512n },
  { offset: 2n ** 64n - 512n, length: 1024n },
];

/** Longer than a payload can be: for commands whose length is an effect. */
const LONG_RANGES: readonly Range[] = [
  { offset: 0n, length: 2n ** 31n },
  { offset: 1n, length: 2n ** 32n - 1n },
  { offset: SIZE, length: 2n ** 32n - 1n },
  { offset: 2n ** 64n - 1n, length: 2n ** 32n - 1n },
];

/** Only an extended header can say these. */
const EXTENDED_RANGES: readonly Range[] = [
  { offset: 0n, length: 2n ** 32n },
  { offset: 0n, length: 2n ** 63n },
  { offset: 0n, length: 2n ** 64n - 1n },
  { offset: 2n ** 63n, length: 2n ** 63n },
  { offset: 2n ** 64n - 1n, length: 2n ** 64n - 1n },
];

const isInside = ({ offset, length }: Range): boolean => offset + length <= SIZE;

export function rangeRows(on: Circumstances): Row[] {
  const ranged = COMMANDS.filter(([, command]) => !isFlush(command) && known(command, on));
  return ranged.flatMap(([name, command]) => {
    const long = command === CMD.WRITE ? [] : LONG_RANGES;
    const longer = command !== CMD.WRITE && on.replies === 'extended' ? EXTENDED_RANGES : [];
    return [...RANGES, ...long, ...longer].map((range) => ({
      name: `${name} of ${range.length} bytes at ${range.offset}`,
      request: makeRanged(command, range),
      allowed: rangeAnswers(command, range, on),
    }));
  });
}

function makeRanged(command: number, { offset, length }: Range): Request {
  const payload = command === CMD.WRITE ? { payload: Buffer.alloc(Number(length), 0x5a) } : {};
  return { command, offset, length, ...payload };
}

function rangeAnswers(command: number, range: Range, on: Circumstances): readonly number[] {
  if (isInside(range)) return [0];
  if (command === CMD.WRITE || command === CMD.WRITE_ZEROES) return [ENOSPC];
  // A read that is also too long may be refused for that.
  const tooLong = command === CMD.READ && range.length > 32n << 20n && on.replies !== 'simple';
  return tooLong ? [EINVAL, EOVERFLOW] : [EINVAL];
}

/** FLUSH names no range. */
export function flushRows(): Row[] {
  const flush = (offset: number, length: number): Row => ({
    name: `FLUSH with offset ${offset} and length ${length}`,
    request: { command: CMD.FLUSH, offset, length },
    allowed: [EINVAL],
  });
  return [flush(512, 0), flush(0, 512), flush(512, 512)];
}

/** Length 0 is unspecified: whatever the answer, it must be one. */
export function emptyRows(): Row[] {
  const anything = [0, EINVAL, ENOSPC];
  return COMMANDS.flatMap(([name, command]) =>
    [0, 512, SIZE_BYTES, SIZE_BYTES + 1].map((offset) => ({
      name: `${name} of 0 bytes at ${offset}`,
      request: {
        command,
        offset,
        length: 0,
        ...(command === CMD.WRITE ? { payload: Buffer.alloc(0) } : {}),
      },
      allowed: anything,
    })),
  );
}

/** Every command with each of its own flags, on a read-only export. */
export function readOnlyRows(on: Circumstances): Row[] {
  return COMMANDS.filter(([, command]) => known(command, on) || writes(command)).map(
    ([name, command]) => ({
      name: `${name} on a read-only export`,
      request: makeRequest(command, 0, on.replies),
      allowed: writes(command) ? [EPERM] : [0],
    }),
  );
}

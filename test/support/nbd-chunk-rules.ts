// SPDX-License-Identifier: Apache-2.0
import { CHUNK, CMD, CMD_FLAG, demand, ERRNO } from './nbd-wire.js';

export type ReplyKind = 'simple' | 'structured' | 'extended';

/** What both sides agreed on, as far as replies depend on it. */
export interface Agreed {
  readonly replies: ReplyKind;
  /** Ids of the selected metadata contexts. */
  readonly contexts?: readonly number[];
}

export interface SentRequest {
  readonly command: number;
  readonly flags: number;
  readonly offset: bigint;
  /** Bytes that the request is about: of a BLOCK_STATUS with payload, the length inside that. */
  readonly length: bigint;
  /** Contexts that a BLOCK_STATUS asks for. */
  readonly contexts?: readonly number[];
}

export interface Extent {
  readonly length: bigint;
  readonly flags: bigint;
}

export interface Reply {
  /** 0, or the errno on the wire: of a simple reply, or of the first error chunk. */
  readonly errno: number;
  /** Text of the first error chunk. */
  readonly message?: string;
  /** Offset of the first error chunk that has one. */
  readonly errorOffset?: bigint;
  /** What a READ returned; on a failed one, zeros where nothing came. */
  readonly data: Buffer;
  readonly kind: ReplyKind;
  /** Types of the chunks, in order of arrival; empty for a simple reply. */
  readonly chunks: readonly number[];
  /** What a BLOCK_STATUS returned, by context id. */
  readonly status: ReadonlyMap<number, readonly Extent[]>;
}

export const KNOWN_ERRNOS: ReadonlySet<number> = new Set([0, ...Object.values(ERRNO)]);

/** A READ that is longer must fail; no memory is kept for what it might return. */
const READ_BYTES_MAX = 64n << 20n;

/** A reply under construction: chunks of several requests may interleave. */
export class PartialReply {
  readonly request: SentRequest;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
  readonly data: Buffer;
  readonly chunks: number[] = [];
  readonly #agreed: Agreed;
  readonly #covered: { start: number; end: number }[] = [];
  readonly #status = new Map<number, readonly Extent[]>();
  #error: { errno: number; message: string; offset?: bigint } | undefined;
  #hasPlainError = false;
  #hasOffsetError = false;

  constructor(
    request: SentRequest,
    agreed: Agreed,
    settle: { resolve: (reply: Reply) => void; reject: (error: Error) => void },
  ) {
    this.request = request;
    this.resolve = settle.resolve;
    this.reject = settle.reject;
    this.#agreed = agreed;
    const expectsData = request.command === CMD.READ && request.length <= READ_BYTES_MAX;
    this.data = Buffer.alloc(expectsData ? Number(request.length) : 0);
  }

  /** Takes one chunk; throws ProtocolViolation where it breaks a rule. */
  takeChunk(type: number, payload: Buffer): void {
    this.chunks.push(type);
    switch (type) {
      case CHUNK.NONE:
        demand(payload.length === 0, `chunk NONE has ${payload.length} bytes`);
        return;
      case CHUNK.OFFSET_DATA: {
        this.#takeData(payload);
        return;
      }
      case CHUNK.OFFSET_HOLE: {
        this.#takeHole(payload);
        return;
      }
      case CHUNK.BLOCK_STATUS:
      case CHUNK.BLOCK_STATUS_EXT: {
        this.#takeStatus(type, payload);
        return;
      }
      case CHUNK.ERROR:
      case CHUNK.ERROR_OFFSET: {
        this.#takeError(type, payload);
        return;
      }
      default:
        demand(false, `chunk type is 0x${type.toString(16)}`);
    }
  }

  finish(): Reply {
    const covered = this.#covered.reduce((sum, { start, end }) => sum + end - start, 0);
    const failed = this.#error !== undefined;
    const wanted = this.request.command === CMD.READ ? this.request.length : 0n;
    demand(
      failed || BigInt(covered) === wanted,
      `a successful READ delivered ${covered} of ${wanted} bytes`,
    );
    if (this.request.command === CMD.BLOCK_STATUS && !failed) {
      for (const id of this.#contexts()) {
        demand(this.#status.has(id), `BLOCK_STATUS says nothing of context ${id}`);
      }
    }
    return {
      errno: this.#error?.errno ?? 0,
      ...(this.#error === undefined ? {} : { message: this.#error.message }),
      ...(this.#error?.offset === undefined ? {} : { errorOffset: this.#error.offset }),
      data: this.data,
      kind: this.#agreed.replies,
      chunks: this.chunks,
      status: this.#status,
    };
  }

  #contexts(): readonly number[] {
    return this.request.contexts ?? this.#agreed.contexts ?? [];
  }

  #takeData(payload: Buffer): void {
    demand(payload.length >= 9, `chunk OFFSET_DATA has ${payload.length} bytes`);
    const content = payload.subarray(8);
    content.copy(this.data, this.#cover(payload.readBigUInt64BE(0), content.length));
  }

  #takeHole(payload: Buffer): void {
    demand(payload.length === 12, `chunk OFFSET_HOLE has ${payload.length} bytes`);
    const isDf = (this.request.flags & CMD_FLAG.DF) !== 0;
    demand(!isDf, 'a hole answers a DF read in a chunk of its own');
    const size = payload.readUInt32BE(8);
    demand(size > 0, 'hole of 0 bytes');
    this.#cover(payload.readBigUInt64BE(0), size);
  }

  /** Marks a part of the READ as delivered; overlaps and overruns are violations. */
  #cover(offset: bigint, length: number): number {
    const { command, flags } = this.request;
    demand(command === CMD.READ, 'content chunk answers a command other than READ');
    demand(offset >= this.request.offset, `content chunk begins before the request, at ${offset}`);
    const start = Number(offset - this.request.offset);
    const end = start + length;
    demand(
      BigInt(end) <= this.request.length && end <= this.data.length,
      `content chunk ends ${end} bytes into the request`,
    );
    demand(
      this.#covered.every((other) => end <= other.start || start >= other.end),
      `content chunk at ${offset} overlaps an earlier one`,
    );
    this.#covered.push({ start, end });
    if ((flags & CMD_FLAG.DF) !== 0) {
      demand(this.#covered.length === 1, 'a DF read is answered with several content chunks');
    }
    return start;
  }

  #takeStatus(type: number, payload: Buffer): void {
    const extended = this.#agreed.replies === 'extended';
    const [headBytes, extentBytes] = extended ? [8, 16] : [4, 8];
    demand((type === CHUNK.BLOCK_STATUS_EXT) === extended, `chunk type is 0x${type.toString(16)}`);
    demand(this.request.command === CMD.BLOCK_STATUS, 'a status answers another command');
    demand(payload.length > headBytes, 'a status has no extent');
    const count = (payload.length - headBytes) / extentBytes;
    demand(Number.isInteger(count), `a status has ${payload.length} bytes`);
    if (extended) {
      const said = payload.readUInt32BE(4);
      demand(said === count, `a status says ${said} extents and has ${count}`);
    }
    const id = payload.readUInt32BE(0);
    demand(this.#contexts().includes(id), `a status is of context ${id}, which was not selected`);
    demand(!this.#status.has(id), `a second status of context ${id}`);
    const extents = Array.from({ length: count }, (_, index) => {
      const at = headBytes + index * extentBytes;
      return extended
        ? { length: payload.readBigUInt64BE(at), flags: payload.readBigUInt64BE(at + 8) }
        : { length: BigInt(payload.readUInt32BE(at)), flags: BigInt(payload.readUInt32BE(at + 4)) };
    });
    this.#checkExtents(extents);
    this.#status.set(id, extents);
  }

  #checkExtents(extents: readonly Extent[]): void {
    let sum = 0n;
    for (const { length } of extents) {
      demand(length > 0n, 'an extent of 0 bytes');
      demand(sum < this.request.length, 'an extent begins after the end of the request');
      sum += length;
    }
    if ((this.request.flags & CMD_FLAG.REQ_ONE) !== 0) {
      demand(extents.length === 1, `REQ_ONE is answered with ${extents.length} extents`);
      demand(sum <= this.request.length, `REQ_ONE is answered with an extent of ${sum} bytes`);
    }
  }

  #takeError(type: number, payload: Buffer): void {
    const tail = type === CHUNK.ERROR ? 0 : 8;
    demand(payload.length >= 6 + tail, `error chunk has ${payload.length} bytes`);
    const messageLength = payload.readUInt16BE(4);
    demand(messageLength <= 4096, `error message has ${messageLength} bytes`);
    demand(payload.length === 6 + messageLength + tail, 'error chunk does not add up');
    const message = payload.toString('utf8', 6, 6 + messageLength);
    const errno = payload.readUInt32BE(0);
    demand(errno !== 0 && KNOWN_ERRNOS.has(errno), `error chunk has errno ${errno}`);
    const offset = tail === 0 ? undefined : payload.readBigUInt64BE(6 + messageLength);
    if (offset === undefined) {
      demand(!this.#hasPlainError, 'a second ERROR chunk');
      this.#hasPlainError = true;
    } else {
      const end = this.request.offset + this.request.length;
      demand(offset >= this.request.offset && offset < end, `error offset ${offset} is outside`);
      this.#hasOffsetError = true;
    }
    demand(!(this.#hasPlainError && this.#hasOffsetError), 'ERROR is mixed with ERROR_OFFSET');
    this.#error ??= { errno, message, ...(offset === undefined ? {} : { offset }) };
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { ByteStream } from './byte-stream.js';
import {
  CHUNK,
  CMD,
  demand,
  ERRNO,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './nbd-wire.js';

export interface SentRequest {
  readonly command: number;
  readonly flags: number;
  readonly offset: bigint;
  readonly length: number;
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
  readonly kind: 'simple' | 'structured';
  /** Types of the chunks, in order of arrival; empty for a simple reply. */
  readonly chunks: readonly number[];
}

const KNOWN_ERRNOS: ReadonlySet<number> = new Set([0, ...Object.values(ERRNO)]);
const DONE = 1;

/** A reply under construction: chunks of several requests may interleave. */
class PartialReply {
  readonly request: SentRequest;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
  readonly data: Buffer;
  readonly chunks: number[] = [];
  readonly #covered: { start: number; end: number }[] = [];
  #error: { errno: number; message: string; offset?: bigint } | undefined;
  #hasPlainError = false;
  #hasOffsetError = false;

  constructor(
    request: SentRequest,
    resolve: (reply: Reply) => void,
    reject: (error: Error) => void,
  ) {
    this.request = request;
    this.resolve = resolve;
    this.reject = reject;
    this.data = Buffer.alloc(request.command === CMD.READ ? request.length : 0);
  }

  /** Marks a part of the READ as delivered; overlaps and overruns are violations. */
  cover(offset: bigint, length: number): number {
    demand(this.request.command === CMD.READ, 'content chunk answers a command other than READ');
    demand(offset >= this.request.offset, `content chunk begins before the request, at ${offset}`);
    const start = Number(offset - this.request.offset);
    const end = start + length;
    demand(end <= this.request.length, `content chunk ends ${end} bytes into the request`);
    demand(
      this.#covered.every((other) => end <= other.start || start >= other.end),
      `content chunk at ${offset} overlaps an earlier one`,
    );
    this.#covered.push({ start, end });
    if ((this.request.flags & 4) !== 0) {
      demand(this.#covered.length === 1, 'a DF read is answered with several content chunks');
    }
    return start;
  }

  fail(errno: number, message: string, offset?: bigint): void {
    demand(errno !== 0 && KNOWN_ERRNOS.has(errno), `error chunk has errno ${errno}`);
    if (offset === undefined) {
      demand(!this.#hasPlainError, 'a second ERROR chunk');
      this.#hasPlainError = true;
    } else {
      const end = this.request.offset + BigInt(this.request.length);
      demand(offset >= this.request.offset && offset < end, `error offset ${offset} is outside`);
      this.#hasOffsetError = true;
    }
    demand(!(this.#hasPlainError && this.#hasOffsetError), 'ERROR is mixed with ERROR_OFFSET');
    this.#error ??= { errno, message, ...(offset === undefined ? {} : { offset }) };
  }

  finish(): Reply {
    const covered = this.#covered.reduce((sum, { start, end }) => sum + end - start, 0);
    demand(
      this.#error !== undefined || covered === this.data.length,
      `a successful READ delivered ${covered} of ${this.data.length} bytes`,
    );
    return {
      errno: this.#error?.errno ?? 0,
      ...(this.#error === undefined ? {} : { message: this.#error.message }),
      ...(this.#error?.offset === undefined ? {} : { errorOffset: this.#error.offset }),
      data: this.data,
      kind: 'structured',
      chunks: this.chunks,
    };
  }
}

/** Reads replies strictly and hands each to the request that it answers. */
export class ReplyReader {
  readonly #stream: ByteStream;
  readonly #structuredReplies: boolean;
  readonly #pending = new Map<bigint, PartialReply>();

  constructor(stream: ByteStream, options: { structuredReplies: boolean }) {
    this.#stream = stream;
    this.#structuredReplies = options.structuredReplies;
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  expect(cookie: bigint, request: SentRequest): Promise<Reply> {
    if (this.#pending.has(cookie)) throw new Error(`cookie ${cookie} is already in flight`);
    return new Promise((resolve, reject) => {
      this.#pending.set(cookie, new PartialReply(request, resolve, reject));
    });
  }

  /** Runs until the connection ends or breaks the protocol; then every open request rejects. */
  async run(): Promise<void> {
    try {
      for (;;) await this.#readReply();
    } catch (error) {
      for (const partial of this.#pending.values()) partial.reject(error as Error);
      this.#pending.clear();
      throw error;
    }
  }

  async #readReply(): Promise<void> {
    const magic = (await this.#stream.read(4)).readUInt32BE(0);
    if (magic === SIMPLE_REPLY_MAGIC) return this.#readSimple();
    const isStructured = magic === STRUCTURED_REPLY_MAGIC;
    demand(isStructured, `reply magic is 0x${magic.toString(16)}`);
    demand(this.#structuredReplies, 'structured reply without negotiation');
    return this.#readChunk();
  }

  async #readSimple(): Promise<void> {
    const head = await this.#stream.read(12);
    const errno = head.readUInt32BE(0);
    const cookie = head.readBigUInt64BE(4);
    const partial = this.#find(cookie);
    const isRead = partial.request.command === CMD.READ;
    demand(!(isRead && this.#structuredReplies), 'simple reply to READ despite structured replies');
    demand(partial.chunks.length === 0, 'simple reply after chunks of the same request');
    demand(KNOWN_ERRNOS.has(errno), `simple reply has errno ${errno}`);
    if (isRead && errno === 0) (await this.#stream.read(partial.data.length)).copy(partial.data);
    this.#pending.delete(cookie);
    partial.resolve({ errno, data: partial.data, kind: 'simple', chunks: [] });
  }

  async #readChunk(): Promise<void> {
    const head = await this.#stream.read(16);
    const flags = head.readUInt16BE(0);
    const type = head.readUInt16BE(2);
    const cookie = head.readBigUInt64BE(4);
    const length = head.readUInt32BE(12);
    demand((flags & ~DONE) === 0, `chunk flags are 0x${flags.toString(16)}`);
    const partial = this.#find(cookie);
    demand(length <= partial.data.length + 4200, `chunk has ${length} bytes`);
    const payload = await this.#stream.read(length);
    partial.chunks.push(type);
    readChunkPayload(partial, type, payload);
    if (flags !== DONE) {
      demand(type !== CHUNK.NONE, 'chunk NONE without DONE');
      return;
    }
    this.#pending.delete(cookie);
    try {
      partial.resolve(partial.finish());
    } catch (error) {
      partial.reject(error as Error);
      throw error;
    }
  }

  #find(cookie: bigint): PartialReply {
    const partial = this.#pending.get(cookie);
    demand(partial !== undefined, `reply has cookie ${cookie}, which no open request has`);
    return partial;
  }
}

function readChunkPayload(partial: PartialReply, type: number, payload: Buffer): void {
  switch (type) {
    case CHUNK.NONE:
      demand(payload.length === 0, `chunk NONE has ${payload.length} bytes`);
      return;
    case CHUNK.OFFSET_DATA: {
      demand(payload.length >= 9, `chunk OFFSET_DATA has ${payload.length} bytes`);
      const content = payload.subarray(8);
      content.copy(partial.data, partial.cover(payload.readBigUInt64BE(0), content.length));
      return;
    }
    case CHUNK.OFFSET_HOLE: {
      demand(payload.length === 12, `chunk OFFSET_HOLE has ${payload.length} bytes`);
      demand((partial.request.flags & 4) === 0, 'a hole answers a DF read in a chunk of its own');
      const size = payload.readUInt32BE(8);
      demand(size > 0, 'hole of 0 bytes');
      partial.cover(payload.readBigUInt64BE(0), size);
      return;
    }
    case CHUNK.ERROR:
    case CHUNK.ERROR_OFFSET: {
      const tail = type === CHUNK.ERROR ? 0 : 8;
      demand(payload.length >= 6 + tail, `error chunk has ${payload.length} bytes`);
      const messageLength = payload.readUInt16BE(4);
      demand(messageLength <= 4096, `error message has ${messageLength} bytes`);
      demand(payload.length === 6 + messageLength + tail, 'error chunk does not add up');
      const message = payload.toString('utf8', 6, 6 + messageLength);
      const offset = tail === 0 ? undefined : payload.readBigUInt64BE(6 + messageLength);
      partial.fail(payload.readUInt32BE(0), message, offset);
      return;
    }
    default:
      demand(false, `chunk type is 0x${type.toString(16)}`);
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { ByteStream } from './byte-stream.js';
import { type Agreed, KNOWN_ERRNOS, PartialReply } from './nbd-chunk-rules.js';
import type { Reply, SentRequest } from './nbd-chunk-rules.js';
import {
  CHUNK,
  CMD,
  demand,
  EXTENDED_REPLY_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './nbd-wire.js';

const DONE = 1;

/** Reads replies strictly and hands each to the request that it answers. */
export class ReplyReader {
  readonly #stream: ByteStream;
  readonly #agreed: Agreed;
  readonly #pending = new Map<bigint, PartialReply>();

  constructor(stream: ByteStream, agreed: Agreed) {
    this.#stream = stream;
    this.#agreed = agreed;
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  expect(cookie: bigint, request: SentRequest): Promise<Reply> {
    if (this.#pending.has(cookie)) throw new Error(`cookie ${cookie} is already in flight`);
    return new Promise((resolve, reject) => {
      this.#pending.set(cookie, new PartialReply(request, this.#agreed, { resolve, reject }));
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
    const { replies } = this.#agreed;
    const magic = (await this.#stream.read(4)).readUInt32BE(0);
    switch (magic) {
      case SIMPLE_REPLY_MAGIC:
        demand(replies !== 'extended', 'simple reply after extended headers');
        return this.#readSimple();
      case STRUCTURED_REPLY_MAGIC:
        demand(replies === 'structured', 'structured reply without negotiation');
        return this.#readChunk();
      case EXTENDED_REPLY_MAGIC:
        demand(replies === 'extended', 'extended reply without negotiation');
        return this.#readChunk();
      default:
        demand(false, `reply magic is 0x${magic.toString(16)}`);
    }
  }

  async #readSimple(): Promise<void> {
    const head = await this.#stream.read(12);
    const errno = head.readUInt32BE(0);
    const cookie = head.readBigUInt64BE(4);
    const partial = this.#find(cookie);
    const { command } = partial.request;
    const structured = this.#agreed.replies === 'structured';
    const isRead = command === CMD.READ;
    demand(!(isRead && structured), 'simple reply to READ despite structured replies');
    demand(command !== CMD.BLOCK_STATUS || errno !== 0, 'BLOCK_STATUS succeeds without a status');
    demand(partial.chunks.length === 0, 'simple reply after chunks of the same request');
    demand(KNOWN_ERRNOS.has(errno), `simple reply has errno ${errno}`);
    if (isRead && errno === 0) (await this.#stream.read(partial.data.length)).copy(partial.data);
    this.#pending.delete(cookie);
    partial.resolve({ errno, data: partial.data, kind: 'simple', chunks: [], status: new Map() });
  }

  async #readChunk(): Promise<void> {
    const extended = this.#agreed.replies === 'extended';
    const head = await this.#stream.read(extended ? 28 : 16);
    const flags = head.readUInt16BE(0);
    const type = head.readUInt16BE(2);
    const cookie = head.readBigUInt64BE(4);
    const length = extended ? head.readBigUInt64BE(20) : BigInt(head.readUInt32BE(12));
    demand((flags & ~DONE) === 0, `chunk flags are 0x${flags.toString(16)}`);
    const partial = this.#find(cookie);
    if (extended) {
      const offset = head.readBigUInt64BE(12);
      demand(offset === partial.request.offset, `chunk echoes offset ${offset}`);
    }
    const longest = Math.max(partial.data.length + 8, LONGEST_STATUS_BYTES);
    demand(length <= longest, `chunk has ${length} bytes`);
    partial.takeChunk(type, await this.#stream.read(Number(length)));
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

/** 2^20 extents and their head: the longest BLOCK_STATUS chunk that the protocol knows. */
const LONGEST_STATUS_BYTES = 8 + 16 * 2 ** 20;

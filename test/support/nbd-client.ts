// SPDX-License-Identifier: Apache-2.0
import { connect } from 'node:net';
import type { NetConnectOpts, Socket } from 'node:net';
import { ByteStream } from './byte-stream.js';
import { ReplyReader } from './nbd-replies.js';
import type { Reply } from './nbd-replies.js';
import {
  CMD,
  demand,
  encodeClientFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  INFO_ID,
  OPT,
  parseHello,
  parseInfoItems,
  parseOptionReplyHead,
  parseServerData,
  REP,
} from './nbd-wire.js';
import type { ExportFacts, OptionReply } from './nbd-wire.js';

/** An option was answered with an error. */
export class OptionRefused extends Error {
  readonly type: number;

  constructor(option: number, type: number, text: string) {
    super(`option ${option} was refused with 0x${type.toString(16)}: ${text}`);
    this.type = type;
  }
}

export interface Request {
  readonly command: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly length?: number;
  /** For WRITE; `length` defaults to its size. */
  readonly payload?: Uint8Array;
  readonly cookie?: bigint;
}

/**
 * A raw NBD client for tests. It sends whatever it is told, also what the protocol forbids, and
 * throws ProtocolViolation on every answer that the protocol forbids; ConnectionEnded tells that
 * the server has closed.
 */
export class NbdClient {
  readonly socket: Socket;
  readonly stream: ByteStream;
  #structuredReplies = false;
  #noZeroes = false;
  #nextCookie = 1n;
  #replies: ReplyReader | undefined;
  #ended: Promise<Error> | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.stream = new ByteStream(socket);
  }

  /** Connects and sends nothing. A failed connection shows at the first read. */
  static async connect(where: NetConnectOpts): Promise<NbdClient> {
    const socket = connect({ allowHalfOpen: true, ...where });
    const client = new NbdClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.setNoDelay(true);
    return client;
  }

  /** Connects, reads the hello and answers it; gives a client ready for options. */
  static async handshake(where: NetConnectOpts, clientFlags = 3): Promise<NbdClient> {
    const client = await NbdClient.connect(where);
    await client.hello(clientFlags);
    return client;
  }

  /** Reads the hello, sends the client flags, returns the server's. */
  async hello(clientFlags = 3): Promise<number> {
    const offered = parseHello(await this.stream.read(18));
    this.#noZeroes = (offered & clientFlags & 2) !== 0;
    this.send(encodeClientFlags(clientFlags));
    return offered;
  }

  /** Sends bytes as they are. */
  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  sendOption(option: number, data?: Buffer, lengthBytes?: number): void {
    this.send(encodeOption(option, data, lengthBytes));
  }

  /** One reply, which must be to `option`. */
  async receiveOptionReply(option: number): Promise<OptionReply> {
    const head = parseOptionReplyHead(await this.stream.read(20));
    demand(head.option === option, `reply is to option ${head.option}, awaited was ${option}`);
    return { option, type: head.type, data: await this.stream.read(head.length) };
  }

  /** Sends an option and reads its replies up to ACK; an error reply throws OptionRefused. */
  async option(option: number, data?: Buffer): Promise<OptionReply[]> {
    this.sendOption(option, data);
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.receiveOptionReply(option);
      if (reply.type >= 0x80000000) {
        throw new OptionRefused(option, reply.type, reply.data.toString('utf8'));
      }
      if (reply.type === REP.ACK) {
        demand(reply.data.length === 0, `ACK has ${reply.data.length} bytes of data`);
        if (option === OPT.STRUCTURED_REPLY) this.#structuredReplies = true;
        return replies;
      }
      replies.push(reply);
    }
  }

  async list(): Promise<{ name: string; description: string }[]> {
    const replies = await this.option(OPT.LIST);
    return replies.map(({ type, data }) => {
      demand(type === REP.SERVER, `LIST is answered with reply type ${type}`);
      return parseServerData(data);
    });
  }

  async info(name: string, infos: readonly number[] = ALL_INFOS): Promise<ExportFacts> {
    return this.#infoOrGo(OPT.INFO, name, infos);
  }

  /** Enters transmission. */
  async go(name: string, infos: readonly number[] = ALL_INFOS): Promise<ExportFacts> {
    const facts = await this.#infoOrGo(OPT.GO, name, infos);
    this.startTransmission();
    return facts;
  }

  /** Enters transmission the old way; a refusal is ConnectionEnded. */
  async exportName(name: string): Promise<ExportFacts> {
    this.sendOption(OPT.EXPORT_NAME, Buffer.from(name));
    const head = await this.stream.read(10);
    if (!this.#noZeroes) {
      const zeroes = await this.stream.read(124);
      demand(
        zeroes.every((byte) => byte === 0),
        'the 124 bytes after the export size are not zero',
      );
    }
    this.startTransmission();
    return { sizeBytes: head.readBigUInt64BE(0), flags: head.readUInt16BE(8) };
  }

  /** From now on bytes are replies. `go` and `exportName` call it themselves. */
  startTransmission(agreed = { structuredReplies: this.#structuredReplies }): void {
    this.#replies = new ReplyReader(this.stream, agreed);
    this.#ended = this.#replies.run().then(
      () => new Error('the reply reader stopped'),
      (error: unknown) => error as Error,
    );
  }

  /** Sends a request; the promise is its reply, whatever the order in which replies come. */
  request(request: Request): Promise<Reply> {
    const replies = this.#transmission();
    const { command, flags = 0, payload } = request;
    const cookie = request.cookie ?? this.#nextCookie++;
    const offset = BigInt(request.offset ?? 0);
    const length = request.length ?? payload?.length ?? 0;
    const reply = replies.expect(cookie, { command, flags, offset, length });
    this.send(encodeRequest({ command, flags, cookie, offset, length }));
    if (payload !== undefined) this.send(payload);
    return reply;
  }

  read(offset: number | bigint, length: number, flags = 0): Promise<Reply> {
    return this.request({ command: CMD.READ, offset, length, flags });
  }

  write(offset: number | bigint, payload: Uint8Array, flags = 0): Promise<Reply> {
    return this.request({ command: CMD.WRITE, offset, payload, flags });
  }

  flush(): Promise<Reply> {
    return this.request({ command: CMD.FLUSH });
  }

  /** Why the transmission ended: ConnectionEnded, or ProtocolViolation. Resolves when it has. */
  async ended(): Promise<Error> {
    this.#transmission();
    return this.#ended ?? new Error('transmission has not begun');
  }

  /** Requests that have no reply yet. */
  get inFlight(): number {
    return this.#replies?.pendingCount ?? 0;
  }

  /** DISC, then waits for the server to close. */
  async disconnect(): Promise<void> {
    this.send(encodeRequest({ command: CMD.DISC, cookie: 0n, offset: 0n, length: 0 }));
    this.socket.end();
    await this.ended();
    this.socket.destroy();
  }

  /** Closes at once, without a word. */
  destroy(): void {
    this.socket.destroy();
  }

  async #infoOrGo(option: number, name: string, infos: readonly number[]): Promise<ExportFacts> {
    const replies = await this.option(option, encodeInfoData(name, infos));
    for (const { type } of replies) demand(type === REP.INFO, `INFO reply has type ${type}`);
    return parseInfoItems(replies.map(({ data }) => data));
  }

  #transmission(): ReplyReader {
    if (this.#replies === undefined) throw new Error('transmission has not begun');
    return this.#replies;
  }
}

const ALL_INFOS: readonly number[] = [INFO_ID.NAME, INFO_ID.DESCRIPTION, INFO_ID.BLOCK_SIZE];

// SPDX-License-Identifier: Apache-2.0
import { connect } from 'node:net';
import type { NetConnectOpts, Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { ByteStream } from './byte-stream.js';
import type { Agreed, Reply, ReplyKind } from './nbd-chunk-rules.js';
import { ReplyReader } from './nbd-replies.js';
import {
  CMD,
  CMD_FLAG,
  demand,
  encodeClientFlags,
  encodeExtendedRequest,
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  encodeRequest,
  INFO_ID,
  OPT,
  parseHello,
  parseInfoItems,
  parseMetaContext,
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
  readonly length?: number | bigint;
  /** For WRITE; `length` defaults to its size. With extended headers PAYLOAD_LEN goes along. */
  readonly payload?: Uint8Array;
  /** With extended headers, of a BLOCK_STATUS: the contexts that it asks for, in a payload. */
  readonly contexts?: readonly number[];
  readonly cookie?: bigint;
}

/**
 * A raw NBD client for tests. It sends whatever it is told, also what the protocol forbids, and
 * throws ProtocolViolation on every answer that the protocol forbids; ConnectionEnded tells that
 * the server has closed.
 */
export class NbdClient {
  #socket: Socket;
  #stream: ByteStream;
  #agreedReplies: ReplyKind = 'simple';
  #contexts: readonly number[] = [];
  #noZeroes = false;
  #nextCookie = 1n;
  #replies: ReplyReader | undefined;
  #ended: Promise<Error> | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#stream = new ByteStream(socket);
  }

  /** After STARTTLS the one inside TLS. */
  get socket(): Socket {
    return this.#socket;
  }

  get stream(): ByteStream {
    return this.#stream;
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
    // It replaces the earlier selection even when it fails.
    if (option === OPT.SET_META_CONTEXT) this.#contexts = [];
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.receiveOptionReply(option);
      if (reply.type >= 0x80000000) {
        throw new OptionRefused(option, reply.type, reply.data.toString('utf8'));
      }
      if (reply.type === REP.ACK) {
        demand(reply.data.length === 0, `ACK has ${reply.data.length} bytes of data`);
        this.#agree(option, replies);
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

  /** Selects metadata contexts; gives what the server knows of them. */
  async setMetaContext(
    name: string,
    queries: readonly string[] = ['base:allocation'],
  ): Promise<{ id: number; name: string }[]> {
    const replies = await this.option(OPT.SET_META_CONTEXT, encodeMetaContextData(name, queries));
    return replies.map(({ data }) => parseMetaContext(data));
  }

  /** STARTTLS and the handshake, after which nothing that was negotiated before holds. */
  async startTls(options: ConnectionOptions): Promise<TLSSocket> {
    await this.option(OPT.STARTTLS);
    return this.shakeHands(options);
  }

  /** The TLS handshake alone. */
  async shakeHands(options: ConnectionOptions): Promise<TLSSocket> {
    this.#stream.detach();
    const secure = connectTls({ ...options, socket: this.#socket });
    await new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve);
      secure.once('error', reject);
      secure.once('close', () => reject(new Error('closed during the TLS handshake')));
    });
    this.#socket = secure;
    this.#stream = new ByteStream(secure);
    this.#agreedReplies = 'simple';
    this.#contexts = [];
    return secure;
  }

  /** From now on bytes are replies. `go` and `exportName` call it themselves. */
  startTransmission(agreed: Partial<Agreed> = {}): void {
    this.#agreedReplies = agreed.replies ?? this.#agreedReplies;
    this.#contexts = agreed.contexts ?? this.#contexts;
    this.#replies = new ReplyReader(this.stream, {
      replies: this.#agreedReplies,
      contexts: this.#contexts,
    });
    this.#ended = this.#replies.run().then(
      () => new Error('the reply reader stopped'),
      (error: unknown) => error as Error,
    );
  }

  /** Sends a request; the promise is its reply, whatever the order in which replies come. */
  request(request: Request): Promise<Reply> {
    const replies = this.#transmission();
    const { command, contexts } = request;
    const cookie = request.cookie ?? this.#nextCookie++;
    const offset = BigInt(request.offset ?? 0);
    const length = BigInt(request.length ?? request.payload?.length ?? 0);
    const payload = contexts === undefined ? request.payload : statusPayload(length, contexts);
    const extended = this.#agreedReplies === 'extended';
    const payloadFlag = extended && payload !== undefined ? CMD_FLAG.PAYLOAD_LEN : 0;
    const flags = (request.flags ?? 0) | payloadFlag;
    const about = {
      command,
      flags,
      offset,
      length,
      ...(contexts === undefined ? {} : { contexts }),
    };
    const reply = replies.expect(cookie, about);
    const wireLength = contexts === undefined ? length : (payload?.length ?? 0);
    const encode = extended ? encodeExtendedRequest : encodeRequest;
    this.send(encode({ command, flags, cookie, offset, length: wireLength }));
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
    const encode = this.#agreedReplies === 'extended' ? encodeExtendedRequest : encodeRequest;
    this.send(encode({ command: CMD.DISC, cookie: 0n, offset: 0n, length: 0 }));
    this.socket.end();
    await this.ended();
    this.socket.destroy();
  }

  /** Closes at once, without a word. */
  destroy(): void {
    this.socket.destroy();
  }

  #agree(option: number, replies: readonly OptionReply[]): void {
    if (option === OPT.STRUCTURED_REPLY) this.#agreedReplies = 'structured';
    if (option === OPT.EXTENDED_HEADERS) this.#agreedReplies = 'extended';
    if (option === OPT.SET_META_CONTEXT) {
      this.#contexts = replies.map(({ data }) => parseMetaContext(data).id);
    }
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

/** What a BLOCK_STATUS with payload carries: the length that it is about, and contexts. */
function statusPayload(length: bigint, contexts: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 + 4 * contexts.length);
  bytes.writeBigUInt64BE(length, 0);
  for (const [index, id] of contexts.entries()) bytes.writeUInt32BE(id, 8 + 4 * index);
  return bytes;
}

const ALL_INFOS: readonly number[] = [INFO_ID.NAME, INFO_ID.DESCRIPTION, INFO_ID.BLOCK_SIZE];

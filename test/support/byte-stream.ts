// SPDX-License-Identifier: Apache-2.0
import type { Duplex } from 'node:stream';

/** The peer closed or reset the connection while bytes were awaited. */
export class ConnectionEnded extends Error {
  override readonly name = 'ConnectionEnded';
}

/** Exact reads from a socket. One reader at a time. */
export class ByteStream {
  #chunks: Buffer[] = [];
  #available = 0;
  #ended: ConnectionEnded | undefined;
  #wake: (() => void) | undefined;

  readonly #socket: Duplex;
  readonly #onData = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#available += chunk.length;
    this.#wake?.();
  };

  constructor(socket: Duplex) {
    this.#socket = socket;
    socket.on('data', this.#onData);
    socket.on('error', (error) => this.#end(`connection failed: ${error.message}`));
    socket.on('end', () => this.#end('peer closed the connection'));
    socket.on('close', () => this.#end('connection closed'));
  }

  /** Bytes that have arrived and were not read. */
  get available(): number {
    return this.#available;
  }

  async read(lengthBytes: number): Promise<Buffer> {
    while (this.#available < lengthBytes) {
      if (this.#ended !== undefined) throw this.#ended;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
    const rest = all?.subarray(lengthBytes) ?? Buffer.alloc(0);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#available = rest.length;
    return all?.subarray(0, lengthBytes) ?? Buffer.alloc(0);
  }

  /** Leaves the socket to another reader. */
  detach(): void {
    this.#socket.off('data', this.#onData);
  }

  /** Resolves when the peer has closed; gives the bytes that came before. */
  async readToEnd(): Promise<Buffer> {
    while (this.#ended === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.read(this.#available);
  }

  #end(message: string): void {
    this.#ended ??= new ConnectionEnded(message);
    this.#wake?.();
  }
}

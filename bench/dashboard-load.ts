// SPDX-License-Identifier: Apache-2.0
import { NbdClient } from '../test/support/nbd-client.js';
import { CMD } from '../test/support/nbd-wire.js';

const BLOCK_BYTES = 64 * 1024;
/** After a refusal, and before another connection: what a patient client waits. */
const PAUSE_MS = 300;
const FLUSH_EVERY = 200;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * A client that reads and writes at random places at a rate that changes with the time of day of
 * its application, outlives refusals and comes back after a cut.
 */
export class VaryingLoad {
  readonly #where: { path: string; disk: string; sizeBytes: number };
  readonly #ratePerSecond: (seconds: number) => number;
  readonly #startedMs = performance.now();
  readonly #payload = Buffer.alloc(BLOCK_BYTES, 0x5a);
  readonly #done: Promise<unknown>;
  #ended = false;

  constructor(options: {
    path: string;
    disk: string;
    sizeBytes: number;
    lanes: number;
    /** Of all lanes, by the seconds since the start. */
    ratePerSecond: (seconds: number) => number;
  }) {
    this.#where = options;
    this.#ratePerSecond = (seconds) => options.ratePerSecond(seconds) / options.lanes;
    this.#done = Promise.all(Array.from({ length: options.lanes }, () => this.#lane()));
  }

  async stop(): Promise<void> {
    this.#ended = true;
    await this.#done;
  }

  async #lane(): Promise<void> {
    while (!this.#ended) {
      const client = await this.#connect();
      if (client === undefined) {
        await pause(PAUSE_MS);
        continue;
      }
      // A cut ends the requests that wait for a reply; a new connection follows.
      await this.#serve(client).catch(() => undefined);
      client.destroy();
    }
  }

  async #connect(): Promise<NbdClient | undefined> {
    try {
      const client = await NbdClient.handshake({ path: this.#where.path });
      await client.go(this.#where.disk);
      return client;
    } catch {
      return undefined;
    }
  }

  async #serve(client: NbdClient): Promise<void> {
    let dueMs = performance.now();
    for (let count = 1; !this.#ended; count += 1) {
      if (await this.#refused(client, count)) await pause(PAUSE_MS);
      const seconds = (performance.now() - this.#startedMs) / 1000;
      dueMs = Math.max(dueMs + 1000 / this.#ratePerSecond(seconds), performance.now() - 100);
      const waitMs = dueMs - performance.now();
      if (waitMs > 1) await pause(waitMs);
    }
  }

  async #refused(client: NbdClient, count: number): Promise<boolean> {
    const block = Math.floor((Math.random() * this.#where.sizeBytes) / BLOCK_BYTES);
    const offset = block * BLOCK_BYTES;
    const request =
      count % FLUSH_EVERY === 0
        ? { command: CMD.FLUSH, offset: 0, length: 0 }
        : Math.random() < 0.35
          ? { command: CMD.WRITE, offset, payload: this.#payload }
          : { command: CMD.READ, offset, length: BLOCK_BYTES };
    return (await client.request(request)).errno !== 0;
  }
}

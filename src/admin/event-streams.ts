// SPDX-License-Identifier: Apache-2.0
import type { ServerResponse } from 'node:http';
import { KeyholdError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { AdminEvent, AdminServices } from './api.js';
import { codes } from './errors.js';

/** Each subscriber costs a socket and a queue. */
const SUBSCRIBERS_MAX = 64;
/** What may wait for one slow reader; about 2000 events. Beyond it the reader is cut off. */
export const SUBSCRIBER_QUEUE_BYTES_MAX = 2 ** 20;

/**
 * The event stream: one JSON object a line, as they happen. A subscriber that does not keep up is
 * disconnected rather than sent a stream with gaps; the audit log has what it missed.
 */
export class EventStreams {
  readonly #services: Pick<AdminServices, 'subscribe'>;
  readonly #logger: Logger;
  readonly #open = new Set<ServerResponse>();

  constructor(options: { services: Pick<AdminServices, 'subscribe'>; logger: Logger }) {
    this.#services = options.services;
    this.#logger = options.logger;
  }

  /** Throws ERR_ADMIN_BUSY, and changes nothing, when there are too many; else owns `response`. */
  start(response: ServerResponse): void {
    if (this.#open.size >= SUBSCRIBERS_MAX) {
      throw new KeyholdError(
        codes.ERR_ADMIN_BUSY,
        `cannot subscribe to events: ${this.#open.size} subscribers, at most ${SUBSCRIBERS_MAX}`,
      );
    }
    const unsubscribe = this.#services.subscribe((event) => this.#send(response, event));
    this.#open.add(response);
    response.once('close', () => {
      unsubscribe();
      this.#open.delete(response);
    });
    response.on('error', (error) => {
      this.#logger.debug({ err: error }, 'an event subscriber went away');
    });
    response.writeHead(200, {
      'content-type': 'application/x-ndjson',
      'cache-control': 'no-store',
      // The stream ends with its connection: nothing can follow on it.
      connection: 'close',
    });
    // Once the head is out the subscription stands: what happens from then on will be sent.
    response.flushHeaders();
  }

  /** Ends every stream in good order. */
  close(): void {
    for (const response of this.#open) response.end();
  }

  #send(response: ServerResponse, event: AdminEvent): void {
    if (response.writableEnded || response.destroyed) return;
    response.write(`${JSON.stringify(event)}\n`);
    if (response.writableLength > SUBSCRIBER_QUEUE_BYTES_MAX) {
      this.#logger.warn(
        { queuedBytes: response.writableLength },
        'an event subscriber reads too slowly and is cut off',
      );
      response.destroy();
    }
  }
}

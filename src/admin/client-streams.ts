// SPDX-License-Identifier: Apache-2.0
import { request, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { eventSchema, type AdminEvent } from './api.js';
import type { AuditExportQuery } from './api-audit.js';
import {
  connectionError,
  parseJson,
  readAll,
  responseError,
  send,
  throwIfError,
  type Call,
  type Link,
} from './client-link.js';
import { NBD_PROTOCOL } from './nbd-protocol.js';

/** The longest line that an audit record can make, with room to spare. */
const EVENT_BYTES_MAX = 2 ** 20;

/** A connection that the daemon has handed over to NBD. */
export function openNbd(link: Link, what: Call): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const { socketPath, timeoutMs } = link;
    const headers = { connection: 'Upgrade', upgrade: NBD_PROTOCOL };
    const outgoing = request({ socketPath, ...what, agent: false, headers });
    const signal = AbortSignal.timeout(timeoutMs);
    const giveUp = (): void => void outgoing.destroy();
    signal.addEventListener('abort', giveUp);
    outgoing.on('upgrade', (_answer, socket, head) => {
      signal.removeEventListener('abort', giveUp);
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    outgoing.on('response', (answer) => {
      readAll(link, answer, signal)
        .then((text) => {
          throwIfError(link, what, answer, text);
          throw responseError(link, `expected NBD, got HTTP ${String(answer.statusCode)}`);
        })
        .catch(reject);
    });
    outgoing.on('error', (error) => reject(connectionError(link, error, signal)));
    outgoing.end();
  });
}

/** The bytes of an audit export, once its head has come. */
export async function openExport(
  link: Link,
  query: AuditExportQuery,
): Promise<AsyncIterable<Buffer>> {
  const search = new URLSearchParams(query).toString();
  const path = `/v1/audit/export${search === '' ? '' : `?${search}`}`;
  const what: Call = { method: 'GET', path };
  const answer = await send(link, what);
  if (answer.statusCode !== 200) {
    throwIfError(link, what, answer, await readAll(link, answer));
  }
  return readExport(link, answer);
}

async function* readExport(link: Link, answer: IncomingMessage): AsyncGenerator<Buffer> {
  try {
    yield* answer as AsyncIterable<Buffer>;
  } catch (error) {
    throw connectionError(link, error);
  } finally {
    answer.destroy();
  }
}

/** The events from now on, once the subscription stands. */
export async function openEvents(
  link: Link,
  signal?: AbortSignal,
): Promise<AsyncIterable<AdminEvent>> {
  const what: Call = { method: 'GET', path: '/v1/events' };
  const answer = await send(link, what, signal);
  if (answer.statusCode !== 200) {
    throwIfError(link, what, answer, await readAll(link, answer));
  }
  return readEvents(link, answer, signal);
}

async function* readEvents(
  link: Link,
  answer: IncomingMessage,
  signal?: AbortSignal,
): AsyncGenerator<AdminEvent> {
  let rest: Buffer = Buffer.alloc(0);
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      rest = Buffer.concat([rest, chunk]);
      for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
        yield parseEvent(link, rest.toString('utf8', 0, end));
        rest = rest.subarray(end + 1);
      }
      if (rest.length > EVENT_BYTES_MAX) {
        throw responseError(link, `expected an event of at most ${EVENT_BYTES_MAX} bytes`);
      }
    }
  } catch (error) {
    if (signal?.aborted === true) return;
    throw connectionError(link, error);
  } finally {
    answer.destroy();
  }
}

function parseEvent(link: Link, line: string): AdminEvent {
  const parsed = eventSchema.safeParse(parseJson(link, line));
  if (!parsed.success) {
    throw responseError(link, `expected an event, got ${JSON.stringify(line.slice(0, 60))}`);
  }
  return parsed.data;
}

// SPDX-License-Identifier: Apache-2.0
import { type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { KeyholdError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { AdminServices, Caller } from './api.js';
import { assertRole } from './callers.js';
import { codes } from './errors.js';
import { toHttpError } from './http-errors.js';
import { NBD_PROTOCOL } from './nbd-protocol.js';

/** The one upgrade there is: `GET /v1/disks/NAME/nbd` with `Upgrade: nbd`. */
const NBD_PATH = /^\/v1\/disks\/([^/?]+)\/nbd$/;
const SWITCHING = Buffer.from(
  `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${NBD_PROTOCOL}\r\n\r\n`,
);

interface Parts {
  readonly services: AdminServices;
  readonly callers: WeakMap<Socket, Caller>;
  readonly logger: Logger;
}

/**
 * Lets a caller turn its connection into an NBD connection to one disk: no socket file, nothing to
 * time out, and the data plane sees the caller's own credentials. A refusal is an ordinary answer
 * of the API.
 */
export function serveUpgrades(server: Server, parts: Parts): void {
  server.on('upgrade', (request, stream, head) => {
    // Whoever hangs up meanwhile is nobody's problem.
    stream.on('error', () => undefined);
    void upgrade(request, { stream, head }, parts).catch((error: unknown) => {
      const { status, body, foreseen } = toHttpError(error);
      const fields = { url: request.url, status, code: body.error.code };
      if (!foreseen) parts.logger.error({ ...fields, err: error }, 'an admin request failed');
      answer(stream, status, JSON.stringify(body));
    });
  });
}

async function upgrade(
  request: IncomingMessage,
  { stream, head }: { stream: Duplex; head: Buffer },
  { services, callers }: Parts,
): Promise<void> {
  const operation = `${request.method ?? ''} ${request.url ?? ''}`;
  if (!(stream instanceof Socket)) throw new Error('an admin connection is no socket');
  const caller = callers.get(stream);
  assertRole(caller, 'operate', operation.slice(0, 200));
  const name = NBD_PATH.exec(request.url ?? '')?.[1];
  if (name === undefined || request.method !== 'GET') {
    throw new KeyholdError(codes.ERR_ADMIN_ROUTE, `the admin API cannot upgrade ${operation}`);
  }
  if (request.headers.upgrade?.toLowerCase() !== NBD_PROTOCOL) {
    const found = JSON.stringify(request.headers.upgrade ?? '');
    throw requestError(`${operation}: expected Upgrade: ${NBD_PROTOCOL}, got ${found}`);
  }
  // They would be lost: from here on another reader has the connection.
  if (head.length > 0) throw requestError(`${operation}: bytes were sent before the answer`);
  await services.serveDisk(decodeName(name), caller, (adopt) => {
    const { _handle: handle } = stream as Socket & { _handle?: { fd?: number } | null };
    const fd = handle?.fd;
    if (fd === undefined || fd < 0) throw new Error('the connection has no file descriptor');
    adopt(fd, SWITCHING);
    // In the same turn, so that Node reads nothing that is for the data plane. Closes this
    // descriptor alone: the connection lives on under its duplicate.
    stream.destroy();
  });
}

function decodeName(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw requestError(`expected a percent-encoded disk name, got ${JSON.stringify(encoded)}`);
  }
}

function requestError(message: string): KeyholdError {
  return new KeyholdError(codes.ERR_ADMIN_REQUEST, message);
}

function answer(stream: Duplex, status: number, body: string): void {
  stream.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\nconnection: close\r\n` +
      `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

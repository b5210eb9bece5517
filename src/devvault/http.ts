// SPDX-License-Identifier: Apache-2.0
import type { IncomingMessage, Server } from 'node:http';
import type { Server as NetServer, Socket } from 'node:net';
import type { Logger } from '../base/logger.js';

/** Limits of both servers. Nothing legitimate comes near them. */
export const BODY_BYTES_MAX = 65_536;
export const HEADER_BYTES_MAX = 16_384;
export const HEADERS_TIMEOUT_MS = 10_000;
export const REQUEST_TIMEOUT_MS = 30_000;
export const CONNECTIONS_MAX = 256;
/** Longer than any probe interval: a probe must not meet a connection that is just being closed. */
export const KEEP_ALIVE_TIMEOUT_MS = 120_000;

/**
 * The body, or undefined if it is longer than BODY_BYTES_MAX. In that case the rest stays unread,
 * so that a refusal can still be sent; its sender must close the connection.
 */
export function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let lengthBytes = 0;
    request.on('data', (chunk: Buffer) => {
      lengthBytes += chunk.length;
      if (lengthBytes > BODY_BYTES_MAX) {
        request.pause();
        resolve(undefined);
      } else {
        chunks.push(chunk);
      }
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    request.once('error', reject);
    request.once('close', () => reject(new Error('connection closed within a request')));
  });
}

/**
 * Sets the limits, and keeps a failed accept (no file descriptors left) from ending the process.
 */
export function guard(server: Server, logger: Logger): void {
  server.on('error', (error) => logger.error({ detail: error.message }, 'embedded vault server'));
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_TIMEOUT_MS;
  server.maxConnections = CONNECTIONS_MAX;
}

/** Listens once; rejects with the system's error. */
export function listen(
  server: NetServer,
  address: { host: string; port: number } | { path: string },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      server.off('listening', onListening);
      reject(error);
    };
    const onListening = (): void => {
      server.off('error', onError);
      resolve();
    };
    server.once('error', onError);
    server.once('listening', onListening);
    server.listen(address);
  });
}

/**
 * Follows every connection of a server from the first byte, TLS handshakes included, so that
 * `close` ends them at once; Node's own closeAllConnections knows only those that have sent a
 * request.
 */
export function trackSockets(server: NetServer): { closeNow(): Promise<void> } {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return {
    async closeNow() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

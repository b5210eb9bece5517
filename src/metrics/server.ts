// SPDX-License-Identifier: Apache-2.0
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { codeOf, KeyholdError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { codes } from './errors.js';
import type { Metrics } from './metrics.js';

/** A Prometheus or two, and a person with curl. */
const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 10_000;
const TEXT = 'text/plain; charset=utf-8';

export interface MetricsServerOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly metrics: Pick<Metrics, 'scrape' | 'contentType'>;
  readonly logger: Logger;
  /** Null while the daemon serves as it should, else why not: what /healthz answers. */
  readonly trouble: () => string | null;
}

export interface MetricsServer {
  /** Of `/metrics`, with the port that was bound. */
  readonly url: string;
  /** Cuts connections off: a scrape can be repeated. */
  close(): Promise<void>;
}

/**
 * Serves `GET /metrics` and `GET /healthz`. Throws ERR_METRICS_LISTEN when the address is taken.
 */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const server = createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
    (request, response) => {
      answer(options, request, response).catch((error: unknown) => {
        options.logger.error({ err: error }, 'a scrape of the metrics failed');
        send(response, { status: 500, body: 'the metrics could not be read, see the log\n' });
      });
    },
  );
  server.maxConnections = CONNECTIONS_MAX;
  await listen(server, options.listen);
  const { address, family, port } = server.address() as AddressInfo;
  const host = family === 'IPv6' ? `[${address}]` : address;
  return {
    url: `http://${host}:${port}/metrics`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  { metrics, trouble }: MetricsServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const [path] = (request.url ?? '').split('?');
  if (path !== '/metrics' && path !== '/healthz') {
    send(response, { status: 404, body: 'expected /metrics or /healthz\n' });
  } else if (request.method !== 'GET') {
    response.setHeader('allow', 'GET');
    send(response, { status: 405, body: 'expected GET\n' });
  } else if (path === '/healthz') {
    const found = trouble();
    send(response, { status: found === null ? 200 : 503, body: `${found ?? 'ok'}\n` });
  } else {
    const body = await metrics.scrape();
    send(response, { status: 200, body, type: metrics.contentType });
  }
}

function send(
  response: ServerResponse,
  { status, body, type = TEXT }: { status: number; body: string; type?: string },
): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(body);
}

function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', (error) => {
      reject(
        new KeyholdError(
          codes.ERR_METRICS_LISTEN,
          `cannot serve metrics on ${host} port ${port}: ${codeOf(error) ?? error.message}`,
          { fields: { host, port, errno: codeOf(error) }, cause: error },
        ),
      );
    });
    server.listen({ host, port, exclusive: true }, () => resolve());
  });
}

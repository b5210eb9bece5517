// SPDX-License-Identifier: Apache-2.0
import { chmod, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { runCommand, type ControlServices } from './control-api.js';
import { codes } from './errors.js';
import { BODY_BYTES_MAX, guard, HEADER_BYTES_MAX, listen, readBody } from './http.js';
import { Refusal } from './refusals.js';

/** sun_path of Linux has 108 bytes, the last of which is zero. */
const SOCKET_PATH_BYTES_MAX = 107;

/** HTTP and JSON on a unix socket: what `keyhold vault …` and tests drive the vault with. */
export function createControlServer(services: () => ControlServices, logger: Logger): Server {
  const server = createServer(
    { maxHeaderSize: HEADER_BYTES_MAX },
    (request, response) => void serve(request, response, services, logger),
  );
  guard(server, logger);
  return server;
}

/**
 * Listens on `socketPath`, for its owner only. The socket is also what keeps two vaults from
 * serving one state directory: a live one is an error, one that a crash left behind is replaced.
 */
export async function listenControl(server: Server, socketPath: string): Promise<void> {
  const lengthBytes = Buffer.byteLength(socketPath);
  if (lengthBytes > SOCKET_PATH_BYTES_MAX) {
    throw new KeyholdError(
      codes.ERR_DEVVAULT_SOCKET_PATH,
      `cannot listen on ${socketPath}: the path has ${lengthBytes} bytes, ` +
        `at most ${SOCKET_PATH_BYTES_MAX}`,
      { fields: { socketPath, lengthBytes } },
    );
  }
  if (await isServed(socketPath)) {
    throw new KeyholdError(
      codes.ERR_DEVVAULT_ALREADY_RUNNING,
      `cannot start the embedded vault: another one listens on ${socketPath}`,
      { fields: { socketPath } },
    );
  }
  try {
    await rm(socketPath, { force: true });
    await listen(server, { path: socketPath });
    await chmod(socketPath, 0o600);
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_DEVVAULT_LISTEN,
      `cannot listen on ${socketPath}: ${messageOf(error)}`,
      { fields: { socketPath }, cause: error },
    );
  }
}

function isServed(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  services: () => ControlServices,
  logger: Logger,
): Promise<void> {
  response.on('error', () => undefined);
  try {
    const bytes = await readBody(request);
    if (bytes === undefined) {
      response.setHeader('connection', 'close');
      throw invalid(`the body is longer than ${BODY_BYTES_MAX} bytes`);
    }
    const answer = await runCommand(services(), {
      method: request.method ?? '',
      url: parseUrl(request.url ?? ''),
      body: parseJson(bytes),
    });
    send(response, 200, answer);
  } catch (error) {
    if (request.destroyed && !request.complete) return;
    const { status, code, message } = describeError(error);
    if (status === 500) logger.error({ detail: messageOf(error) }, 'control request failed');
    send(response, status, { error: { code, message } });
  }
}

const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  [codes.ERR_DEVVAULT_INPUT]: 400,
  [codes.ERR_DEVVAULT_NO_COMMAND]: 404,
};

/** What the REST API refuses, the control socket refuses with the same words. */
const CODE_BY_REFUSAL: Readonly<Record<number, string>> = {
  400: codes.ERR_DEVVAULT_INPUT,
  403: codes.ERR_DEVVAULT_FORBIDDEN,
  404: codes.ERR_DEVVAULT_KEY_NOT_FOUND,
  409: codes.ERR_DEVVAULT_KEY_CONFLICT,
};

function describeError(error: unknown): { status: number; code: string; message: string } {
  const message = messageOf(error);
  if (error instanceof Refusal) {
    const code = CODE_BY_REFUSAL[error.status] ?? codes.ERR_DEVVAULT_FORBIDDEN;
    return { status: error.status, code, message };
  }
  const code = codeOf(error) ?? codes.ERR_DEVVAULT_ANSWER;
  return { status: STATUS_BY_CODE[code] ?? 500, code, message };
}

function parseUrl(text: string): URL {
  try {
    return new URL(text, 'http://control');
  } catch {
    throw invalid('the request target is not a URL');
  }
}

function parseJson(bytes: Buffer): unknown {
  if (bytes.length === 0) return {};
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw invalid('the body is not JSON');
  }
}

function invalid(reason: string): KeyholdError {
  return new KeyholdError(
    codes.ERR_DEVVAULT_INPUT,
    `the embedded vault cannot accept the request: ${reason}`,
  );
}

function send(response: ServerResponse, status: number, body: object): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response
    .writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length })
    .end(bytes);
}

// SPDX-License-Identifier: Apache-2.0
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { Trouble } from './trouble.js';

type ErrorTrouble = Extract<Trouble, { kind: 'error' }>;

/**
 * Plays a trouble on a response. True: the request has got all that it will get. False: the true
 * answer follows (after latency, without headers, or spoilt by `spoilValue`).
 */
export async function playTrouble(
  response: ServerResponse,
  trouble: Trouble,
  errorBody: (trouble: ErrorTrouble) => object,
): Promise<boolean> {
  if (trouble.latencyMs > 0) await waitWhileOpen(response, trouble.latencyMs);
  if (response.destroyed) return true;
  switch (trouble.kind) {
    case 'latency':
    case 'wrong-value':
    case 'no-value':
    case 'wrong-challenge':
      return false;
    case 'no-headers':
      removeVaultHeaders(response);
      return false;
    case 'error':
      sendError(response, trouble, errorBody(trouble));
      return true;
    case 'html':
      removeVaultHeaders(response);
      response.writeHead(trouble.status, { 'content-type': 'text/html; charset=utf-8' });
      response.end(
        `<html><head><title>${trouble.status}</title></head><body>gateway</body></html>`,
      );
      return true;
    case 'bodyless':
      response.writeHead(trouble.status, { 'content-length': 0 }).end();
      return true;
    case 'hang':
      return true;
    case 'stall':
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1000 });
      response.write('{"kid":"');
      return true;
    case 'drop':
      response.destroy();
      return true;
  }
}

/** The answer's body as `wrong-value` and `no-value` leave it. */
export function spoilValue(
  body: object | undefined,
  trouble: Trouble | undefined,
): object | undefined {
  if (trouble?.kind === 'no-value') return {};
  if (trouble?.kind !== 'wrong-value' || body === undefined || !('value' in body)) return body;
  if (typeof body.value !== 'string') return body;
  const bytes = Buffer.from(body.value, 'base64url');
  bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0);
  return { ...body, value: bytes.toString('base64url') };
}

function sendError(response: ServerResponse, trouble: ErrorTrouble, body: object): void {
  if (trouble.omitVaultHeaders) removeVaultHeaders(response);
  if (trouble.retryAfterSeconds !== undefined) {
    response.setHeader('retry-after', trouble.retryAfterSeconds);
  }
  response.writeHead(trouble.status, { 'content-type': 'application/json; charset=utf-8' });
  response.end(JSON.stringify(body));
}

function removeVaultHeaders(response: ServerResponse): void {
  for (const name of response.getHeaderNames()) {
    if (name.startsWith('x-ms-')) response.removeHeader(name);
  }
}

/** Ends early when the connection goes away, so that closing the vault waits for nobody. */
async function waitWhileOpen(response: ServerResponse, latencyMs: number): Promise<void> {
  const gone = new AbortController();
  const onClose = (): void => gone.abort();
  response.once('close', onClose);
  try {
    await delay(latencyMs, undefined, { signal: gone.signal });
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  } finally {
    response.off('close', onClose);
  }
}

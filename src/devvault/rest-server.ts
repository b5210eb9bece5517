// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Logger } from '../base/logger.js';
import { messageOf } from '../base/errors.js';
import { assertAllowed } from './access.js';
import { answerAuthority, issuerOf, refuse, routeAuthority } from './authority.js';
import type { Identity } from './certificates.js';
import { BODY_BYTES_MAX, guard, HEADER_BYTES_MAX, readBody } from './http.js';
import type { KeyRing } from './key-ring.js';
import { badParameter, missingToken, Refusal, type Caller } from './refusals.js';
import type { RequestLog } from './request-log.js';
import { routeRequest, type RestAnswer, type RestRoute } from './rest-api.js';
import type { StateFile } from './state.js';
import { checkToken } from './tokens.js';
import { playTrouble, spoilValue } from './trouble-answers.js';
import type { Trouble, Troubles } from './trouble.js';

export interface RestServices {
  readonly file: StateFile;
  readonly keys: KeyRing;
  readonly troubles: Troubles;
  readonly log: RequestLog;
  readonly logger: Logger;
  readonly secretHash: Buffer;
  readonly nowMs: () => number;
  /** `https://127.0.0.1:PORT`; known once the server listens. */
  readonly baseUrl: () => string;
  /** The `resource` of the challenge and the audience of tokens. */
  readonly resource: string;
}

/** One request on its way through the server. */
interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly requestId: string;
  /** Filled in as it becomes known, for the request log. */
  readonly notes: {
    operation: string;
    kid?: string;
    clientId?: string;
    code?: string;
    trouble?: string;
  };
}

/** Longer than any path of the API; keeps the log small whatever is asked. */
const LOGGED_PATH_LENGTH_MAX = 500;

/** The HTTPS server of the vault's REST API and of the authority that issues its tokens. */
export function createRestServer(server: Identity, services: RestServices): Server {
  const https = createServer(
    {
      cert: server.certificatePem,
      key: server.privateKeyPem,
      minVersion: 'TLSv1.2',
      maxHeaderSize: HEADER_BYTES_MAX,
    },
    (request, response) => void serve(request, response, services),
  );
  guard(https, services.logger);
  return https;
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  services: RestServices,
): Promise<void> {
  const startedMs = services.nowMs();
  const started = performance.now();
  const requestId = randomUUID();
  const notes: Exchange['notes'] = { operation: 'unknown' };
  response.once('close', () =>
    services.log.add({
      time: new Date(startedMs).toISOString(),
      method: request.method ?? '',
      path: ((request.url ?? '').split('?')[0] ?? '').slice(0, LOGGED_PATH_LENGTH_MAX),
      requestId,
      status: response.writableFinished ? response.statusCode : null,
      durationMs: Math.round(performance.now() - started),
      ...notes,
    }),
  );
  // A connection that breaks, or is broken by scripted trouble, is no error of the vault's.
  response.on('error', () => undefined);
  try {
    const url = new URL(request.url ?? '', services.baseUrl());
    await answer({ request, response, url, requestId, notes }, services);
  } catch (error) {
    if (request.destroyed && !request.complete) return;
    services.logger.error({ requestId, detail: messageOf(error) }, 'vault request failed');
    if (response.headersSent) response.destroy();
    else sendJson(response, 500, { error: { code: 'InternalServerError', message: 'failed' } });
  }
}

async function answer(exchange: Exchange, services: RestServices): Promise<void> {
  const { request, response, url } = exchange;
  const body = await readBody(request);
  if (body === undefined) {
    response.setHeader('connection', 'close');
    const message = `the body is longer than ${BODY_BYTES_MAX} bytes`;
    sendJson(response, 413, { error: { code: 'RequestEntityTooLarge', message } });
    return;
  }
  const segments = decodePath(url.pathname);
  if (segments !== undefined && routeAuthority(segments) !== undefined) {
    await answerAsAuthority(exchange, services, { segments, body });
    return;
  }
  const route = routeRequest(request.method ?? '', url.pathname);
  exchange.notes.operation = route?.permission ?? 'unknown';
  setVaultHeaders(exchange, services);
  await answerAsVault(exchange, services, { route, body });
}

async function answerAsAuthority(
  exchange: Exchange,
  services: RestServices,
  request: { segments: string[]; body: Buffer },
): Promise<void> {
  const { response, notes } = exchange;
  const endpoint = routeAuthority(request.segments) ?? 'unknown';
  notes.operation = endpoint;
  response.setHeader('x-ms-request-id', exchange.requestId);
  response.setHeader('cache-control', 'no-store, no-cache');
  const trouble = endpoint === 'token' ? services.troubles.strike('token', 'before') : undefined;
  if (trouble !== undefined) {
    notes.trouble = trouble.kind;
    if (await playTrouble(response, trouble, tokenError)) return;
  }
  const { status, body } = answerAuthority(
    { method: exchange.request.method ?? '', ...request },
    {
      state: services.file.current,
      baseUrl: services.baseUrl(),
      secretHash: services.secretHash,
      nowMs: services.nowMs(),
    },
  );
  if (status !== 200 && 'error' in body) notes.code = String(body.error);
  sendJson(response, status, body);
}

/** Scripted errors of the token endpoint have Entra's shape; `code` may name an AADSTS number. */
function tokenError(trouble: Extract<Trouble, { kind: 'error' }>): object {
  const number = Number(/\d+/.exec(trouble.innerCode ?? '')?.[0] ?? 90033);
  const text = trouble.message ?? 'A transient error has occurred. Please try again.';
  return refuse(trouble.status, trouble.code ?? 'temporarily_unavailable', number, text).body;
}

async function answerAsVault(
  exchange: Exchange,
  services: RestServices,
  { route, body }: { route: RestRoute | undefined; body: Buffer },
): Promise<void> {
  const { response, notes } = exchange;
  try {
    if (await strike(exchange, services, route, 'before')) return;
    const caller = authenticate(exchange, services);
    notes.clientId = caller.clientId;
    if (route === undefined) throw badParameter('This vault has no such operation.');
    const trouble = services.troubles.strike(route.permission, 'after', route.name);
    if (trouble !== undefined) notes.trouble = trouble.kind;
    if (trouble !== undefined && (await playTrouble(response, trouble, vaultError))) return;
    const result = await run(route, caller, { exchange, services, body });
    if (result.kid !== undefined) notes.kid = result.kid;
    sendJson(response, result.status, spoilValue(result.body, trouble));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    notes.code = error.innerCode ?? error.code;
    if (error.isChallenge) setChallenge(response, services, services.resource);
    sendJson(response, error.status, error.toBody());
  }
}

/** Plays a trouble that comes before authentication. True: the request has its answer. */
async function strike(
  { response, notes }: Exchange,
  services: RestServices,
  route: RestRoute | undefined,
  phase: 'before' | 'after',
): Promise<boolean> {
  const trouble = route && services.troubles.strike(route.permission, phase, route.name);
  if (trouble === undefined) return false;
  notes.trouble = trouble.kind;
  if (trouble.kind === 'wrong-challenge') {
    setChallenge(response, services, 'https://vault.invalid');
    sendJson(response, 401, missingToken().toBody());
    return true;
  }
  return playTrouble(response, trouble, vaultError);
}

async function run(
  route: RestRoute,
  caller: Caller,
  about: { exchange: Exchange; services: RestServices; body: Buffer },
): Promise<RestAnswer> {
  const { exchange, services, body } = about;
  const { file, keys } = services;
  const baseUrl = services.baseUrl();
  if (route.name !== undefined && route.version !== '') {
    exchange.notes.kid = `${baseUrl}/keys/${route.name}/${route.version}`;
  }
  const { permission, name: keyName } = route;
  assertAllowed(file.current, { caller, permission, keyName });
  const context = { keys, state: file.current, baseUrl };
  return route.run(context, { query: exchange.url.searchParams, body });
}

function vaultError(trouble: Extract<Trouble, { kind: 'error' }>): object {
  const { status, innerCode } = trouble;
  return new Refusal({
    status,
    code: trouble.code ?? defaultCode(status),
    ...(innerCode === undefined ? {} : { innerCode }),
    message: trouble.message ?? defaultMessage(status),
  }).toBody();
}

const DEFAULT_CODES: Readonly<Record<number, string>> = {
  400: 'BadParameter',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'KeyNotFound',
  408: 'RequestTimeout',
  409: 'Conflict',
  429: 'Throttled',
  503: 'ServiceUnavailable',
};

function defaultCode(status: number): string {
  return DEFAULT_CODES[status] ?? 'InternalServerError';
}

function defaultMessage(status: number): string {
  return status === 429
    ? 'Request was not processed because too many requests were received. ' +
        'Reason: VaultRequestTypeLimitReached'
    : `Scripted trouble with status ${status}.`;
}

function authenticate({ request }: Exchange, services: RestServices): Caller {
  const token = /^Bearer ([\w.-]+)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined) throw missingToken();
  const state = services.file.current;
  const caller = checkToken(state, token, {
    audience: services.resource,
    issuer: issuerOf(services.baseUrl(), state.tenantId),
    nowMs: services.nowMs(),
  });
  if (caller instanceof Refusal) throw caller;
  return caller;
}

function setChallenge(response: ServerResponse, services: RestServices, resource: string): void {
  const authorization = `${services.baseUrl()}/${services.file.current.tenantId}`;
  // The SDK splits the parameters at a comma and a blank.
  response.setHeader(
    'www-authenticate',
    `Bearer authorization="${authorization}", resource="${resource}"`,
  );
}

function setVaultHeaders({ request, response, requestId }: Exchange, services: RestServices): void {
  const address = request.socket.remoteAddress ?? '';
  const isIpv6 = request.socket.remoteFamily === 'IPv6';
  const [type, family] = isIpv6 ? ['Ipv6', 'InterNetworkV6'] : ['Ipv4', 'InterNetwork'];
  response.setHeader('x-ms-request-id', requestId);
  response.setHeader('x-ms-keyvault-service-version', '1.9.0.0');
  response.setHeader('x-ms-keyvault-region', services.file.current.region);
  response.setHeader(
    'x-ms-keyvault-network-info',
    `conn_type=${type};addr=${address};act_addr_fam=${family};`,
  );
  response.setHeader('cache-control', 'no-cache');
}

/** Undefined if the path is not valid percent-encoding. */
function decodePath(pathname: string): string[] | undefined {
  try {
    return pathname.split('/').slice(1).map(decodeURIComponent);
  } catch {
    return undefined;
  }
}

function sendJson(response: ServerResponse, status: number, body: object | undefined): void {
  if (body === undefined) {
    response.writeHead(status).end();
    return;
  }
  const bytes = Buffer.from(JSON.stringify(body));
  response
    .writeHead(status, {
      'content-type': 'application/json; charset=utf-8',
      'content-length': bytes.length,
    })
    .end(bytes);
}

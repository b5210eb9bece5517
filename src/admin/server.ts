// SPDX-License-Identifier: Apache-2.0
import swagger from '@fastify/swagger';
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { createServer, type Server } from 'node:http';
import type { Socket } from 'node:net';
import type { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { describeIssues, formatIssues } from '../base/schema-issues.js';
import { eventSchema, type AdminServices, type Caller, type Role } from './api.js';
import {
  groupId,
  assertRole,
  identifyCaller,
  type CallerOptions,
  type PeerCredentials,
} from './callers.js';
import { codes } from './errors.js';
import { EventStreams } from './event-streams.js';
import { errorBody, toHttpError } from './http-errors.js';
import { openApiOptions, type RouteDocument } from './openapi.js';
import type { AdminRoute } from './route.js';
import { createRoutes } from './routes.js';
import { AUDIT_EXPORT_PATH, auditExportRoute } from './routes-audit.js';
import { NBD_PROTOCOL } from './nbd-protocol.js';
import { serveUpgrades } from './nbd-upgrade.js';
import { listenOnFd, listenOnUnixSocket } from './unix-socket.js';

/** Requests hold names, URLs and numbers. */
const BODY_BYTES_MAX = 64 * 1024;
/** For receiving a request; how long an operation takes is the services' business. Milliseconds. */
const RECEIVE_TIMEOUT_MS = 30_000;
const HEADERS_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5000;
/** Commands, subscribers and a few scripts; more is a mistake. */
const CONNECTIONS_MAX = 256;
/** A percent-encoded name of 255 characters of four bytes each. */
const PARAM_LENGTH_MAX = 3060;
/** At close, requests under way get this long to finish. */
const CLOSE_TIMEOUT_MS = 5000;
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;

export interface AdminServerOptions {
  readonly socketPath: string;
  /** A listening unix socket to use instead of binding `socketPath`; its file is left alone. */
  readonly fd?: number;
  readonly services: AdminServices;
  readonly peerCredentials: PeerCredentials;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Of the program, for the OpenAPI document. */
  readonly version: string;
  /** Default: this process's user. */
  readonly daemonUid?: number;
  /** Default: `keyhold`. */
  readonly operatorGroup?: string;
  readonly groupFile?: string;
  readonly procDirectory?: string;
}

export interface AdminServer {
  readonly socketPath: string;
  /** Ends event streams, lets requests under way finish for a while, removes the socket. */
  close(): Promise<void>;
}

/** Serves the admin API. On error nothing listens. */
export async function startAdminServer(options: AdminServerOptions): Promise<AdminServer> {
  const callerOptions: CallerOptions = {
    peerCredentials: options.peerCredentials,
    daemonUid: options.daemonUid ?? process.geteuid?.() ?? 0,
    operatorGroup: options.operatorGroup ?? 'keyhold',
    groupFile: options.groupFile ?? '/etc/group',
    procDirectory: options.procDirectory ?? '/proc',
  };
  const streams = new EventStreams(options);
  const callers = new WeakMap<Socket, Caller>();
  const { app, server } = createApp(options, { streams, callers });
  server.on('connection', (socket: Socket) => {
    try {
      callers.set(socket, identifyCaller(socket, callerOptions));
    } catch (error) {
      options.logger.warn({ err: error }, 'an admin caller could not be identified');
    }
  });
  const { services, logger } = options;
  serveUpgrades(server, { services, callers, logger });
  await app.register(swagger, openApiOptions(options.version));
  addRoutes(app, { services: options.services, streams, callers });
  await app.ready();
  if (options.fd === undefined) {
    await listenOnUnixSocket(server, {
      path: options.socketPath,
      gid: groupId(callerOptions.groupFile, callerOptions.operatorGroup),
    });
  } else {
    await listenOnFd(server, options.fd);
  }
  return {
    socketPath: options.socketPath,
    async close() {
      streams.close();
      await closeServer(server, options.clock);
      await app.close();
    },
  };
}

interface Parts {
  readonly services: AdminServices;
  readonly streams: EventStreams;
  readonly callers: WeakMap<Socket, Caller>;
}

function createApp(
  options: AdminServerOptions,
  parts: Omit<Parts, 'services'>,
): { app: FastifyInstance; server: Server } {
  const answerError = (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const { status, body, foreseen } = toHttpError(error);
    const fields = { method: request.method, url: request.url, status, code: body.error.code };
    if (!foreseen) options.logger.error({ ...fields, err: error }, 'an admin request failed');
    reply.code(status).send(body);
  };
  let server: Server | undefined;
  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: PARAM_LENGTH_MAX },
    frameworkErrors: (error, request, reply) => {
      answerError(error, request, reply);
    },
    clientErrorHandler: refuseMalformed,
    serverFactory: (handler) => {
      server = createServer(
        {
          requestTimeout: RECEIVE_TIMEOUT_MS,
          headersTimeout: HEADERS_TIMEOUT_MS,
          keepAliveTimeout: KEEP_ALIVE_MS,
        },
        handler,
      );
      server.maxConnections = CONNECTIONS_MAX;
      return server;
    },
  }) as unknown as FastifyInstance;
  if (server === undefined) throw new Error('fastify did not ask for its server');
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((request) => {
    throw new KeyholdError(
      codes.ERR_ADMIN_ROUTE,
      `the admin API has no path ${request.method} ${JSON.stringify(request.url.slice(0, 200))}`,
    );
  });
  app.setValidatorCompiler(({ schema, httpPart, method, url }) => {
    const operation = `${method} ${url}`;
    return (value) => validate(schema as z.ZodType, value, `${operation}: ${httpPart ?? 'input'}`);
  });
  app.addHook('onResponse', (request, reply, done) => {
    const { uid, pid } = parts.callers.get(request.raw.socket) ?? {};
    const { method, url } = request;
    options.logger.debug({ method, url, status: reply.statusCode, uid, pid }, 'admin request');
    done();
  });
  return { app, server };
}

function validate(
  schema: z.ZodType,
  value: unknown,
  where: string,
): { value: unknown } | { error: Error } {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { value: parsed.data };
  const issues = describeIssues(schema, value, parsed.error.issues);
  return {
    error: new KeyholdError(codes.ERR_ADMIN_REQUEST, `${where}: ${formatIssues(issues)}`, {
      fields: { issues },
    }),
  };
}

function addRoutes(app: FastifyInstance, parts: Parts): void {
  const routes = createRoutes();
  for (const route of routes) addRoute(app, route, parts);
  addEventsRoute(app, parts);
  app.route(
    auditExportRoute({
      services: parts.services,
      onRequest: requireRole('operate', parts.callers),
      callerOf: (request) => callerOf(request, parts.callers),
    }),
  );
  app.route({
    method: 'GET',
    url: '/v1/disks/:name/nbd',
    schema: { hide: true },
    handler: () => {
      throw new KeyholdError(
        codes.ERR_ADMIN_REQUEST,
        `GET /v1/disks/NAME/nbd: expected the header Upgrade: ${NBD_PROTOCOL}`,
      );
    },
    onRequest: requireRole('operate', parts.callers),
  });
  app.route({
    method: 'GET',
    url: '/v1/openapi.json',
    schema: { hide: true },
    onRequest: requireRole('status', parts.callers),
    handler: (_, reply) => reply.send(app.swagger()),
  });
  const methodsOf = new Map([
    ['/v1/events', ['GET']],
    [AUDIT_EXPORT_PATH, ['GET']],
    ['/v1/openapi.json', ['GET']],
  ]);
  for (const { url, method } of routes) {
    methodsOf.set(url, [...(methodsOf.get(url) ?? []), method]);
  }
  for (const [url, allowed] of methodsOf) refuseOtherMethods(app, url, allowed);
}

function addRoute(app: FastifyInstance, route: AdminRoute, parts: Parts): void {
  const { services, callers } = parts;
  app.route({
    method: route.method,
    url: route.url,
    config: { document: route },
    schema: {
      ...(route.params === undefined ? {} : { params: route.params }),
      ...(route.query === undefined ? {} : { querystring: route.query }),
      ...(route.body === undefined ? {} : { body: route.body }),
    },
    onRequest: requireRole(route.role, callers),
    handler: async (request, reply) => {
      const { params, query, body } = request;
      const caller = callerOf(request, callers);
      const answer = await route.call(services, { params, query, body, caller });
      // Parsed, so that nothing leaves that the document does not name.
      reply.code(route.status);
      return route.answer === undefined ? undefined : route.answer.parse(answer);
    },
  });
}

function addEventsRoute(app: FastifyInstance, { streams, callers }: Parts): void {
  const document: RouteDocument = {
    operationId: 'events',
    summary: 'Events as they happen, one JSON object a line, until either side ends it',
    status: 200,
    answer: eventSchema,
    mediaType: 'application/x-ndjson',
  };
  app.route({
    method: 'GET',
    url: '/v1/events',
    config: { document },
    onRequest: requireRole('operate', callers),
    handler: (_, reply) => {
      streams.start(reply.raw);
      reply.hijack();
    },
  });
}

/** fastify answers a known path with a wrong method as 404; 405 with Allow says what is meant. */
function refuseOtherMethods(app: FastifyInstance, url: string, allowed: readonly string[]): void {
  app.route({
    method: METHODS.filter((method) => !allowed.includes(method)),
    url,
    schema: { hide: true },
    onRequest: (request, reply, done) => {
      reply.header('allow', allowed.join(', '));
      const expected = allowed.join(' or ');
      const message = `${request.method} is not allowed on ${url}: expected ${expected}`;
      done(new KeyholdError(codes.ERR_ADMIN_METHOD, message));
    },
    handler: () => undefined,
  });
}

function callerOf(request: FastifyRequest, callers: WeakMap<Socket, Caller>): Caller {
  const caller = callers.get(request.raw.socket);
  assertRole(caller, 'status', 'call');
  return caller;
}

/** Before the body is read, so that nobody without the right costs more than a header. */
function requireRole(needed: Role, callers: WeakMap<Socket, Caller>) {
  return (request: FastifyRequest, _: FastifyReply, done: (error?: Error) => void): void => {
    const operation = `${request.method} ${request.routeOptions.url ?? request.url}`;
    assertRole(callers.get(request.raw.socket), needed, operation);
    done();
  };
}

/** Bytes that are no HTTP request. The socket may be half dead: answer if possible, then close. */
function refuseMalformed(_: Error, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify(
    errorBody(codes.ERR_ADMIN_REQUEST, 'invalid', 'cannot read the request: not HTTP/1.1'),
  );
  socket.end(
    'HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n' +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

function closeServer(server: Server, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.setTimer(CLOSE_TIMEOUT_MS, () => server.closeAllConnections());
    server.close(() => {
      timer.cancel();
      resolve();
    });
    server.closeIdleConnections();
  });
}

// SPDX-License-Identifier: Apache-2.0
import { request, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { z } from 'zod';
import { codeOf, KeyholdError, messageOf, type ErrorKind } from '../base/errors.js';
import {
  allowResultSchema,
  connectionListSchema,
  diskDetailSchema,
  diskListSchema,
  diskViewSchema,
  errorBodySchema,
  eventSchema,
  exportedKeySchema,
  reloadResultSchema,
  statusSchema,
  type AdminEvent,
  type AllowResult,
  type ChangeAllowRequest,
  type ConnectionView,
  type CreateDiskRequest,
  type DiskDetail,
  type DiskView,
  type ExportedKey,
  type ExportKeyRequest,
  type MoveDiskRequest,
  type ReloadResult,
  type Status,
} from './api.js';
import { auditVerifyResultSchema, type AuditVerifyResult } from './api-audit.js';
import {
  checkResultSchema,
  setListSchema,
  setViewSchema,
  type CheckResult,
  type CreateSetRequest,
  type SetView,
  impactSchema,
  purgeReceiptSchema,
  type AssignKeyRequest,
  type ConfirmRequest,
  type DrillRequest,
  type Impact,
  type ImpactQuery,
  type PurgeReceipt,
  type UpdateSetRequest,
} from './api-sets.js';
import type { AuditExportQuery } from './api-audit.js';
import { type Counters, countersSchema } from './api-counters.js';
import { type DoctorReport, doctorReportSchema, type DoctorRequest } from './api-doctor.js';
import { codes } from './errors.js';
import { NBD_PROTOCOL } from './nbd-protocol.js';

/** Long enough for a set creation against a slow vault with retries; milliseconds. */
const TIMEOUT_MS = 180_000;
/** An answer that is larger is not one of ours; 10,000 disks are about 6 MB. */
const ANSWER_BYTES_MAX = 64 * 2 ** 20;
/** The longest line that an audit record can make, with room to spare. */
const EVENT_BYTES_MAX = 2 ** 20;

/** An error that the daemon answered with; its kind is the daemon's, not this process's table's. */
export class AdminAnswerError extends KeyholdError {
  readonly #kind: ErrorKind;

  constructor(kind: ErrorKind, code: string, message: string, fields: Record<string, unknown>) {
    super(code, message, { fields });
    this.#kind = kind;
  }

  override get kind(): ErrorKind {
    return this.#kind;
  }
}

/** The admin API as a caller sees it: AdminServices without the caller, events as an iterator. */
export interface AdminClient {
  status(): Promise<Status>;
  listConnections(): Promise<ConnectionView[]>;
  counters(signal?: AbortSignal): Promise<Counters>;
  listSets(): Promise<SetView[]>;
  showSet(name: string): Promise<SetView>;
  createSet(request: CreateSetRequest): Promise<SetView>;
  updateSet(name: string, request: UpdateSetRequest): Promise<SetView>;
  checkSet(name: string): Promise<CheckResult>;
  rotateSet(name: string): Promise<SetView>;
  assignKey(name: string, request: AssignKeyRequest): Promise<SetView>;
  impactOfSet(name: string, query: ImpactQuery): Promise<Impact>;
  beginDrill(name: string, request: DrillRequest): Promise<SetView>;
  endDrill(name: string): Promise<SetView>;
  purgeSet(name: string, request: ConfirmRequest): Promise<PurgeReceipt>;
  deleteSet(name: string): Promise<void>;
  listDisks(): Promise<DiskView[]>;
  showDisk(name: string): Promise<DiskDetail>;
  createDisk(request: CreateDiskRequest): Promise<DiskView>;
  attachDisk(name: string): Promise<DiskView>;
  detachDisk(name: string): Promise<DiskView>;
  restartDisk(name: string): Promise<DiskView>;
  changeAllow(name: string, change: ChangeAllowRequest): Promise<AllowResult>;
  moveDisk(name: string, request: MoveDiskRequest): Promise<DiskView>;
  eraseDisk(name: string, request: ConfirmRequest): Promise<DiskView>;
  exportKey(name: string, request: ExportKeyRequest): Promise<ExportedKey>;
  deleteDisk(name: string, options?: { deleteStore?: boolean }): Promise<void>;
  /** A connection that speaks NBD from its first byte on and serves this one disk. */
  serveDisk(name: string): Promise<Socket>;
  verifyAudit(): Promise<AuditVerifyResult>;
  /**
   * The bytes of an export as they come; resolves with its head. No time limit: the daemon reads
   * the whole log first. The iteration throws when the stream breaks off.
   */
  exportAudit(query: AuditExportQuery): Promise<AsyncIterable<Buffer>>;
  doctor(request: DoctorRequest): Promise<DoctorReport>;
  reload(): Promise<ReloadResult>;
  /** The OpenAPI document that the daemon serves. */
  openApi(): Promise<unknown>;
  /**
   * Resolves once the subscription stands. The iterator ends when the daemon stops or `signal`
   * aborts, and throws ERR_ADMIN_UNREACHABLE when the stream breaks off (a reader too slow, a
   * crash).
   */
  events(signal?: AbortSignal): Promise<AsyncIterable<AdminEvent>>;
}

/** A typed client of the admin API. One connection for each call; nothing to close. */
export function createAdminClient(options: {
  socketPath: string;
  timeoutMs?: number;
}): AdminClient {
  const link: Link = {
    socketPath: options.socketPath,
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
  };
  const get = <T>(path: string, schema: z.ZodType<T>): Promise<T> =>
    call(link, { method: 'GET', path }, schema);
  const post = <T>(path: string, schema: z.ZodType<T>, body?: unknown): Promise<T> =>
    call(link, { method: 'POST', path, ...(body === undefined ? {} : { body }) }, schema);
  const diskAction = (name: string, action: string): Promise<DiskView> =>
    post(`${diskPath(name)}/${action}`, diskViewSchema);
  return {
    status: () => get('/v1/status', statusSchema),
    listConnections: async () => (await get('/v1/connections', connectionListSchema)).connections,
    counters: (signal) => call(link, countersCall, countersSchema, signal),
    listSets: async () => (await get('/v1/sets', setListSchema)).sets,
    showSet: (name) => get(setPath(name), setViewSchema),
    createSet: (body) => post('/v1/sets', setViewSchema, body),
    updateSet: (name, body) =>
      call(link, { method: 'PATCH', path: setPath(name), body }, setViewSchema),
    rotateSet: (name) => post(`${setPath(name)}/rotate`, setViewSchema),
    assignKey: (name, body) => post(`${setPath(name)}/assign-key`, setViewSchema, body),
    impactOfSet: (name, query) =>
      get(`${setPath(name)}/impact?${new URLSearchParams(query).toString()}`, impactSchema),
    beginDrill: (name, body) => post(`${setPath(name)}/drill`, setViewSchema, body),
    endDrill: (name) =>
      call(link, { method: 'DELETE', path: `${setPath(name)}/drill` }, setViewSchema),
    purgeSet: (name, body) => post(`${setPath(name)}/purge`, purgeReceiptSchema, body),
    checkSet: (name) => post(`${setPath(name)}/check`, checkResultSchema),
    deleteSet: (name) => callWithoutAnswer(link, { method: 'DELETE', path: setPath(name) }),
    listDisks: async () => (await get('/v1/disks', diskListSchema)).disks,
    showDisk: (name) => get(diskPath(name), diskDetailSchema),
    createDisk: (body) => post('/v1/disks', diskViewSchema, body),
    attachDisk: (name) => diskAction(name, 'attach'),
    detachDisk: (name) => diskAction(name, 'detach'),
    restartDisk: (name) => diskAction(name, 'restart'),
    moveDisk: (name, body) => post(`${diskPath(name)}/move`, diskViewSchema, body),
    eraseDisk: (name, body) => post(`${diskPath(name)}/erase`, diskViewSchema, body),
    exportKey: (name, body) => post(`${diskPath(name)}/export-key`, exportedKeySchema, body),
    changeAllow: (name, body) =>
      call(link, { method: 'PATCH', path: `${diskPath(name)}/allow`, body }, allowResultSchema),
    deleteDisk(name, { deleteStore = false } = {}) {
      const path = `${diskPath(name)}?deleteStore=${deleteStore}`;
      return callWithoutAnswer(link, { method: 'DELETE', path });
    },
    serveDisk: (name) => openNbd(link, { method: 'GET', path: `${diskPath(name)}/nbd` }),
    verifyAudit: () => post('/v1/audit/verify', auditVerifyResultSchema),
    exportAudit: (query) => openExport(link, query),
    doctor: (request) => post('/v1/doctor', doctorReportSchema, request),
    reload: () => post('/v1/reload', reloadResultSchema),
    openApi: async () => parseJson(link, await exchange(link, openApiCall)),
    events: (signal) => openEvents(link, signal),
  };
}

interface Link {
  readonly socketPath: string;
  readonly timeoutMs: number;
}

interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
}

const countersCall: Call = { method: 'GET', path: '/v1/counters' };
const openApiCall: Call = { method: 'GET', path: '/v1/openapi.json' };

function setPath(name: string): string {
  return `/v1/sets/${encodeURIComponent(name)}`;
}

function diskPath(name: string): string {
  return `/v1/disks/${encodeURIComponent(name)}`;
}

async function call<T>(
  link: Link,
  what: Call,
  schema: z.ZodType<T>,
  ended?: AbortSignal,
): Promise<T> {
  const text = await exchange(link, what, ended);
  const parsed = schema.safeParse(parseJson(link, text));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const detail = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`;
  throw new KeyholdError(
    codes.ERR_ADMIN_RESPONSE,
    `${what.method} ${what.path} over ${link.socketPath}: ` +
      `the answer does not have the documented form: ${detail}`,
    { fields: { socket: link.socketPath, path: what.path } },
  );
}

async function callWithoutAnswer(link: Link, what: Call): Promise<void> {
  await exchange(link, what);
}

/** One request; the text of a 2xx answer, or the error that the daemon sent. */
async function exchange(link: Link, what: Call, ended?: AbortSignal): Promise<string> {
  const timeout = AbortSignal.timeout(link.timeoutMs);
  const signal = ended === undefined ? timeout : AbortSignal.any([timeout, ended]);
  const answer = await send(link, what, signal);
  const text = await readAll(link, answer, signal);
  throwIfError(link, what, answer, text);
  return text;
}

/** Sends a request and resolves with the answer's head. */
function send(link: Link, what: Call, signal?: AbortSignal): Promise<IncomingMessage> {
  const body = what.body === undefined ? undefined : JSON.stringify(what.body);
  return new Promise((resolve, reject) => {
    const outgoing = request({
      socketPath: link.socketPath,
      method: what.method,
      path: what.path,
      agent: false,
      ...(signal === undefined ? {} : { signal }),
      headers: {
        accept: 'application/json',
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
    });
    outgoing.on('response', resolve);
    outgoing.on('error', (error) => reject(connectionError(link, error, signal)));
    outgoing.end(body);
  });
}

async function readAll(link: Link, answer: IncomingMessage, signal?: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let lengthBytes = 0;
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      lengthBytes += chunk.length;
      if (lengthBytes > ANSWER_BYTES_MAX) {
        throw responseError(link, `expected at most ${ANSWER_BYTES_MAX} bytes, got more`);
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw connectionError(link, error, signal);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function throwIfError(link: Link, what: Call, answer: IncomingMessage, text: string): void {
  const status = answer.statusCode ?? 0;
  if (status >= 200 && status < 300) return;
  const body = errorBodySchema.safeParse(parseJson(link, text));
  if (!body.success) {
    throw responseError(
      link,
      `${what.method} ${what.path} answered HTTP ${status} without an error`,
    );
  }
  const { kind, code, message, fields } = body.data.error;
  throw new AdminAnswerError(kind, code, message, fields ?? {});
}

function parseJson(link: Link, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw responseError(link, `expected JSON, got ${JSON.stringify(text.slice(0, 60))}`);
  }
}

function responseError(link: Link, detail: string): KeyholdError {
  return new KeyholdError(codes.ERR_ADMIN_RESPONSE, `answer over ${link.socketPath}: ${detail}`, {
    fields: { socket: link.socketPath },
  });
}

/** What a failure of the socket itself means. KeyholdErrors pass through. */
function connectionError(link: Link, error: unknown, signal?: AbortSignal): KeyholdError {
  if (error instanceof KeyholdError) return error;
  const { socketPath: socket } = link;
  const reason = signal?.aborted === true ? (signal.reason as unknown) : error;
  if (reason instanceof DOMException && reason.name === 'TimeoutError') {
    return new KeyholdError(
      codes.ERR_ADMIN_TIMEOUT,
      `no answer over ${socket} within ${link.timeoutMs} ms`,
      { fields: { socket, timeoutMs: link.timeoutMs }, cause: error },
    );
  }
  const errno = codeOf(error) ?? 'UNKNOWN';
  const fields = { socket, errno };
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new KeyholdError(
      codes.ERR_ADMIN_FORBIDDEN,
      `cannot open admin socket ${socket}: permission denied (${errno})`,
      { fields, cause: error },
    );
  }
  // Node's own messages name the errno already; its parser's do not.
  const text = messageOf(error);
  const why = text.includes(errno) ? text : `${errno}: ${text}`;
  return new KeyholdError(
    codes.ERR_ADMIN_UNREACHABLE,
    `cannot reach the daemon on admin socket ${socket}: ${why}`,
    { fields, cause: error },
  );
}

function openNbd(link: Link, what: Call): Promise<Socket> {
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

async function openExport(link: Link, query: AuditExportQuery): Promise<AsyncIterable<Buffer>> {
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

async function openEvents(link: Link, signal?: AbortSignal): Promise<AsyncIterable<AdminEvent>> {
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

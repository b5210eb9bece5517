// SPDX-License-Identifier: Apache-2.0
import { request, type IncomingMessage } from 'node:http';
import type { z } from 'zod';
import { codeOf, KeyholdError, messageOf, type ErrorKind } from '../base/errors.js';
import { errorBodySchema } from './api.js';
import { codes } from './errors.js';

/** An answer that is larger is not one of ours; 10,000 disks are about 6 MB. */
const ANSWER_BYTES_MAX = 64 * 2 ** 20;

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

/** Where the daemon answers, and for how long an answer is waited for. */
export interface Link {
  readonly socketPath: string;
  readonly timeoutMs: number;
}

/** One request; `path` with its query, `body` is sent as JSON. */
export interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
}

/** One request; its answer in the documented form, or ERR_ADMIN_RESPONSE. */
export async function call<T>(
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

/** One request whose answer says nothing but that it worked. */
export async function callWithoutAnswer(link: Link, what: Call): Promise<void> {
  await exchange(link, what);
}

/** One request; the text of a 2xx answer, or the error that the daemon sent. */
export async function exchange(link: Link, what: Call, ended?: AbortSignal): Promise<string> {
  const timeout = AbortSignal.timeout(link.timeoutMs);
  const signal = ended === undefined ? timeout : AbortSignal.any([timeout, ended]);
  const answer = await send(link, what, signal);
  const text = await readAll(link, answer, signal);
  throwIfError(link, what, answer, text);
  return text;
}

/** Sends a request and resolves with the answer's head. */
export function send(link: Link, what: Call, signal?: AbortSignal): Promise<IncomingMessage> {
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

/** The text of an answer of at most 64 MiB. */
export async function readAll(
  link: Link,
  answer: IncomingMessage,
  signal?: AbortSignal,
): Promise<string> {
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

/** Throws the error that the daemon sent, unless the answer is a 2xx. */
export function throwIfError(link: Link, what: Call, answer: IncomingMessage, text: string): void {
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

/** Throws ERR_ADMIN_RESPONSE. */
export function parseJson(link: Link, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw responseError(link, `expected JSON, got ${JSON.stringify(text.slice(0, 60))}`);
  }
}

/** What an answer that no daemon of ours would give is. */
export function responseError(link: Link, detail: string): KeyholdError {
  return new KeyholdError(codes.ERR_ADMIN_RESPONSE, `answer over ${link.socketPath}: ${detail}`, {
    fields: { socket: link.socketPath },
  });
}

/** What a failure of the socket itself means. KeyholdErrors pass through. */
export function connectionError(link: Link, error: unknown, signal?: AbortSignal): KeyholdError {
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

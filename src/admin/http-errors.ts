// SPDX-License-Identifier: Apache-2.0
import { codeOf, KeyholdError, messageOf, type ErrorKind } from '../base/errors.js';
import type { ErrorBody } from './api.js';
import { codes } from './errors.js';

/** The one map from what failed to an HTTP status. */
const STATUS_OF_KIND: Readonly<Record<ErrorKind, number>> = {
  usage: 400,
  invalid: 400,
  'not-found': 404,
  conflict: 409,
  forbidden: 403,
  'key-inaccessible': 423,
  unavailable: 503,
  integrity: 500,
  'no-space': 507,
  internal: 500,
};

/** Errors of HTTP itself, where the protocol has a status of its own. */
const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  [codes.ERR_ADMIN_METHOD]: 405,
  [codes.ERR_ADMIN_TOO_LARGE]: 413,
};

export interface HttpError {
  readonly status: number;
  readonly body: ErrorBody;
  /** False: nobody foresaw it, so the log needs all of it and the caller gets none. */
  readonly foreseen: boolean;
}

/** The answer to anything that was thrown while a request was served. */
export function toHttpError(thrown: unknown): HttpError {
  if (thrown instanceof KeyholdError) {
    const { code, kind, message, fields } = thrown;
    return {
      status: STATUS_OF_CODE[code] ?? STATUS_OF_KIND[kind],
      body: { error: { code, kind, message, ...(isEmpty(fields) ? {} : { fields }) } },
      foreseen: kind !== 'internal',
    };
  }
  const refusal = refusalOfFastify(thrown);
  if (refusal !== undefined) return refusal;
  return {
    status: 500,
    body: errorBody(codes.ERR_ADMIN_INTERNAL, 'internal', 'the daemon failed, see its log'),
    foreseen: false,
  };
}

export function errorBody(code: string, kind: ErrorKind, message: string): ErrorBody {
  return { error: { code, kind, message } };
}

/** What fastify itself refuses: bodies too large, broken JSON, wrong media types, bad escapes. */
function refusalOfFastify(thrown: unknown): HttpError | undefined {
  if (codeOf(thrown)?.startsWith('FST_ERR_') !== true && !(thrown instanceof SyntaxError)) {
    return undefined;
  }
  const status = (thrown as { statusCode?: number }).statusCode ?? 400;
  if (status >= 500) return undefined;
  const code = status === 413 ? codes.ERR_ADMIN_TOO_LARGE : codes.ERR_ADMIN_REQUEST;
  const message = messageOf(thrown).replace(/[\p{Cc}]/gu, '?');
  const text = message.charAt(0).toLowerCase() + message.slice(1);
  return {
    status,
    body: errorBody(code, 'invalid', `cannot read the request: ${text}`),
    foreseen: true,
  };
}

function isEmpty(fields: Readonly<Record<string, unknown>>): boolean {
  return Object.keys(fields).length === 0;
}

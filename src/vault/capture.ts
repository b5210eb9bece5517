// SPDX-License-Identifier: Apache-2.0
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Clock } from '../base/clock.js';

/**
 * The raw answer to a call's last request, as far as a verdict needs it. The SDK hides the answered
 * kid, drops the status of an answer without a body, and accepts a 200 without a value.
 */
export interface CapturedAnswer {
  readonly status: number;
  /** Lower-case names; only those that verdicts look at. */
  readonly headers: Readonly<Record<string, string>>;
  readonly jsonBody: boolean;
  readonly errorCode?: string;
  readonly innerCodes: readonly string[];
  readonly message?: string;
  /** `kid`, or `key.kid` of a GET. */
  readonly kid?: string;
  /** Whether the request carried a token. False for the challenge's 401. */
  readonly authorized: boolean;
}

/** Filled while a call runs; one object per call. */
export interface Capture {
  readonly clock: Pick<Clock, 'bootMs'>;
  answer: CapturedAnswer | undefined;
  /** When the last byte of `answer` was there. */
  receivedBootMs: number | undefined;
}

export function createCapture(clock: Pick<Clock, 'bootMs'>): Capture {
  return { clock, answer: undefined, receivedBootMs: undefined };
}

/** The shape of the SDK's pipeline types that this policy touches. */
interface PolicyRequest {
  readonly headers: { get(name: string): string | undefined };
}

interface PolicyResponse {
  readonly status: number;
  readonly headers: Iterable<[string, string]>;
  readonly bodyAsText?: string | null;
}

/** Innermost levels of `innererror` that are read; the service nests one or two. */
const INNER_DEPTH_MAX = 5;

/** An error body is small; whatever is larger is no answer of Key Vault's. */
const BODY_CHARACTERS_MAX = 256 * 1024;

const current = new AsyncLocalStorage<Capture>();

/** Runs an SDK call so that its answers land in `capture`, also when other calls run beside it. */
export function runCaptured<T>(capture: Capture, call: () => Promise<T>): Promise<T> {
  return current.run(capture, call);
}

/** Innermost policy of every vault client: sees each answer before the SDK interprets it. */
export const capturePolicy = {
  name: 'keyholdCapturePolicy',
  async sendRequest<Request extends PolicyRequest, Response extends PolicyResponse>(
    request: Request,
    next: (request: Request) => Promise<Response>,
  ): Promise<Response> {
    const capture = current.getStore();
    // Forget the challenge's answer first: a later request may fail without any.
    if (capture !== undefined) capture.answer = capture.receivedBootMs = undefined;
    const response = await next(request);
    if (capture !== undefined) {
      capture.receivedBootMs = capture.clock.bootMs();
      capture.answer = readAnswer(response, request.headers.get('authorization') !== undefined);
    }
    return response;
  },
};

function readAnswer(response: PolicyResponse, authorized: boolean): CapturedAnswer {
  const headers: Record<string, string> = {};
  for (const [name, value] of response.headers) {
    const lower = name.toLowerCase();
    if (lower.startsWith('x-ms-') || lower.includes('retry-after')) headers[lower] = value;
  }
  const body = parseObject(response.bodyAsText ?? '');
  const error = asObject(body?.['error']);
  const errorCode = asText(error?.['code']);
  const message = asText(error?.['message']);
  const kid = asText(body?.['kid']) ?? asText(asObject(body?.['key'])?.['kid']);
  return {
    status: response.status,
    headers,
    jsonBody: body !== undefined,
    innerCodes: readInnerCodes(error),
    authorized,
    ...(errorCode === undefined ? {} : { errorCode }),
    ...(message === undefined ? {} : { message }),
    ...(kid === undefined ? {} : { kid }),
  };
}

function readInnerCodes(error: Record<string, unknown> | undefined): string[] {
  const codes: string[] = [];
  let inner = asObject(error?.['innererror'] ?? error?.['innerError']);
  for (let depth = 0; inner !== undefined && depth < INNER_DEPTH_MAX; depth += 1) {
    const code = asText(inner['code']);
    if (code !== undefined) codes.push(code);
    inner = asObject(inner['innererror'] ?? inner['innerError']);
  }
  return codes;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  if (text.length > BODY_CHARACTERS_MAX) return undefined;
  try {
    return asObject(JSON.parse(text) as unknown);
  } catch {
    return undefined;
  }
}

function asObject(value: unknown): Record<string, unknown> | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : undefined;
}

function asText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

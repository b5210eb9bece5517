// SPDX-License-Identifier: Apache-2.0
import type { CapturedAnswer } from './capture.js';
import { cleanText, type CredentialFailure, type Description } from './classify.js';
import { LimitExceeded } from './limit.js';

/**
 * Whatever a credential threw. The wrapper around credentials throws nothing else, so that a status
 * of the token endpoint is never taken for the vault's.
 */
export class TokenFailure extends Error {
  constructor(cause: unknown) {
    super('no token', { cause });
    this.name = 'TokenFailure';
  }
}

/** Causes that are followed; SDK errors nest two or three deep. */
const CAUSE_DEPTH_MAX = 8;

/**
 * Extracts the facts from what an SDK call threw. `answer` is the raw answer to the call's last
 * request; where there is one it outranks the error, whose status the SDK may have lost.
 */
export function describeFailure(
  thrown: unknown,
  answer: CapturedAnswer | undefined,
  nowMs: number,
): Description {
  const chain = causes(thrown);
  const tokenFailure = chain.find((error) => error instanceof TokenFailure);
  if (tokenFailure !== undefined) {
    return { credential: describeCredential(tokenFailure.cause, nowMs) };
  }
  if (chain.some(isTimeout)) return { timedOut: true };
  const text = messageAlong(chain);
  if (/challenge resource|challenge contains invalid scope/i.test(text)) {
    return { challengeRefused: true, message: text };
  }
  if (/^Key \S+ (?:expired at|can't be used before)/.test(text)) {
    return { keyExpired: true, message: text };
  }
  if (answer !== undefined) return describeAnswer(answer, nowMs);
  const status = numberAlong(chain, ['statusCode']);
  if (status !== undefined) return { httpStatus: status, message: text };
  const errno = textAlong(chain, ['code']);
  return errno === undefined ? { message: text } : { errno, message: text };
}

/** The facts of an answer. A 200 still lacks what its value turned out to be. */
export function describeAnswer(answer: CapturedAnswer, nowMs: number): Description {
  const retryAfterMs = retryAfter(answer.headers, nowMs);
  return {
    httpStatus: answer.status,
    headers: answer.headers,
    jsonBody: answer.jsonBody,
    innerCodes: answer.innerCodes,
    ...(answer.errorCode === undefined ? {} : { errorCode: answer.errorCode }),
    ...(answer.message === undefined ? {} : { message: answer.message }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

/** The facts of a failed getToken, from the shapes that the credential classes throw. */
export function describeCredential(thrown: unknown, nowMs: number): CredentialFailure {
  const chain = causes(thrown);
  const message = messageAlong(chain);
  const response = objectAlong(chain, 'errorResponse');
  const codes = response?.['errorCodes'];
  const numbers = Array.isArray(codes) ? codes.map(String) : [];
  const aadsts = [...numbers, ...[...message.matchAll(/AADSTS(\d+)/g)].map(([, n]) => n ?? '')];
  const oauthError = stringOf(response?.['error']) ?? textAlong(chain, ['errorCode']);
  const httpStatus = numberAlong(chain, ['statusCode', 'status']);
  const errno = textAlong(chain, ['code']);
  const headers = objectAlong(chain, 'headers') as Record<string, string> | undefined;
  const retryAfterMs = headers === undefined ? undefined : retryAfter(headers, nowMs);
  return {
    aadsts: [...new Set(aadsts)],
    message,
    timedOut: chain.some(isTimeout),
    ...(oauthError === undefined ? {} : { oauthError: cleanText(oauthError).slice(0, 100) }),
    ...(httpStatus === undefined ? {} : { httpStatus }),
    ...(errno === undefined ? {} : { errno }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

/** Retry-After in its three spellings, in milliseconds; capped later, by the classifier. */
export function retryAfter(
  headers: Readonly<Record<string, string>>,
  nowMs: number,
): number | undefined {
  const milliseconds = headers['retry-after-ms'] ?? headers['x-ms-retry-after-ms'];
  if (milliseconds !== undefined && /^\d+$/.test(milliseconds)) return Number(milliseconds);
  const value = headers['retry-after'];
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  // Date.parse takes almost anything for a date, `-5` for one.
  const dateMs = /^[A-Z][a-z]+, .* GMT$/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}

function causes(thrown: unknown): Error[] {
  const chain: Error[] = [];
  let next = thrown;
  while (next instanceof Error && chain.length < CAUSE_DEPTH_MAX && !chain.includes(next)) {
    chain.push(next);
    next = next.cause;
  }
  if (chain.length === 0) chain.push(new Error(String(thrown)));
  return chain;
}

function isTimeout(error: Error): boolean {
  return error instanceof LimitExceeded || error.name === 'AbortError';
}

function messageAlong(chain: readonly Error[]): string {
  const messages: string[] = [];
  for (const { message } of chain) {
    if (!messages.some((earlier) => earlier.includes(message))) messages.push(message);
  }
  return cleanText(messages.join(': '));
}

function property(error: Error, name: string): unknown {
  return (error as unknown as Record<string, unknown>)[name];
}

function stringOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function textAlong(chain: readonly Error[], names: readonly string[]): string | undefined {
  for (const error of chain) {
    for (const name of names) {
      const text = stringOf(property(error, name));
      if (text !== undefined) return text;
    }
  }
  return undefined;
}

function numberAlong(chain: readonly Error[], names: readonly string[]): number | undefined {
  for (const error of chain) {
    for (const name of names) {
      const value = property(error, name);
      if (typeof value === 'number' && value >= 100 && value < 600) return value;
    }
  }
  return undefined;
}

function objectAlong(chain: readonly Error[], name: string): Record<string, unknown> | undefined {
  for (const error of chain) {
    const value = property(error, name);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  }
  return undefined;
}

// SPDX-License-Identifier: Apache-2.0
import {
  AuthenticationError,
  AuthenticationRequiredError,
  CredentialUnavailableError,
} from '@azure/identity';
import { test } from 'tap';
import type { CapturedAnswer } from '../../src/vault/capture.js';
import { describeFailure, retryAfter, TokenFailure } from '../../src/vault/describe.js';
import { LimitExceeded } from '../../src/vault/limit.js';

const NOW_MS = Date.UTC(2026, 0, 1);

const challenge: CapturedAnswer = {
  status: 401,
  headers: {},
  jsonBody: true,
  innerCodes: [],
  authorized: false,
};

function failed(cause: unknown): unknown {
  return describeFailure(new TokenFailure(cause), challenge, NOW_MS).credential;
}

void test('the AADSTS number is read out of MSAL’s message', (t) => {
  const message = 'invalid_client: 7000222 - [2026]: AADSTS7000222: The provided keys are expired.';
  t.match(failed(new AuthenticationRequiredError({ scopes: [], message })), {
    aadsts: ['7000222'],
  });
  t.end();
});

void test('status and numbers of a token endpoint’s answer stay the credential’s', (t) => {
  const body = { error: 'invalid_client', error_description: 'no', error_codes: [7000215] };
  const description = describeFailure(
    new TokenFailure(new AuthenticationError(401, body)),
    challenge,
    NOW_MS,
  );
  t.match(description.credential, {
    aadsts: ['7000215'],
    httpStatus: 401,
    oauthError: 'invalid_client',
  });
  t.notOk('httpStatus' in description);
  t.end();
});

void test('the cause of an unavailable credential is followed', (t) => {
  const cause = Object.assign(new Error('invalid_request: Identity not found'), { status: 400 });
  const error = new CredentialUnavailableError('ManagedIdentityCredential: failed', { cause });
  t.match(failed(error), { httpStatus: 400, message: /Identity not found/ });
  t.end();
});

void test('a limit inside the credential is a limit of the token', (t) => {
  t.match(failed(new LimitExceeded('fetching a token', 5000)), { timedOut: true });
  t.end();
});

void test('an abort is a time limit, whatever was answered before', (t) => {
  const abort = Object.assign(new Error('The operation was aborted.'), { name: 'AbortError' });
  t.strictSame(describeFailure(abort, challenge, NOW_MS), { timedOut: true });
  t.end();
});

void test('a TypeError over an empty answer has the status of the answer', (t) => {
  const answer = { ...challenge, status: 403, jsonBody: false, authorized: true };
  const description = describeFailure(new TypeError("reading 'error'"), answer, NOW_MS);
  t.match(description, { httpStatus: 403, jsonBody: false });
  t.end();
});

void test('the policy’s refusal of a challenge is no 401', (t) => {
  const error = new Error("The challenge resource 'vault.azure.net' does not match the domain.");
  const description = describeFailure(error, challenge, NOW_MS);
  t.match(description, { challengeRefused: true });
  t.notOk('httpStatus' in description);
  t.end();
});

void test('the SDK’s own clock check is told apart', (t) => {
  const error = new Error('Key https://v/keys/k/1 expired at 2025-01-01T00:00:00.000Z');
  t.match(describeFailure(error, undefined, NOW_MS), { keyExpired: true });
  t.end();
});

void test('an errno without an answer is the transport’s', (t) => {
  const error = Object.assign(new Error('getaddrinfo ENOTFOUND v'), { code: 'ENOTFOUND' });
  t.match(describeFailure(error, undefined, NOW_MS), { errno: 'ENOTFOUND' });
  t.end();
});

void test('a chain of causes that bites its tail ends', (t) => {
  const error = new Error('one');
  error.cause = error;
  t.match(describeFailure(error, undefined, NOW_MS), { message: 'one' });
  t.end();
});

void test('something thrown that is no Error is described', (t) => {
  t.match(describeFailure('plain text', undefined, NOW_MS), { message: 'plain text' });
  t.match(describeFailure(undefined, undefined, NOW_MS), { message: 'undefined' });
  t.end();
});

void test('Retry-After is read in seconds, in milliseconds and as a date', (t) => {
  t.equal(retryAfter({ 'retry-after': '7' }, NOW_MS), 7000);
  t.equal(retryAfter({ 'retry-after-ms': '250', 'retry-after': '7' }, NOW_MS), 250);
  const date = new Date(NOW_MS + 9000).toUTCString();
  t.equal(retryAfter({ 'retry-after': date }, NOW_MS), 9000);
  t.equal(retryAfter({ 'retry-after': 'soon' }, NOW_MS), undefined);
  t.equal(retryAfter({ 'retry-after': '-5' }, NOW_MS), undefined);
  t.end();
});

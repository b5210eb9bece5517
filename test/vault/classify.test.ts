// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { test } from 'tap';
import {
  type Classified,
  classify,
  cleanText,
  type CredentialFailure,
  type Description,
  kindOf,
  reasonFor,
} from '../../src/vault/classify.js';
import { GENUINE_HEADERS } from './support/fake-vault.js';

const genuine = { headers: GENUINE_HEADERS, jsonBody: true };

function forbidden(innerCode?: string, message?: string): Description {
  return {
    ...genuine,
    httpStatus: 403,
    errorCode: 'Forbidden',
    innerCodes: innerCode === undefined ? [] : [innerCode],
    ...(message === undefined ? {} : { message }),
  };
}

function answer(httpStatus: number, errorCode: string, innerCodes: string[] = []): Description {
  return { ...genuine, httpStatus, errorCode, innerCodes };
}

type Row = readonly [situation: string, Description, Partial<Classified>];

const NOT_PERMITTED =
  "The user, group or application 'appid=1;oid=2;iss=3' does not have keys get permission";

/** The error catalogue of the service, row by row. */
const CATALOGUE: readonly Row[] = [
  [
    'version disabled',
    forbidden('KeyDisabled'),
    { kind: 'DENIED', class: 'denied-certain', reason: 'key-disabled', code: 'KeyDisabled' },
  ],
  [
    'operation not in key_ops',
    forbidden('KeyOperationForbidden', 'Operation decrypt is not permitted on this key.'),
    { kind: 'DENIED', class: 'denied-certain', reason: 'access-denied' },
  ],
  [
    'access policy lacks the operation, older code',
    forbidden('AccessDenied', NOT_PERMITTED),
    { kind: 'DENIED', class: 'denied-propagating', reason: 'access-denied', code: 'AccessDenied' },
  ],
  [
    'access policy lacks the operation, newer code',
    forbidden('ForbiddenByPolicy', NOT_PERMITTED),
    { class: 'denied-propagating', code: 'ForbiddenByPolicy' },
  ],
  [
    'caller on no policy',
    forbidden('AccessDenied', 'Access denied. Caller was not found on any access policy.'),
    { class: 'denied-propagating' },
  ],
  [
    'RBAC denies',
    forbidden('ForbiddenByRbac'),
    { kind: 'DENIED', class: 'denied-propagating', reason: 'access-denied' },
  ],
  [
    'RBAC denies, as top code',
    answer(403, 'ForbiddenByRbac'),
    { class: 'denied-propagating', code: 'ForbiddenByRbac' },
  ],
  [
    'firewall',
    forbidden('ForbiddenByFirewall'),
    { kind: 'NO-ANSWER', class: 'denied-network', code: 'ForbiddenByFirewall' },
  ],
  [
    'firewall, inner code lost',
    forbidden(undefined, 'Client address is not authorized and caller is not a trusted service.'),
    { kind: 'NO-ANSWER', class: 'denied-network', code: 'Forbidden' },
  ],
  [
    'private link',
    forbidden('ForbiddenByConnection'),
    { kind: 'NO-ANSWER', class: 'denied-network' },
  ],
  [
    'private link, inner code lost',
    forbidden(undefined, 'Connection is not an approved private link and caller was ignored'),
    { class: 'denied-network' },
  ],
  [
    'unknown inner code',
    forbidden('SomethingNew'),
    { kind: 'DENIED', class: 'denied-propagating', reason: 'access-denied', code: 'SomethingNew' },
  ],
  ['no inner code', forbidden(), { class: 'denied-propagating', code: 'Forbidden' }],
  [
    'nested inner codes',
    answer(403, 'Forbidden', ['KeyDisabled', 'Detail']),
    { class: 'denied-certain', reason: 'key-disabled', code: 'KeyDisabled' },
  ],
  [
    'inner code named like a property of every object',
    forbidden('constructor'),
    { class: 'denied-propagating', code: 'constructor' },
  ],
  [
    'key deleted, purged or never there',
    answer(404, 'KeyNotFound'),
    { kind: 'DENIED', class: 'denied-certain', reason: 'key-deleted', code: 'KeyNotFound' },
  ],
  ['404 for something else', answer(404, 'VaultNotFound'), { class: 'ambiguous' }],
  [
    'name in deleted state',
    answer(409, 'Conflict', ['ObjectIsDeletedButRecoverable']),
    { kind: 'NO-ANSWER', class: 'ambiguous', code: 'ObjectIsDeletedButRecoverable' },
  ],
  ['recovering', answer(409, 'Conflict', ['ObjectIsBeingRecovered']), { class: 'ambiguous' }],
  ['no token', answer(401, 'Unauthorized'), { kind: 'NO-ANSWER', class: 'ambiguous' }],
  ['bad parameter', answer(400, 'BadParameter'), { kind: 'NO-ANSWER', class: 'ambiguous' }],
  ['throttled', answer(429, 'Throttled'), { class: 'no-answer', code: 'Throttled' }],
  ['request timeout', answer(408, 'RequestTimeout'), { class: 'no-answer' }],
  ['service fault', answer(500, 'InternalServerError'), { class: 'no-answer', httpStatus: 500 }],
  ['unavailable', answer(503, 'ServiceUnavailable'), { class: 'no-answer' }],
  ['front end 404 page', { httpStatus: 404, jsonBody: false }, { class: 'no-answer' }],
  ['front end 502 page', { httpStatus: 502, jsonBody: false }, { class: 'no-answer' }],
  ['redirect', { ...genuine, httpStatus: 307 }, { class: 'no-answer', code: 'HTTP307' }],
  ['teapot', { ...genuine, httpStatus: 418 }, { class: 'ambiguous', code: 'HTTP418' }],
  ['vault deleted: name gone', { errno: 'ENOTFOUND' }, { kind: 'NO-ANSWER', class: 'no-answer' }],
  ['resolver busy', { errno: 'EAI_AGAIN' }, { class: 'no-answer', code: 'EAI_AGAIN' }],
  ['refused', { errno: 'ECONNREFUSED' }, { class: 'no-answer', code: 'ECONNREFUSED' }],
  ['reset', { errno: 'ECONNRESET' }, { class: 'no-answer' }],
  ['TLS', { errno: 'CERT_HAS_EXPIRED' }, { class: 'no-answer', code: 'CERT_HAS_EXPIRED' }],
  ['time limit', { timedOut: true }, { class: 'no-answer', code: 'TIMEOUT' }],
  ['challenge mismatch', { challengeRefused: true }, { class: 'ambiguous' }],
  [
    'expiry by the client’s clock',
    { keyExpired: true },
    { kind: 'DENIED', class: 'denied-certain', reason: 'key-expired' },
  ],
  ['something unheard of', {}, { kind: 'NO-ANSWER', class: 'ambiguous', code: 'Unexpected' }],
];

for (const [situation, description, expected] of CATALOGUE) {
  void test(`catalogue: ${situation}`, (t) => {
    t.match(classify(description), expected);
    t.end();
  });
}

void test('without a header of Key Vault no status is a denial', (t) => {
  for (const [situation, description] of CATALOGUE) {
    if (description.httpStatus === undefined) continue;
    const forged = { ...description, headers: { 'x-ms-request-id': '1', server: 'proxy' } };
    t.match(classify(forged), { kind: 'NO-ANSWER', class: 'no-answer' }, situation);
  }
  t.end();
});

/** What a 200 turned out to be. */
const ANSWERED: readonly Row[] = [
  ['proof', { canaryMatched: true }, { kind: 'PROOF', class: 'proof' }],
  [
    'another plaintext',
    { canaryMatched: false },
    { kind: 'DENIED', class: 'integrity', reason: 'integrity' },
  ],
  ['no value', { unusable: 'NoValue' }, { kind: 'NO-ANSWER', class: 'ambiguous', code: 'NoValue' }],
  ['another key', { unusable: 'KidMismatch' }, { class: 'ambiguous', code: 'KidMismatch' }],
  ['an HTML page', { jsonBody: false }, { class: 'no-answer', code: 'NoJson' }],
  [
    'another plaintext, not from a vault',
    { canaryMatched: false, headers: {} },
    { kind: 'NO-ANSWER', class: 'no-answer' },
  ],
];

for (const [situation, description, expected] of ANSWERED) {
  void test(`a 200 with ${situation}`, (t) => {
    t.match(classify({ ...genuine, httpStatus: 200, ...description }), expected);
    t.end();
  });
}

type TokenRow = readonly [string, Partial<CredentialFailure>, Partial<Classified>];

const identity = { kind: 'NO-ANSWER', class: 'denied-identity' } as const;
const transient = { kind: 'NO-ANSWER', class: 'no-answer' } as const;
const alarm = { kind: 'NO-ANSWER', class: 'ambiguous' } as const;

/** Entra ID, IMDS, the Azure CLI and files. */
const CREDENTIALS: readonly TokenRow[] = [
  ['application not found', { aadsts: ['700016'] }, { ...identity, code: 'AADSTS700016' }],
  ['application disabled', { aadsts: ['7000112'] }, identity],
  ['bad secret', { aadsts: ['7000215'], httpStatus: 401 }, identity],
  ['expired secret', { aadsts: ['7000222'] }, identity],
  ['bad assertion', { aadsts: ['700027'] }, identity],
  ['unmatched assertion', { aadsts: ['700021'] }, identity],
  ['unmatched federated credential', { aadsts: ['70021'] }, identity],
  ['tenant not found', { aadsts: ['90002'], httpStatus: 400 }, identity],
  ['Conditional Access', { aadsts: ['53003'] }, identity],
  ['resource principal missing', { aadsts: ['500011'] }, { ...alarm, code: 'AADSTS500011' }],
  ['a number nobody knows', { aadsts: ['99999999'] }, alarm],
  ['directory unavailable', { aadsts: ['90033'] }, transient],
  ['budget', { aadsts: ['90024'] }, transient],
  ['request loop', { aadsts: ['50196'] }, transient],
  ['temporarily unavailable', { oauthError: 'temporarily_unavailable' }, transient],
  ['authority 5xx', { httpStatus: 503 }, transient],
  ['authority 429', { httpStatus: 429, oauthError: 'too_many' }, transient],
  [
    'discovery fails (deleted tenant alike)',
    { oauthError: 'endpoints_resolution_error' },
    transient,
  ],
  ['IMDS updating', { httpStatus: 404 }, transient],
  ['IMDS gone for a minute', { httpStatus: 410 }, transient],
  [
    'IMDS knows no such identity',
    { httpStatus: 400, oauthError: 'invalid_request', message: 'Identity not found' },
    identity,
  ],
  [
    'IMDS refuses the identity',
    { httpStatus: 401, oauthError: 'unauthorized_client' },
    { ...identity, code: 'unauthorized_client' },
  ],
  [
    'an authority’s unauthorized_client is a grant that is not configured',
    { httpStatus: 400, oauthError: 'unauthorized_client' },
    alarm,
  ],
  ['time limit', { timedOut: true }, { ...transient, code: 'TOKEN-TIMEOUT' }],
  ['authority refused', { errno: 'ECONNREFUSED' }, { ...transient, code: 'ECONNREFUSED' }],
  ['authority certificate', { errno: 'ERR_TLS_CERT_ALTNAME_INVALID' }, transient],
  ['broken connection, as text', { message: 'connect ECONNREFUSED 127.0.0.1:1' }, transient],
  ['HTML from the authority', { message: 'Unexpected token < in JSON' }, transient],
  ['secret file missing', { errno: 'ENOENT' }, { ...alarm, code: 'ENOENT' }],
  ['secret file empty', { errno: 'ERR_IDENTITY_SECRET' }, alarm],
  ['tenant of the challenge', { errno: 'ERR_IDENTITY_TENANT' }, alarm],
  ['CLI not logged in', { message: "Please run 'az login'" }, { ...alarm, code: 'NoToken' }],
];

for (const [situation, failure, expected] of CREDENTIALS) {
  void test(`no token: ${situation}`, (t) => {
    const credential = { aadsts: [], message: '', timedOut: false, ...failure };
    const verdict = classify({ credential });
    t.match(verdict, expected);
    t.notOk('httpStatus' in verdict || 'reason' in verdict);
    t.end();
  });
}

void test('a lost identity outranks whatever the vault answered before', (t) => {
  const credential = { aadsts: ['7000215'], message: '', timedOut: false };
  t.match(classify({ ...genuine, httpStatus: 401, credential }), identity);
  t.end();
});

void test('a policy that counts identity and network as denials finds their reasons', (t) => {
  t.equal(reasonFor('denied-identity', 'AADSTS700016'), 'identity-denied');
  t.equal(reasonFor('denied-network', 'ForbiddenByFirewall'), 'access-denied');
  t.equal(reasonFor('no-answer', 'KeyDisabled'), undefined);
  t.equal(reasonFor('ambiguous'), undefined);
  t.equal(reasonFor('proof'), undefined);
  t.end();
});

void test('a reason is set exactly when the verdict is a denial', (t) => {
  for (const [situation, description] of CATALOGUE) {
    const verdict = classify(description);
    t.equal('reason' in verdict, verdict.kind === 'DENIED', situation);
    t.equal(verdict.kind, kindOf(verdict.class));
  }
  t.end();
});

void test('Retry-After is capped at a minute', (t) => {
  t.equal(classify({ timedOut: true, retryAfterMs: 300_000 }).retryAfterMs, 60_000);
  t.equal(classify({ timedOut: true, retryAfterMs: 1500 }).retryAfterMs, 1500);
  t.end();
});

void test('texts carry no control characters, no token, and 500 characters at most', (t) => {
  t.equal(cleanText('a\r\nb\u001b[31m\u2028c'), 'a b [31m c');
  t.equal(cleanText('got eyJhbGciOi.eyJpc3MiOi.c2ln here'), 'got [token] here');
  t.equal(cleanText('x'.repeat(2000)).length, 500);
  t.end();
});

void test('whatever is described, the classifier gives a printable verdict', (t) => {
  const text = fc.option(fc.string(), { nil: undefined });
  const description = fc.record(
    {
      httpStatus: fc.integer({ min: 0, max: 999 }),
      errorCode: fc.string(),
      innerCodes: fc.array(fc.string()),
      message: text.map((value) => value ?? ''),
      jsonBody: fc.boolean(),
      headers: fc.dictionary(fc.string(), fc.string()),
      canaryMatched: fc.boolean(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(description, (value) => {
      const verdict = classify(value);
      const denied = verdict.kind === 'DENIED';
      const vouched = Object.keys(value.headers ?? {}).some((n) => n.startsWith('x-ms-keyvault-'));
      return (
        (!denied || vouched) && verdict.message.length <= 500 && !/\p{Cc}/u.test(verdict.message)
      );
    }),
  );
  t.end();
});

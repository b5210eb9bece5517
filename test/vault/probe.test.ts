// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import type { Verdict } from '../../src/vault/types.js';
import { errorBody, REQUEST_ID, type Reply } from './support/fake-vault.js';
import { Rig } from './support/rig.js';

async function start(t: Test): Promise<Rig> {
  const rig = await Rig.start();
  t.teardown(() => rig.stop());
  return rig;
}

/** One probe against a vault whose unwrap answers with `reply`. */
async function probeWith(t: Test, reply: Reply, timeoutMs = 2000): Promise<Verdict> {
  const rig = await start(t);
  rig.vault.onUnwrap = () => reply;
  return rig.probe(rig.access(), { timeoutMs });
}

void test('a canary that comes back right is a proof, timed from its start', async (t) => {
  const rig = await start(t);
  const before = rig.clock.bootMs();
  const verdict = await rig.probe(rig.access());
  t.match(verdict, { kind: 'PROOF', class: 'proof', httpStatus: 200, requestId: REQUEST_ID });
  t.notOk('code' in verdict || 'reason' in verdict);
  t.ok(verdict.startedBootMs >= before && verdict.durationMs > 0);
});

void test('a probe sends unwrap requests only: no GET, nothing decided locally', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  await rig.probe(access);
  await rig.probe(access);
  t.strictSame(new Set(rig.vault.requests.map(({ method }) => method)), new Set(['POST']));
  t.ok(rig.vault.requests.every(({ path }) => path.endsWith('/unwrapkey')));
  t.equal(rig.vault.authorized.length, 2);
});

void test('the wrapped value is never sent without a token', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  rig.vault.onUnwrap = () => ({ drop: true });
  await rig.probe(access);
  rig.vault.onUnwrap = () => undefined;
  await rig.probe(access);
  const bare = rig.vault.requests.filter(({ token }) => token === undefined);
  t.strictSame(new Set(bare.map(({ body }) => body)), new Set(['']));
});

void test('a failed token leaves no client that sends the value unauthenticated', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  rig.vault.onToken = (_form, count) => (count === 1 ? { status: 503, body: 'busy' } : undefined);
  t.equal((await rig.probe(access)).class, 'no-answer');
  await new Promise((resolve) => setTimeout(resolve, 1100));
  t.equal((await rig.probe(access)).kind, 'PROOF');
  const bare = rig.vault.requests.filter(({ token }) => token === undefined);
  t.ok(bare.every(({ body }) => body === ''));
});

void test('two first probes at once both succeed', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  const verdicts = await Promise.all([rig.probe(access), rig.probe(access), rig.probe(access)]);
  t.strictSame(
    verdicts.map(({ kind }) => kind),
    ['PROOF', 'PROOF', 'PROOF'],
  );
});

void test('a disabled key is a certain denial with inner code and request id', async (t) => {
  const message = 'Operation unwrapKey is not allowed on a disabled key.';
  const verdict = await probeWith(t, {
    status: 403,
    body: errorBody('Forbidden', 'KeyDisabled', message),
  });
  t.match(verdict, {
    kind: 'DENIED',
    class: 'denied-certain',
    reason: 'key-disabled',
    code: 'KeyDisabled',
    httpStatus: 403,
    requestId: REQUEST_ID,
    message,
  });
});

void test('a deleted key is a certain denial', async (t) => {
  const verdict = await probeWith(t, { status: 404, body: errorBody('KeyNotFound') });
  t.match(verdict, { kind: 'DENIED', class: 'denied-certain', reason: 'key-deleted' });
});

void test('a lost permission is a denial that may still be propagating', async (t) => {
  const body = errorBody('Forbidden', 'ForbiddenByRbac');
  const verdict = await probeWith(t, { status: 403, body });
  t.match(verdict, { kind: 'DENIED', class: 'denied-propagating', reason: 'access-denied' });
});

void test('a firewall is told apart and runs the lease out', async (t) => {
  const body = errorBody('Forbidden', 'ForbiddenByFirewall');
  const verdict = await probeWith(t, { status: 403, body });
  t.match(verdict, { kind: 'NO-ANSWER', class: 'denied-network', code: 'ForbiddenByFirewall' });
});

void test('a gateway that imitates KeyDisabled is not believed', async (t) => {
  const body = errorBody('Forbidden', 'KeyDisabled');
  const verdict = await probeWith(t, { status: 403, genuine: false, body });
  t.match(verdict, { kind: 'NO-ANSWER', class: 'no-answer', httpStatus: 403 });
  t.notOk('reason' in verdict);
});

void test('a 403 without a body is a denial only with the header of a vault', async (t) => {
  t.match(await probeWith(t, { status: 403 }), { class: 'denied-propagating', httpStatus: 403 });
  t.match(await probeWith(t, { status: 403, genuine: false }), { class: 'no-answer' });
});

void test('a 503 without a body is no answer', async (t) => {
  t.match(await probeWith(t, { status: 503 }), { class: 'no-answer', httpStatus: 503 });
});

void test('a 200 with an HTML page proves nothing', async (t) => {
  const headers = { 'content-type': 'text/html' };
  const verdict = await probeWith(t, { genuine: false, headers, body: '<html>sign in</html>' });
  t.match(verdict, { kind: 'NO-ANSWER', class: 'no-answer', code: 'NoJson' });
});

void test('a 200 without a value proves nothing', async (t) => {
  const verdict = await probeWith(t, { body: { kid: 'https://v/keys/k1/1' } });
  t.match(verdict, { kind: 'NO-ANSWER', class: 'ambiguous', code: 'NoValue' });
});

void test('a right plaintext for another key proves nothing', async (t) => {
  const rig = await start(t);
  const value = Buffer.from(rig.canary.plaintext).toString('base64url');
  const kid = `${rig.vault.origin}/keys/k1/00000000000000000000000000000000`;
  rig.vault.onUnwrap = () => ({ body: { kid, value } });
  const verdict = await rig.probe(rig.access());
  t.match(verdict, { kind: 'NO-ANSWER', class: 'ambiguous', code: 'KidMismatch' });
});

void test('a wrong canary is an integrity fault', async (t) => {
  const rig = await start(t);
  const plaintext = new Uint8Array(32);
  const canary = { plaintext, wrapped: rig.canary.wrapped };
  const verdict = await rig.probe(rig.access(), { canary });
  t.match(verdict, { kind: 'DENIED', class: 'integrity', reason: 'integrity' });
});

void test('a canary of another length is an integrity fault', async (t) => {
  const rig = await start(t);
  const canary = { plaintext: new Uint8Array(16), wrapped: rig.canary.wrapped };
  t.match(await rig.probe(rig.access(), { canary }), { class: 'integrity' });
});

void test('a damaged canary is ambiguous, not denied', async (t) => {
  const rig = await start(t);
  const canary = { plaintext: rig.canary.plaintext, wrapped: new Uint8Array(256) };
  const verdict = await rig.probe(rig.access(), { canary });
  t.match(verdict, { kind: 'NO-ANSWER', class: 'ambiguous', code: 'BadParameter' });
});

void test('a 429 is no answer at once, and its Retry-After is capped', async (t) => {
  const reply = { status: 429, headers: { 'retry-after': '300' }, body: errorBody('Throttled') };
  const verdict = await probeWith(t, reply);
  t.match(verdict, { class: 'no-answer', code: 'Throttled', retryAfterMs: 60_000 });
  t.ok(verdict.durationMs < 1500, 'the wait is the caller’s business');
});

void test('a dropped connection is no answer', async (t) => {
  t.match(await probeWith(t, { drop: true }), { class: 'no-answer', code: 'ECONNRESET' });
});

void test('headers that never come end at the limit', async (t) => {
  const verdict = await probeWith(t, { stall: 'headers' }, 400);
  t.match(verdict, { class: 'no-answer', code: 'TIMEOUT' });
  t.ok(verdict.durationMs < 1500, `${verdict.durationMs} ms`);
});

void test('a body that stalls ends at the limit', async (t) => {
  const verdict = await probeWith(t, { stall: 'body', body: errorBody('Forbidden') }, 400);
  t.match(verdict, { class: 'no-answer', code: 'TIMEOUT' });
  t.ok(verdict.durationMs < 1500, `${verdict.durationMs} ms`);
});

void test('a token endpoint that hangs ends at the limit', async (t) => {
  const rig = await start(t);
  rig.vault.onToken = () => ({ stall: 'headers' });
  const verdict = await rig.probe(rig.access(), { timeoutMs: 400 });
  t.match(verdict, { class: 'no-answer' });
  t.ok(verdict.durationMs < 1500, `${verdict.durationMs} ms`);
});

void test('a bad client secret is told apart as the identity’s', async (t) => {
  const rig = await start(t);
  const description = 'AADSTS7000222: The provided client secret keys are expired.';
  const body = { error: 'invalid_client', error_description: description };
  rig.vault.onToken = () => ({ status: 401, body });
  const verdict = await rig.probe(rig.access());
  t.match(verdict, { kind: 'NO-ANSWER', class: 'denied-identity', code: 'AADSTS7000222' });
  t.notOk('httpStatus' in verdict, 'the status of the token endpoint is not the vault’s');
});

void test('a refused old token is replaced once, within the same probe', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  t.equal((await rig.probe(access)).kind, 'PROOF');
  rig.vault.accepts = (token) => token !== 'token-1';
  rig.clock.skewMs += 60_000;
  t.equal((await rig.probe(access)).kind, 'PROOF');
  t.equal(rig.vault.tokenRequests.length, 2);
});

void test('a 401 to a fresh token is ambiguous and costs no further token', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  rig.vault.accepts = () => false;
  t.match(await rig.probe(access), { kind: 'NO-ANSWER', class: 'ambiguous', httpStatus: 401 });
  t.match(await rig.probe(access), { class: 'ambiguous' });
  t.equal(rig.vault.tokenRequests.length, 1);
});

void test('a claims challenge gets a new token although the old one is young', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  await rig.probe(access);
  rig.vault.accepts = (token) => token !== 'token-1';
  const claims = Buffer.from('{"access_token":{}}').toString('base64');
  rig.vault.onChallenge = ({ token }) =>
    token === undefined
      ? undefined
      : {
          status: 401,
          headers: {
            'www-authenticate': [
              `Bearer realm="", authorization="${rig.vault.origin}/x"`,
              'error="insufficient_claims"',
              `claims="${claims}"`,
            ].join(', '),
          },
        };
  t.equal((await rig.probe(access)).kind, 'PROOF');
});

void test('a challenge for a foreign resource gets no token', async (t) => {
  const rig = await start(t);
  const access = rig.access({ transport: { verifyChallengeResource: true } });
  rig.vault.onChallenge = () => rig.vault.challenge('https://vault.azure.net');
  t.match(await rig.probe(access), { class: 'ambiguous', code: 'ChallengeMismatch' });
  t.equal(rig.vault.tokenRequests.length, 0);
});

void test('a certificate of an unknown authority is no answer, and nothing is sent', async (t) => {
  const rig = await start(t);
  const transport = { verifyChallengeResource: false, timeoutMs: 2000 };
  const access = rig.accessWith(transport);
  t.match(await rig.probe(access), { class: 'no-answer', code: /SIGNATURE|SELF_SIGNED|ISSUER/ });
  t.equal(rig.vault.requests.length, 0);
});

void test('a redirect is not followed', async (t) => {
  const rig = await start(t);
  const location = `${rig.vault.origin}/elsewhere`;
  rig.vault.onUnwrap = () => ({ status: 307, headers: { location } });
  t.match(await rig.probe(rig.access()), { kind: 'NO-ANSWER', httpStatus: 307 });
  t.notOk(rig.vault.requests.some(({ path }) => path === '/elsewhere'));
});

void test('fresh means a connection that no probe has used', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  await rig.probe(access);
  await rig.probe(access);
  await rig.probe(access, { fresh: true });
  const ports = rig.vault.authorized.map(({ port }) => port);
  t.equal(ports[0], ports[1], 'probes keep their connection');
  t.not(ports[2], ports[1]);
  t.equal(rig.vault.tokenRequests.length, 1, 'the token is shared');
});

void test('after three probes without an answer the client is a new one', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  await rig.probe(access);
  rig.vault.onUnwrap = () => ({ status: 503 });
  for (let count = 0; count < 3; count += 1) await rig.probe(access);
  rig.vault.onUnwrap = () => undefined;
  t.equal((await rig.probe(access)).kind, 'PROOF');
  const ports = rig.vault.authorized.map(({ port }) => port);
  t.not(ports.at(-1), ports.at(-2));
});

void test('denials do not cost the client its connection', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  const body = errorBody('Forbidden', 'KeyDisabled');
  rig.vault.onUnwrap = () => ({ status: 403, body });
  for (let count = 0; count < 5; count += 1) await rig.probe(access);
  t.equal(new Set(rig.vault.requests.map(({ port }) => port)).size, 1);
});

void test('an unknown identity is a verdict with an alarm, not an exception', async (t) => {
  const rig = await start(t);
  const verdict = await rig.access({ identities: {} }).probe({
    identity: 'prod',
    kid: rig.vault.kid,
    canary: rig.canary,
    fresh: false,
    timeoutMs: 9,
  });
  t.match(verdict, { kind: 'NO-ANSWER', class: 'ambiguous', code: 'ERR_VAULT_IDENTITY' });
});

void test('a kid without a version cannot be probed', async (t) => {
  const rig = await start(t);
  const verdict = await rig.probe(rig.access(), { kid: `${rig.vault.origin}/keys/k1` });
  t.match(verdict, { class: 'ambiguous', code: 'ERR_KEY_URL' });
});

void test('a CA file that is gone is an alarm with its code', async (t) => {
  const rig = await start(t);
  const access = rig.access({ transport: { caFile: '/nonexistent/ca.pem' } });
  t.match(await rig.probe(access), { kind: 'NO-ANSWER', code: 'ERR_VAULT_CA_FILE' });
});

void test('a missing secret file is an alarm with its code', async (t) => {
  const rig = await start(t);
  const identities = { prod: { ...rig.identity, secret_file: '/nonexistent/secret' } };
  const verdict = await rig.probe(rig.access({ identities }));
  t.match(verdict, { class: 'ambiguous', code: 'ERR_IDENTITY_SECRET' });
});

void test('a closed access answers nothing and asks nobody', async (t) => {
  const rig = await start(t);
  const access = rig.access();
  access.close();
  t.match(await rig.probe(access), { kind: 'NO-ANSWER', code: 'ERR_VAULT_CLOSED' });
  t.equal(rig.vault.requests.length, 0);
});

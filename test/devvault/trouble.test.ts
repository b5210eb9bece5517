// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { test } from 'tap';
import {
  createKeyClient,
  createRemoteClient,
  failureOf,
  fetchToken,
  makeWrapped,
  requestToken,
  send,
  sendAuthorized,
  startVault,
} from './support.js';

const UNWRAP = 'RSA-OAEP-256';

void test('latency delays the true answer', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'latency', operation: 'unwrapkey', latencyMs: 200 });
  const started = performance.now();
  t.ok(await client.unwrapKey(UNWRAP, wrapped));
  t.ok(performance.now() - started >= 195);
});

void test('429 is Throttled, with Retry-After', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'error', status: 429, retryAfterSeconds: 7 });
  t.match(await failureOf(() => client.unwrapKey(UNWRAP, wrapped)), {
    statusCode: 429,
    code: 'Throttled',
    message: /too many requests were received\. Reason: VaultRequestTypeLimitReached/,
    headers: { 'retry-after': '7', 'x-ms-keyvault-region': 'loopback' },
  });
});

for (const [status, code] of [
  [500, 'InternalServerError'],
  [503, 'ServiceUnavailable'],
  [408, 'RequestTimeout'],
] as const) {
  void test(`${status} is ${code}`, async (t) => {
    const fixture = await startVault(t);
    const { client, wrapped } = await makeWrapped(fixture);
    await fixture.control.trouble({ kind: 'error', operation: 'unwrapKey', status });
    const failure = await failureOf(() => client.unwrapKey(UNWRAP, wrapped));
    t.match(failure, { statusCode: status, code });
  });
}

void test('an error can be given every word, and lack the headers of a vault', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({
    kind: 'error',
    status: 403,
    code: 'Forbidden',
    innerCode: 'KeyDisabled',
    message: 'a gateway says no',
    omitVaultHeaders: true,
  });
  const failure = await failureOf(() => client.unwrapKey(UNWRAP, wrapped));
  t.match(failure, { statusCode: 403, innerCode: 'KeyDisabled', message: /a gateway says no/ });
  t.same(
    Object.keys(failure.headers).filter((name) => name.startsWith('x-ms-')),
    [],
  );
});

void test('an HTML page is no JSON error', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'html', operation: 'unwrapKey' });
  const failure = await failureOf(() => client.unwrapKey(UNWRAP, wrapped));
  t.equal(failure.statusCode, 502);
  t.equal(failure.innerCode, undefined);
  t.match(failure.headers['content-type'], /^text\/html/);
});

void test('an HTML page with status 200 leaves the SDK without a result', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'html', operation: 'unwrapKey', status: 200 });
  t.equal((await client.unwrapKey(UNWRAP, wrapped)).result, undefined);
});

void test('a hang never answers; the client’s deadline ends it', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'hang', operation: 'unwrapKey' });
  const abortSignal = AbortSignal.timeout(300);
  const failure = await failureOf(() => client.unwrapKey(UNWRAP, wrapped, { abortSignal }));
  t.match(failure.message, /abort/i);
  const entry = (await fixture.control.log()).at(-1);
  t.match(entry, { operation: 'unwrapKey', status: null, trouble: 'hang' });
});

void test('a stall sends headers and a part of the body, then nothing', async (t) => {
  const fixture = await startVault(t);
  const authorization = `Bearer ${await fetchToken(fixture)}`;
  await fixture.control.trouble({ kind: 'stall', operation: 'list' });
  const { vault, ca } = fixture;
  const outgoing = request(`${vault.url}/keys?api-version=7.4`, { ca, headers: { authorization } });
  outgoing.on('error', () => undefined);
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  t.equal(response.statusCode, 200);
  const [chunk] = (await once(response, 'data')) as [Buffer];
  t.equal(chunk.toString(), '{"kid":"');
  let hasMore = false;
  response.on('data', () => (hasMore = true)).on('end', () => (hasMore = true));
  response.on('error', () => undefined);
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal(hasMore, false);
});

void test('a drop closes the connection without an answer', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'drop', operation: 'unwrapKey' });
  const failure = await failureOf(() => client.unwrapKey(UNWRAP, wrapped));
  t.match(failure, { code: 'ECONNRESET' });
  t.equal(failure.statusCode, undefined);
});

void test('a bodyless 403 has the headers of a vault and no body', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.trouble({ kind: 'bodyless', operation: 'list' });
  const reply = await sendAuthorized(fixture, '/keys?api-version=7.4');
  t.equal(reply.status, 403);
  t.equal(reply.text, '');
  t.ok(reply.headers['x-ms-keyvault-service-version']);
});

void test('a true refusal can come without the headers of a vault', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.disableKey('k1');
  await fixture.control.trouble({ kind: 'no-headers' });
  const failure = await failureOf(() => client.unwrapKey(UNWRAP, wrapped));
  t.match(failure, { statusCode: 403, innerCode: 'KeyDisabled' });
  t.notOk(failure.headers['x-ms-keyvault-service-version']);
});

void test('no-value answers 200 without a result', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'no-value', operation: 'unwrapKey' });
  t.equal((await client.unwrapKey(UNWRAP, wrapped)).result, undefined);
});

void test('wrong-value answers another plaintext of the same length', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped, plaintext } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'wrong-value', operation: 'unwrapKey' });
  const { result } = await client.unwrapKey(UNWRAP, wrapped);
  t.equal(result.length, plaintext.length);
  t.notSame(Buffer.from(result), plaintext);
});

void test('a trouble strikes its own operation only', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'error', operation: 'wrapKey', status: 500 });
  t.ok(await client.unwrapKey(UNWRAP, wrapped));
});

void test('trouble of one operation comes before that of all', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'error', operation: '*', status: 500 });
  await fixture.control.trouble({ kind: 'error', operation: 'unwrapKey', status: 503 });
  t.equal((await failureOf(() => client.unwrapKey(UNWRAP, wrapped))).statusCode, 503);
  const wrap = (): Promise<unknown> => client.wrapKey(UNWRAP, Buffer.from('x'));
  t.equal((await failureOf(wrap)).statusCode, 500);
});

void test('trouble of one key spares the others, and comes before that of all', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.createKey({ name: 'k1' });
  const { kid } = await fixture.control.createKey({ name: 'k2' });
  const client = createKeyClient(fixture);
  await fixture.control.trouble({ kind: 'error', key: 'k1', status: 503 });
  t.equal((await failureOf(() => client.getKey('k1'))).statusCode, 503);
  t.equal((await client.getKey('k2')).id, kid);
  await fixture.control.trouble({ kind: 'error', operation: 'get', status: 500 });
  t.equal((await failureOf(() => client.getKey('k1'))).statusCode, 503);
  t.equal((await failureOf(() => client.getKey('k2'))).statusCode, 500);
});

void test('none clears the trouble of one key, and leaves that of the others', async (t) => {
  const fixture = await startVault(t);
  const { kid } = await fixture.control.createKey({ name: 'k1' });
  await fixture.control.createKey({ name: 'k2' });
  const client = createKeyClient(fixture);
  for (const key of ['k1', 'k2']) {
    await fixture.control.trouble({ kind: 'error', key, status: 503 });
  }
  await fixture.control.trouble({ kind: 'none', key: 'k1' });
  t.equal((await client.getKey('k1')).id, kid);
  t.equal((await failureOf(() => client.getKey('k2'))).statusCode, 503);
});

void test('the token endpoint has no trouble with one key', async (t) => {
  const fixture = await startVault(t);
  const failing = fixture.control.trouble({ kind: 'hang', operation: 'token', key: 'k1' });
  await t.rejects(failing, /token endpoint knows no keys/);
});

void test('a counted trouble ends by itself', async (t) => {
  const fixture = await startVault(t);
  const { kid } = await fixture.control.createKey({ name: 'k1' });
  await fixture.control.trouble({ kind: 'error', operation: 'get', status: 503, times: 2 });
  const client = createKeyClient(fixture);
  t.equal((await failureOf(() => client.getKey('k1'))).statusCode, 503);
  t.equal((await failureOf(() => client.getKey('k1'))).statusCode, 503);
  t.equal((await client.getKey('k1')).id, kid);
  t.same((await fixture.control.status()).troubles, []);
});

void test('a flapping trouble strikes every Nth request', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.trouble({ kind: 'error', operation: 'list', status: 403, everyNth: 3 });
  const statuses: number[] = [];
  for (let count = 0; count < 6; count += 1) {
    statuses.push((await sendAuthorized(fixture, '/keys?api-version=7.4')).status);
  }
  t.same(statuses, [200, 200, 403, 200, 200, 403]);
});

void test('trouble waits for authentication, unless told otherwise', async (t) => {
  const fixture = await startVault(t);
  const list = '/keys?api-version=7.4';
  await fixture.control.trouble({ kind: 'error', operation: 'list', status: 503 });
  t.equal((await send(fixture, list)).status, 401);
  await fixture.control.trouble({
    kind: 'error',
    operation: 'list',
    status: 503,
    beforeAuthentication: true,
  });
  t.equal((await send(fixture, list)).status, 503);
});

void test('trouble of all operations spares the token endpoint', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.trouble({ kind: 'error', status: 503 });
  t.equal((await requestToken(fixture)).status, 200);
});

void test('the token endpoint fails in the shape of Entra', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.trouble({ kind: 'error', operation: 'token', status: 503 });
  const { status, json } = await requestToken(fixture);
  t.equal(status, 503);
  t.match(json, {
    error: 'temporarily_unavailable',
    error_description: /^AADSTS90033: /,
    error_codes: [90033],
  });
});

void test('a token error can name its AADSTS number', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.trouble({
    kind: 'error',
    operation: 'token',
    status: 400,
    code: 'interaction_required',
    innerCode: 'AADSTS53003',
  });
  const { json } = await requestToken(fixture);
  t.match(json, { error: 'interaction_required', error_codes: [53003] });
});

void test('none clears the trouble of one operation, or all of it', async (t) => {
  const { control } = await startVault(t);
  await control.trouble({ kind: 'hang', operation: 'get' });
  await control.trouble({ kind: 'hang', operation: 'token' });
  await control.trouble({ kind: 'drop', operation: '*' });
  const left = await control.trouble({ kind: 'none', operation: 'get' });
  t.same(
    left.troubles.map(({ operation }) => operation),
    ['token', '*'],
  );
  t.same((await control.trouble({ kind: 'none' })).troubles, []);
});

void test('closing ends a hanging request at once', async (t) => {
  const fixture = await startVault(t);
  const { kid, wrapped } = await makeWrapped(fixture);
  await fixture.control.trouble({ kind: 'hang', operation: 'unwrapKey' });
  const client = createRemoteClient(fixture, kid);
  const failure = failureOf(() => client.unwrapKey(UNWRAP, wrapped));
  await new Promise((resolve) => setTimeout(resolve, 300));
  const started = performance.now();
  await fixture.vault.close();
  t.ok(performance.now() - started < 500);
  t.match(await failure, { code: 'ECONNRESET' });
});

void test('closing ends a request that scripted latency delays', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.trouble({
    kind: 'latency',
    operation: 'list',
    latencyMs: 60_000,
    beforeAuthentication: true,
  });
  const failure = failureOf(() => send(fixture, '/keys'));
  await new Promise((resolve) => setTimeout(resolve, 200));
  await fixture.vault.close();
  t.match(await failure, { code: 'ECONNRESET' });
});

// SPDX-License-Identifier: Apache-2.0
import { ClientSecretCredential } from '@azure/identity';
import { KeyClient } from '@azure/keyvault-keys';
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { test } from 'tap';
import {
  clientOptions,
  createKeyClient,
  failureOf,
  fetchToken,
  requestToken,
  send,
  sendAuthorized,
  startVault,
  type Fixture,
} from './support.js';

const run = promisify(execFile);
const KEYS = '/keys?api-version=7.4';

function sendWith(fixture: Fixture, token: string): ReturnType<typeof send> {
  return send(fixture, KEYS, { headers: { authorization: `Bearer ${token}` } });
}

void test('a request without a token gets the challenge', async (t) => {
  const fixture = await startVault(t);
  const { status, headers, json } = await send(fixture, KEYS);
  t.equal(status, 401);
  const { url, tenantId } = fixture.vault;
  const wanted = `Bearer authorization="${url}/${tenantId}", resource="api://0.0.1"`;
  t.equal(headers['www-authenticate'], wanted);
  t.match(json, { error: { code: 'Unauthorized', message: /^AKV10000: / } });
  t.ok(headers['x-ms-keyvault-service-version']);
});

void test('even an unknown path asks for a token first', async (t) => {
  t.equal((await send(await startVault(t), '/nothing')).status, 401);
});

void test('the real credential and client work, trusting the CA by option', async (t) => {
  const fixture = await startVault(t);
  const { kid } = await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  const { vault, secret, ca } = fixture;
  const credential = new ClientSecretCredential(vault.tenantId, vault.clientId, secret, {
    authorityHost: vault.url,
    disableInstanceDiscovery: true,
    // tlsOptions is an option of the pipeline below, which the type does not name.
    ...{ tlsOptions: { ca } },
  });
  const client = new KeyClient(vault.url, credential, clientOptions(fixture));
  t.equal((await client.getKey('k1')).id, kid);
});

void test('the real credential works in a process that trusts the CA by environment', async (t) => {
  const fixture = await startVault(t);
  const { kid } = await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  const { vault, secret } = fixture;
  const script = `
    import { ClientSecretCredential } from '@azure/identity';
    import { KeyClient } from '@azure/keyvault-keys';
    const { url, tenantId, clientId, secret } = JSON.parse(process.env.VAULT);
    const options = { authorityHost: url, disableInstanceDiscovery: true };
    const credential = new ClientSecretCredential(tenantId, clientId, secret, options);
    console.log((await new KeyClient(url, credential).getKey('k1')).id);`;
  const { url, tenantId, clientId, caPath } = vault;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
    env: {
      PATH: process.env['PATH'],
      NODE_EXTRA_CA_CERTS: caPath,
      VAULT: JSON.stringify({ url, tenantId, clientId, secret }),
    },
  });
  t.equal(stdout.trim(), kid);
});

void test('the real credential reports a bad secret with its AADSTS number', async (t) => {
  const { vault, ca } = await startVault(t);
  const credential = new ClientSecretCredential(vault.tenantId, vault.clientId, 'wrong', {
    authorityHost: vault.url,
    disableInstanceDiscovery: true,
    ...{ tlsOptions: { ca } },
  });
  const { message } = await failureOf(() => credential.getToken(`${vault.resource}/.default`));
  t.match(message, /AADSTS7000215: Invalid client secret provided/);
});

void test('the client secret is readable by its owner only', async (t) => {
  const { vault, secret } = await startVault(t);
  t.equal((await stat(vault.clientSecretPath)).mode & 0o777, 0o600);
  t.ok(secret.length >= 32);
});

for (const [what, form, wanted] of [
  ['a wrong secret', { client_secret: 'wrong' }, [401, 'invalid_client', 7000215]],
  ['an unknown application', { client_id: 'nobody' }, [400, 'unauthorized_client', 700016]],
  ['another grant', { grant_type: 'password' }, [400, 'unsupported_grant_type', 70003]],
  ['a scope without /.default', { scope: 'openid' }, [400, 'invalid_scope', 1002012]],
] as const) {
  void test(`the token endpoint refuses ${what} as Entra does`, async (t) => {
    const { status, json } = await requestToken(await startVault(t), form);
    t.same([status, json?.['error'], (json?.['error_codes'] as number[])[0]], wanted);
    t.match(json?.['error_description'], new RegExp(`^AADSTS${wanted[2]}: `));
  });
}

for (const [application, wanted] of [
  ['deleted', [400, 700016]],
  ['disabled', [401, 7000112]],
  ['secret-expired', [401, 7000222]],
] as const) {
  void test(`an application that is ${application} gets no token`, async (t) => {
    const fixture = await startVault(t, { settings: { application } });
    const { status, json } = await requestToken(fixture);
    t.same([status, (json?.['error_codes'] as number[])[0]], wanted);
  });
}

void test('an unknown tenant is refused at discovery and at the token endpoint', async (t) => {
  const fixture = await startVault(t);
  for (const path of ['v2.0/.well-known/openid-configuration', 'oauth2/v2.0/token']) {
    const { status, json } = await send(fixture, `/other/${path}`);
    t.equal(status, 400);
    t.match(json, { error: 'invalid_request', error_codes: [90002] });
  }
});

void test('the token endpoint takes POST only', async (t) => {
  const fixture = await startVault(t);
  const path = `/${fixture.vault.tenantId}/oauth2/v2.0/token`;
  t.equal((await send(fixture, path)).status, 405);
});

void test('discovery names endpoints below the tenant', async (t) => {
  const fixture = await startVault(t);
  const base = `${fixture.vault.url}/${fixture.vault.tenantId}`;
  const path = `/${fixture.vault.tenantId}/v2.0/.well-known/openid-configuration`;
  t.match((await send(fixture, path)).json, {
    issuer: `${base}/v2.0`,
    token_endpoint: `${base}/oauth2/v2.0/token`,
  });
});

void test('a token expires after its lifetime, with a challenge', async (t) => {
  let nowMs = Date.now();
  const settings = { tokenLifetimeSeconds: 60 };
  const fixture = await startVault(t, { nowMs: () => nowMs, settings });
  const token = await fetchToken(fixture);
  t.equal((await sendWith(fixture, token)).status, 200);
  nowMs += 60_000;
  const { status, headers, json } = await sendWith(fixture, token);
  t.equal(status, 401);
  t.match(headers['www-authenticate'], /^Bearer authorization=/);
  t.match(json, { error: { code: 'Unauthorized', message: /^\[TokenExpired\]/ } });
});

void test('expire-tokens ends the tokens issued so far and none after', async (t) => {
  const fixture = await startVault(t);
  const token = await fetchToken(fixture);
  await fixture.control.expireTokens();
  t.equal((await sendWith(fixture, token)).status, 401);
  t.equal((await sendAuthorized(fixture, KEYS)).status, 200);
});

void test('a token for another resource is refused', async (t) => {
  const fixture = await startVault(t);
  const { json } = await requestToken(fixture, { scope: 'https://graph.microsoft.com/.default' });
  const reply = await sendWith(fixture, String(json?.['access_token']));
  t.equal(reply.status, 401);
  t.match(reply.json, { error: { message: /^AKV10022: Invalid audience/ } });
});

void test('a token of another vault is refused', async (t) => {
  const other = await startVault(t);
  const reply = await sendWith(await startVault(t), await fetchToken(other));
  t.equal(reply.status, 401);
  t.match(reply.json, { error: { message: /^AKV10032: / } });
});

for (const [what, spoil] of [
  [
    'that was changed',
    (token: string) => token.replace(/\.(.)/, (_, first) => `.${first === 'e' ? 'f' : 'e'}`),
  ],
  ['without a signature', (token: string) => token.split('.').slice(0, 2).join('.')],
  ['that is no token', () => 'nonsense'],
  [
    'with an unsigned header',
    (token: string) => `eyJhbGciOiJub25lIn0.${token.split('.')[1] ?? ''}.`,
  ],
] as const) {
  void test(`a token ${what} is refused`, async (t) => {
    const fixture = await startVault(t);
    const reply = await sendWith(fixture, spoil(await fetchToken(fixture)));
    t.equal(reply.status, 401);
  });
}

void test('the SDK keeps its check of the challenge’s resource', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.trouble({ kind: 'wrong-challenge', operation: 'get' });
  const { message } = await failureOf(() => createKeyClient(fixture).getKey('k1'));
  t.match(message, /The challenge resource 'vault\.invalid' does not match the requested domain/);
});

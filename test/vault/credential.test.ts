// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { resolveIdentity } from '../../src/vault/credential.js';
import {
  type IdentityConfig,
  type IdentityConfigInput,
  identityConfigSchema,
} from '../../src/vault/identity-config.js';
import { CLIENT_ID, type Reply, SECRET, TENANT } from './support/fake-vault.js';
import { Rig } from './support/rig.js';

async function start(t: Test): Promise<Rig> {
  const rig = await Rig.start();
  t.teardown(() => rig.stop());
  return rig;
}

function secretIdentity(rig: Rig, overrides: object = {}): IdentityConfig {
  return identityConfigSchema.parse({
    kind: 'client-secret',
    client_id: CLIENT_ID,
    tenant_id: TENANT,
    secret_file: join(rig.directory, 'secret'),
    authority_host: rig.vault.origin,
    disable_instance_discovery: true,
    ...overrides,
  });
}

const entraError = (status: number, error: string, description: string): Reply => ({
  status,
  body: { error, error_description: description, error_codes: [], correlation_id: 'c' },
});

void test('a client secret at an authority behind a private CA', async (t) => {
  const rig = await start(t);
  const access = rig.access({ identities: { prod: secretIdentity(rig) } });
  t.match(await rig.probe(access), { kind: 'PROOF' });
  t.equal(rig.vault.tokenRequests[0]?.get('client_secret'), SECRET);
});

void test('the secret is read anew for each token', async (t) => {
  const rig = await start(t);
  const identity = secretIdentity(rig);
  writeFileSync(join(rig.directory, 'secret'), 'an old secret');
  const access = rig.access({ identities: { prod: identity } });
  t.match(await rig.probe(access), { class: 'denied-identity', code: 'AADSTS7000215' });
  writeFileSync(join(rig.directory, 'secret'), SECRET);
  rig.clock.skewMs += 1000;
  t.match(await rig.probe(access), { kind: 'PROOF' });
});

/** Answers of the authority as MSAL passes them on, and their class. */
const AUTHORITY: ReadonlyArray<readonly [string, Reply, object]> = [
  [
    'application gone',
    entraError(400, 'unauthorized_client', "AADSTS700016: Application 'x' was not found."),
    { class: 'denied-identity', code: 'AADSTS700016' },
  ],
  [
    'secret expired',
    entraError(
      401,
      'invalid_client',
      'AADSTS7000222: The provided client secret keys are expired.',
    ),
    { class: 'denied-identity', code: 'AADSTS7000222' },
  ],
  [
    'Conditional Access',
    entraError(400, 'access_denied', 'AADSTS53003: Access has been blocked.'),
    { class: 'denied-identity', code: 'AADSTS53003' },
  ],
  [
    'directory unavailable',
    entraError(503, 'temporarily_unavailable', 'AADSTS90033: A transient error has occurred.'),
    { class: 'no-answer', code: 'AADSTS90033' },
  ],
  ['a proxy’s page', { status: 502, body: '<html>bad gateway</html>' }, { class: 'no-answer' }],
  ['a dropped connection', { drop: true }, { class: 'no-answer' }],
  ['a hang', { stall: 'headers' }, { class: 'no-answer' }],
];

for (const [situation, reply, expected] of AUTHORITY) {
  void test(`authority: ${situation}`, async (t) => {
    const rig = await start(t);
    rig.vault.onToken = () => reply;
    const access = rig.access({ identities: { prod: secretIdentity(rig) } });
    const verdict = await rig.probe(access, { timeoutMs: 1500 });
    t.match(verdict, { kind: 'NO-ANSWER', ...expected });
    t.ok(verdict.durationMs < 2500, `${verdict.durationMs} ms`);
  });
}

void test('after a 429 of the authority the next attempt reaches it again', async (t) => {
  const rig = await start(t);
  const busy = entraError(429, 'too_many_requests', 'slow down');
  rig.vault.onToken = (_form, count) => (count === 1 ? busy : undefined);
  const access = rig.access({ identities: { prod: secretIdentity(rig) } });
  t.match(await rig.probe(access), { kind: 'NO-ANSWER' });
  rig.clock.skewMs += 1000;
  t.match(await rig.probe(access), { kind: 'PROOF' }, 'MSAL holds back for a minute by itself');
});

void test('a challenge of another tenant gets no token', async (t) => {
  const rig = await start(t);
  const identities = { prod: secretIdentity(rig, { tenant_id: 'tenant-2' }) };
  t.match(await rig.probe(rig.access({ identities })), { kind: 'NO-ANSWER', class: 'ambiguous' });
  t.equal(rig.vault.tokenRequests.length, 0);
});

void test('the embedded vault’s identity gives no token to another tenant', async (t) => {
  const rig = await start(t);
  const identities = { prod: { ...rig.identity, tenant_id: 'tenant-2' } };
  const verdict = await rig.probe(rig.access({ identities }));
  t.match(verdict, { class: 'ambiguous', code: 'ERR_IDENTITY_TENANT' });
  t.equal(rig.vault.tokenRequests.length, 0);
});

void test('a client certificate and a workload token reach the authority', async (t) => {
  const rig = await start(t);
  const file = (name: string): string => join(rig.directory, name);
  execFileSync(
    'openssl',
    [
      ...'req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=app'.split(' '),
      '-keyout',
      'k',
      '-out',
      'c',
    ],
    { cwd: rig.directory, stdio: 'pipe' },
  );
  writeFileSync(
    file('both.pem'),
    readFileSync(file('k'), 'utf8') + readFileSync(file('c'), 'utf8'),
  );
  writeFileSync(file('token'), 'header.payload.signature');
  rig.vault.onToken = () => ({
    body: { token_type: 'Bearer', expires_in: 3600, access_token: 't' },
  });
  const { disable_instance_discovery, authority_host } = secretIdentity(rig) as Extract<
    IdentityConfig,
    { kind: 'client-secret' }
  >;
  const common = {
    client_id: CLIENT_ID,
    tenant_id: TENANT,
    authority_host,
    disable_instance_discovery,
    additionally_allowed_tenants: [],
  };
  for (const prod of [
    { ...common, kind: 'client-certificate', certificate_file: file('both.pem') },
    { ...common, kind: 'workload-identity', token_file: file('token') },
  ] satisfies IdentityConfig[]) {
    t.match(await rig.probe(rig.access({ identities: { prod } })), { kind: 'PROOF' }, prod.kind);
    t.ok(rig.vault.tokenRequests.at(-1)?.get('client_assertion'), prod.kind);
  }
});

let imdsReply: { status: number; body: object } = { status: 500, body: {} };

/** One for all tests: a process that once found its IMDS keeps to it. */
async function startImds(): Promise<string> {
  const server = createServer((_request, response) => {
    response.writeHead(imdsReply.status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(imdsReply.body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

// The SDK finds another IMDS than the host's by this documented variable.
process.env['AZURE_POD_IDENTITY_AUTHORITY_HOST'] = await startImds();

/** What IMDS says, and its class. */
const IMDS: ReadonlyArray<readonly [number, string, string, object]> = [
  [400, 'invalid_request', 'Identity not found', { class: 'denied-identity' }],
  [401, 'unauthorized_client', 'no such identity', { class: 'denied-identity' }],
  [404, 'not_found', 'updating', { class: 'no-answer' }],
  [410, 'gone', 'gone', { class: 'no-answer' }],
  [429, 'throttled', 'slow down', { class: 'no-answer' }],
  [500, 'internal', 'trouble', { class: 'no-answer' }],
];

for (const [status, error, description, expected] of IMDS) {
  void test(`IMDS answers ${status} ${error}`, async (t) => {
    const rig = await start(t);
    imdsReply = { status, body: { error, error_description: description } };
    const access = rig.access({ identities: { prod: { kind: 'managed-identity' } } });
    t.match(await rig.probe(access), { kind: 'NO-ANSWER', ...expected });
  });
}

void test('a managed identity’s token opens the vault', async (t) => {
  const rig = await start(t);
  const expires = String(Math.floor(Date.now() / 1000) + 3600);
  const body = { access_token: 'mi', expires_on: expires, token_type: 'Bearer', resource: 'r' };
  imdsReply = { status: 200, body };
  const access = rig.access({ identities: { prod: { kind: 'managed-identity' } } });
  t.match(await rig.probe(access), { kind: 'PROOF' });
  t.equal(rig.vault.authorized[0]?.token, 'mi');
});

void test('the Azure CLI that is not there is an alarm', async (t) => {
  const rig = await start(t);
  const path = process.env['PATH'];
  process.env['PATH'] = rig.directory;
  t.teardown(() => {
    process.env['PATH'] = path;
  });
  const access = rig.access({ identities: { prod: { kind: 'azure-cli' } } });
  t.match(await rig.probe(access), { kind: 'NO-ANSWER', class: 'ambiguous' });
});

void test('a systemd credential is a file below its directory', (t) => {
  const identity = identityConfigSchema.parse({
    kind: 'client-secret',
    client_id: 'c',
    tenant_id: 't',
    credential: 'vault-secret',
  });
  t.match(resolveIdentity(identity, '/run/credentials/keyhold'), {
    secret_file: '/run/credentials/keyhold/vault-secret',
  });
  t.throws(() => resolveIdentity(identity, undefined), { code: 'ERR_IDENTITY_SECRET' });
  t.end();
});

const valid: IdentityConfigInput = {
  kind: 'client-secret',
  client_id: 'c',
  tenant_id: 't',
  secret_file: '/s',
};

void test('the public authority is the default, never the environment’s', (t) => {
  t.match(identityConfigSchema.parse(valid), {
    authority_host: 'https://login.microsoftonline.com',
  });
  t.end();
});

for (const [mistake, config] of [
  ['an unknown kind', { ...valid, kind: 'default' }],
  ['an unknown field', { ...valid, secret: 'x' }],
  ['a secret written into the config', { ...valid, secret_file: undefined, client_secret: 'x' }],
  ['no secret at all', { ...valid, secret_file: undefined }],
  ['two secrets', { ...valid, credential: 'x' }],
  ['a credential that climbs', { ...valid, secret_file: undefined, credential: '../x' }],
  ['a credential of dots', { ...valid, secret_file: undefined, credential: '..' }],
  ['an authority without TLS', { ...valid, authority_host: 'http://login' }],
  ['an embedded vault without authority', { ...valid, kind: 'embedded-vault' }],
  ['a workload identity without token file', { ...valid, kind: 'workload-identity' }],
] as const) {
  void test(`${mistake} is refused`, (t) => {
    t.equal(identityConfigSchema.safeParse(config).success, false);
    t.end();
  });
}

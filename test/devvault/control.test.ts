// SPDX-License-Identifier: Apache-2.0
import { readFile, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { test } from 'tap';
import { createDevVaultClient } from '../../src/devvault/control-client.js';
import { RequestLog } from '../../src/devvault/request-log.js';
import { createKeyClient, makeStateDir, startVault, type Fixture } from './support.js';

/** A bare request to the control socket. */
function post(
  { vault }: Fixture,
  path: string,
  body: string,
  method = 'POST',
): Promise<{ status: number; code: string; message: string }> {
  return new Promise((resolve, reject) => {
    const { socketPath } = vault;
    const outgoing = request({ socketPath, path, method, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        const { error } = JSON.parse(text) as { error?: { code: string; message: string } };
        resolve({ status: response.statusCode ?? 0, code: '', message: '', ...error });
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

void test('the control socket is for its owner only', async (t) => {
  const { vault } = await startVault(t);
  t.equal((await stat(vault.socketPath)).mode & 0o777, 0o600);
});

void test('status tells what a client needs to connect, and no secret', async (t) => {
  const { vault, control, secret, stateDir } = await startVault(t);
  const status = await control.status();
  t.match(status, {
    url: vault.url,
    authorityHost: vault.url,
    tenantId: vault.tenantId,
    clientId: vault.clientId,
    clientSecretPath: vault.clientSecretPath,
    caPath: vault.caPath,
    resource: 'api://0.0.1',
    pid: process.pid,
    recoveryLevel: 'CustomizedRecoverable',
    recoverableDays: 7,
    firewall: 'open',
    application: 'enabled',
    keys: 0,
    troubles: [],
  });
  const { tokenSecret } = JSON.parse(await readFile(join(stateDir, 'state.json'), 'utf8')) as {
    tokenSecret: string;
  };
  t.notOk(JSON.stringify(status).includes(secret));
  t.notOk(JSON.stringify(status).includes(tokenSecret));
});

void test('a key is described without its private half', async (t) => {
  const { control, vault } = await startVault(t);
  const key = await control.createKey({ name: 'k1', expires: 4_000_000_000 });
  t.match(key, {
    name: 'k1',
    id: `${vault.url}/keys/k1`,
    enabled: true,
    deleted: false,
    versions: [{ kty: 'RSA', sizeBits: 2048, enabled: true, expires: 4_000_000_000 }],
  });
  t.equal(key.kid, key.versions[0]?.kid);
  t.notMatch(JSON.stringify(key), /PRIVATE/);
});

void test('what the control socket makes is what the SDK sees', async (t) => {
  const fixture = await startVault(t);
  const ops = ['wrapKey', 'unwrapKey'] as const;
  const { kid } = await fixture.control.createKey({ name: 'k1', sizeBits: 1024, ops: [...ops] });
  const key = await createKeyClient(fixture).getKey('k1');
  t.equal(key.id, kid);
  t.same(key.keyOperations, ops);
  t.equal(key.key?.n?.length, 128);
});

void test('a key goes through delete, recover and rotate', async (t) => {
  const { control } = await startVault(t);
  const { kid } = await control.createKey({ name: 'k1', kty: 'EC', curve: 'P-521' });
  const deleted = await control.deleteKey('k1');
  t.equal(deleted.deleted, true);
  t.ok(Number(deleted.scheduledPurgeDate) * 1000 > Date.now());
  t.same(await control.keys(), [deleted]);
  t.equal((await control.recoverKey('k1')).kid, kid);
  const rotated = await control.rotateKey('k1');
  t.equal(rotated.versions.length, 2);
  t.not(rotated.kid, kid);
});

void test('a vault that permits it purges', async (t) => {
  const settings = { recoveryLevel: 'CustomizedRecoverable+Purgeable' } as const;
  const { control } = await startVault(t, { settings });
  await control.createKey({ name: 'k1', kty: 'EC' });
  await control.deleteKey('k1');
  await control.purgeKey('k1');
  t.same(await control.keys(), []);
});

void test('the log shows operation, kid, status, request id and time, oldest first', async (t) => {
  const fixture = await startVault(t);
  const { kid } = await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  await createKeyClient(fixture).getKey('k1');
  const log = await fixture.control.log();
  t.same(
    log.map(({ operation, status }) => [operation, status]),
    [
      ['get', 401],
      ['token', 200],
      ['get', 200],
    ],
  );
  const last = log.at(-1);
  t.match(last, { kid, clientId: fixture.vault.clientId, requestId: /^[0-9a-f-]{36}$/ });
  t.ok(Math.abs(Date.parse(last?.time ?? '') - Date.now()) < 60_000);
  t.same(await fixture.control.log({ limit: 1 }), [last]);
});

void test('the log keeps the inner code of a refusal and nothing of a token', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  await fixture.control.deny();
  await t.rejects(createKeyClient(fixture).getKey('k1'));
  const log = await fixture.control.log();
  t.match(log.at(-1), { status: 403, code: 'AccessDenied' });
  t.notMatch(JSON.stringify(log), /eyJ/);
});

for (const [what, path, body] of [
  ['a body that is no JSON', '/keys', '{'],
  ['a key without a name', '/keys', '{}'],
  ['a key name with a slash', '/keys', '{"name":"a/b"}'],
  ['a key name of 128 characters', '/keys', JSON.stringify({ name: 'x'.repeat(128) })],
  ['an unknown member', '/keys', '{"name":"k","size":2048}'],
  ['a key size that is not offered', '/keys', '{"name":"k","sizeBits":512}'],
  ['an unknown key operation', '/keys', '{"name":"k","ops":["mint"]}'],
  ['a version that is no version', '/keys/k1/disable', '{"version":"1"}'],
  ['an unknown permission', '/deny', '{"operations":["fly"]}'],
  ['an empty list of permissions', '/deny', '{"operations":[]}'],
  ['a principal that is no client id', '/deny', '{"principal":"__proto__"}'],
  ['an unknown recovery level', '/settings', '{"recoveryLevel":"Forever"}'],
  ['a retention of 6 days', '/settings', '{"recoverableDays":6}'],
  ['trouble of an unknown kind', '/trouble', '{"kind":"fire"}'],
  ['trouble of an unknown operation', '/trouble', '{"kind":"hang","operation":"fly"}'],
  ['an error without a status', '/trouble', '{"kind":"error"}'],
  ['an error with status 200', '/trouble', '{"kind":"error","status":200}'],
  ['trouble zero times', '/trouble', '{"kind":"hang","times":0}'],
  ['vault trouble for the token endpoint', '/trouble', '{"kind":"no-value","operation":"token"}'],
] as const) {
  void test(`${what} is refused and changes nothing`, async (t) => {
    const fixture = await startVault(t);
    const before = await fixture.control.status();
    t.match(await post(fixture, path, body), { status: 400, code: 'ERR_DEVVAULT_INPUT' });
    t.same(await fixture.control.status(), before);
  });
}

void test('a refused input names the field and what it expects', async (t) => {
  const { message } = await post(await startVault(t), '/settings', '{"recoverableDays":6}');
  t.match(message, /recoverableDays/);
  t.match(message, />=7/);
});

void test('a body of more than 64 KiB is refused', async (t) => {
  const fixture = await startVault(t);
  const reply = await post(fixture, '/keys', JSON.stringify({ name: 'x'.repeat(70_000) }));
  t.match(reply, { status: 400, code: 'ERR_DEVVAULT_INPUT', message: /65536/ });
});

for (const [method, path] of [
  ['POST', '/explode'],
  ['POST', '/keys/k1/explode'],
  ['GET', '/keys/k1/disable'],
  ['POST', '/keys/a%2Fb/disable'],
] as const) {
  void test(`${method} ${path} is no command`, async (t) => {
    const reply = await post(await startVault(t), path, '', method);
    t.match(reply, { status: 404, code: 'ERR_DEVVAULT_NO_COMMAND' });
  });
}

void test('a log limit beyond its range is refused', async (t) => {
  const { control } = await startVault(t);
  await t.rejects(control.log({ limit: 0 }), { code: 'ERR_DEVVAULT_INPUT' });
});

void test('commands for a key that is not there fail by name', async (t) => {
  const { control } = await startVault(t);
  const wanted = { code: 'ERR_DEVVAULT_KEY_NOT_FOUND', message: /none/ };
  await t.rejects(control.key('none'), wanted);
  await t.rejects(control.disableKey('none'), wanted);
  await t.rejects(control.deleteKey('none'), wanted);
  await t.rejects(control.recoverKey('none'), wanted);
  await t.rejects(control.purgeKey('none'), wanted);
  await t.rejects(control.rotateKey('none'), wanted);
});

void test('purge protection and deleted names bind the control socket too', async (t) => {
  const { control } = await startVault(t);
  await control.createKey({ name: 'k1', kty: 'EC' });
  await control.deleteKey('k1');
  await t.rejects(control.purgeKey('k1'), { code: 'ERR_DEVVAULT_FORBIDDEN' });
  await t.rejects(control.createKey({ name: 'k1' }), { code: 'ERR_DEVVAULT_KEY_CONFLICT' });
});

void test('without a vault the client says that it cannot reach it', async (t) => {
  const socketPath = join(await makeStateDir(t), 'control.sock');
  const wanted = { code: 'ERR_DEVVAULT_UNREACHABLE', message: new RegExp(socketPath) };
  await t.rejects(createDevVaultClient({ socketPath }).status(), wanted);
  await writeFile(socketPath, '');
  await t.rejects(createDevVaultClient({ socketPath }).status(), wanted);
});

void test('the log keeps the last thousand requests', (t) => {
  const log = new RequestLog();
  for (let count = 0; count < 1500; count += 1) {
    log.add({
      time: '',
      operation: 'get',
      method: 'GET',
      path: String(count),
      requestId: '',
      status: 200,
      durationMs: 0,
    });
  }
  t.equal(log.recent().length, 1000);
  t.equal(log.recent()[0]?.path, '500');
  t.end();
});

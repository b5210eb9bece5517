// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import {
  createKeyClient,
  createRemoteClient,
  failureOf,
  makeWrapped,
  sendAuthorized,
  startVault,
} from './support.js';

void test('a disabled version refuses unwrap in the words of the service', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.disableKey('k1');
  const failure = await failureOf(() => client.unwrapKey('RSA-OAEP-256', wrapped));
  t.match(failure, {
    statusCode: 403,
    code: 'Forbidden',
    innerCode: 'KeyDisabled',
    message: /^Operation unwrapKey is not allowed on a disabled key\.$/m,
    headers: { 'x-ms-keyvault-service-version': String },
  });
});

void test('a disabled version still wraps, and GET shows it disabled', async (t) => {
  const fixture = await startVault(t);
  const { client } = await makeWrapped(fixture);
  await fixture.control.disableKey('k1');
  t.ok(await client.wrapKey('RSA-OAEP-256', Buffer.from('x')));
  t.equal((await createKeyClient(fixture).getKey('k1')).properties.enabled, false);
});

void test('a version that is enabled again unwraps again', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped, plaintext } = await makeWrapped(fixture);
  await fixture.control.disableKey('k1');
  await fixture.control.enableKey('k1');
  const { result } = await client.unwrapKey('RSA-OAEP-256', wrapped);
  t.same(Buffer.from(result), plaintext);
});

void test('disabling without a version means the newest and spares the older one', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.rotateKey('k1');
  const { versions } = await fixture.control.disableKey('k1');
  t.same(
    versions.map(({ enabled }) => enabled),
    [true, false],
  );
  t.ok(await client.unwrapKey('RSA-OAEP-256', wrapped));
});

void test('a version can be disabled by name, and all of them at once', async (t) => {
  const { control } = await startVault(t);
  const { versions } = await control.createKey({ name: 'k1', kty: 'EC' });
  await control.rotateKey('k1');
  const version = versions[0]?.version ?? '';
  const one = await control.disableKey('k1', { version });
  t.same(
    one.versions.map(({ enabled }) => enabled),
    [false, true],
  );
  const all = await control.disableKey('k1', { version: 'all' });
  t.same(
    all.versions.map(({ enabled }) => enabled),
    [false, false],
  );
});

for (const operation of ['wrapKey', 'unwrapKey'] as const) {
  void test(`${operation} is refused where key_ops lacks it`, async (t) => {
    const fixture = await startVault(t);
    const { client } = await makeWrapped(fixture);
    await fixture.control.updateKey('k1', { ops: ['sign', 'verify'] });
    const failure = await failureOf(() => client[operation]('RSA-OAEP-256', Buffer.alloc(8)));
    t.match(failure, {
      statusCode: 403,
      code: 'Forbidden',
      innerCode: 'KeyOperationForbidden',
      message: new RegExp(`^Operation ${operation} is not permitted on this key\\.$`, 'm'),
    });
  });
}

for (const [what, dates, state] of [
  ['expired', { expires: 1_600_000_000 }, /expired/],
  ['not yet valid', { notBefore: 4_000_000_000 }, /not yet valid/],
] as const) {
  void test(`a key that is ${what} refuses wrap`, async (t) => {
    const fixture = await startVault(t);
    const { client } = await makeWrapped(fixture);
    await fixture.control.updateKey('k1', dates);
    const failure = await failureOf(() => client.wrapKey('RSA-OAEP-256', Buffer.alloc(8)));
    t.match(failure, { statusCode: 403, code: 'Forbidden', message: state });
    t.equal(failure.innerCode, undefined);
  });

  void test(`a key that is ${what} still unwraps`, async (t) => {
    const fixture = await startVault(t);
    const { client, wrapped } = await makeWrapped(fixture);
    await fixture.control.updateKey('k1', dates);
    t.ok(await client.unwrapKey('RSA-OAEP-256', wrapped));
  });
}

void test('cleared dates let wrap through again', async (t) => {
  const fixture = await startVault(t);
  const { client } = await makeWrapped(fixture);
  await fixture.control.updateKey('k1', { expires: 1_600_000_000 });
  await fixture.control.updateKey('k1', { expires: null });
  t.ok(await client.wrapKey('RSA-OAEP-256', Buffer.alloc(8)));
});

void test('a soft-deleted key is not found, for unwrap and GET alike', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped, kid } = await makeWrapped(fixture);
  await fixture.control.deleteKey('k1');
  const id = new URL(kid).pathname.slice('/keys/'.length);
  const wanted = {
    statusCode: 404,
    code: 'KeyNotFound',
    message: new RegExp(`A key with \\(name/id\\) ${id} was not found in this key vault\\. If you`),
  };
  t.match(await failureOf(() => client.unwrapKey('RSA-OAEP-256', wrapped)), wanted);
  const keys = createKeyClient(fixture);
  t.match(await failureOf(() => keys.getKey('k1')), { statusCode: 404, code: 'KeyNotFound' });
});

for (const [what, name, version] of [
  ['a key that never was', 'none', undefined],
  ['a version that never was', 'k1', '0123456789abcdef0123456789abcdef'],
  ['a key named like a built-in property', 'toString', undefined],
] as const) {
  void test(`${what} is not found`, async (t) => {
    const fixture = await startVault(t);
    await fixture.control.createKey({ name: 'k1', kty: 'EC' });
    const keys = createKeyClient(fixture);
    const failure = await failureOf(() => keys.getKey(name, version && { version }));
    t.match(failure, { statusCode: 404, code: 'KeyNotFound' });
  });
}

void test('the name of a deleted key cannot be used again', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  await fixture.control.deleteKey('k1');
  const keys = createKeyClient(fixture);
  t.match(await failureOf(() => keys.createEcKey('k1')), {
    statusCode: 409,
    code: 'Conflict',
    innerCode: 'ObjectIsDeletedButRecoverable',
    message: /Key k1 is currently in a deleted but recoverable state/,
  });
});

for (const recoveryLevel of [
  'CustomizedRecoverable',
  'Recoverable',
  'Recoverable+ProtectedSubscription',
] as const) {
  void test(`purge is refused in a vault that is ${recoveryLevel}`, async (t) => {
    const fixture = await startVault(t, { settings: { recoveryLevel } });
    await fixture.control.createKey({ name: 'k1', kty: 'EC' });
    await fixture.control.deleteKey('k1');
    const keys = createKeyClient(fixture);
    t.match(await failureOf(() => keys.purgeDeletedKey('k1')), {
      statusCode: 403,
      code: 'Forbidden',
      message: /Operation "purge" is not allowed because purge protection is enabled/,
    });
    t.ok(await keys.getDeletedKey('k1'));
  });
}

void test('a Purgeable vault deletes for good', async (t) => {
  const fixture = await startVault(t, { settings: { recoveryLevel: 'Purgeable' } });
  await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  const key = await createKeyClient(fixture).getKey('k1');
  t.equal(key.properties.recoveryLevel, 'Purgeable');
  t.equal(key.properties.recoverableDays, undefined);
  await fixture.control.deleteKey('k1');
  t.same(await fixture.control.keys(), []);
});

for (const policyCode of ['AccessDenied', 'ForbiddenByPolicy'] as const) {
  void test(`a policy without the operation denies with ${policyCode}`, async (t) => {
    const fixture = await startVault(t, { settings: { policyCode } });
    const { client, wrapped } = await makeWrapped(fixture);
    await fixture.control.deny({ operations: ['unwrapKey'] });
    t.match(await failureOf(() => client.unwrapKey('RSA-OAEP-256', wrapped)), {
      statusCode: 403,
      code: 'Forbidden',
      innerCode: policyCode,
      message: new RegExp(
        `The user, group or application 'appid=${fixture.vault.clientId};oid=.*;iss=.*' does not ` +
          "have keys unwrapkey permission on key vault 'keyhold-dev;location=loopback'.*2125287",
      ),
    });
    t.ok(await client.wrapKey('RSA-OAEP-256', Buffer.from('x')));
  });
}

void test('a caller on no policy is told so', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.deny();
  t.match(await failureOf(() => client.unwrapKey('RSA-OAEP-256', wrapped)), {
    statusCode: 403,
    code: 'Forbidden',
    innerCode: 'AccessDenied',
    message: /^Access denied\. Caller was not found on any access policy\./,
  });
});

void test('RBAC denies with action, resource and caller', async (t) => {
  const fixture = await startVault(t, { settings: { accessMode: 'rbac' } });
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.deny({ operations: ['unwrapKey'] });
  const failure = await failureOf(() => client.unwrapKey('RSA-OAEP-256', wrapped));
  t.match(failure, { statusCode: 403, code: 'Forbidden', innerCode: 'ForbiddenByRbac' });
  t.match(failure.message, /^Caller is not authorized to perform action on resource\./);
  t.match(failure.message, /Action: 'Microsoft\.KeyVault\/vaults\/keys\/unwrap\/action'/);
  t.match(failure.message, /vaults\/keyhold-dev\/keys\/k1'/);
});

void test('rights that were taken can be given back', async (t) => {
  const fixture = await startVault(t);
  const { client, wrapped } = await makeWrapped(fixture);
  await fixture.control.deny();
  await fixture.control.allow({ operations: ['unwrapKey'] });
  t.ok(await client.unwrapKey('RSA-OAEP-256', wrapped));
  t.match(await failureOf(() => client.wrapKey('RSA-OAEP-256', Buffer.alloc(1))), {
    innerCode: 'AccessDenied',
  });
});

for (const [firewall, innerCode, message] of [
  ['address', 'ForbiddenByFirewall', /^Client address is not authorized and caller is not a tr/],
  ['private-link', 'ForbiddenByConnection', /^Connection is not an approved private link/],
] as const) {
  void test(`the firewall (${firewall}) denies with ${innerCode}`, async (t) => {
    const fixture = await startVault(t);
    const { client, wrapped } = await makeWrapped(fixture);
    await fixture.control.settings({ firewall });
    const failure = await failureOf(() => client.unwrapKey('RSA-OAEP-256', wrapped));
    t.match(failure, { statusCode: 403, code: 'Forbidden', innerCode, message });
  });
}

const CREATE = '/keys/k1/create?api-version=7.4';

for (const [what, path, body] of [
  ['a body that is no JSON', CREATE, '{'],
  ['an unknown key type', CREATE, '{"kty":"oct"}'],
  ['a key size that is not offered', CREATE, '{"kty":"RSA","key_size":2047}'],
  ['an unknown curve', CREATE, '{"kty":"EC","crv":"P-192"}'],
  ['an unknown key operation', CREATE, '{"kty":"RSA","key_ops":["mint"]}'],
  ['a request without api-version', '/keys/k1/create', '{"kty":"EC"}'],
  ['an unknown api-version', '/keys/k1/create?api-version=tomorrow', '{"kty":"EC"}'],
  ['a key name with a dot', '/keys/k.1/create?api-version=7.4', '{"kty":"EC"}'],
  ['a key name with a percent sign', '/keys/k%2F1/create?api-version=7.4', '{"kty":"EC"}'],
  ['an operation that is not there', '/keys/k1/explode?api-version=7.4', '{}'],
  ['a path outside the API', '/certificates?api-version=7.4', '{}'],
  ['a path with bad percent-encoding', '/keys/%zz/create?api-version=7.4', '{"kty":"EC"}'],
  [
    'a value that is not base64url',
    '/keys/k1//wrapkey?api-version=7.4',
    '{"alg":"RSA-OAEP","value":"*"}',
  ],
] as const) {
  void test(`${what} is a bad parameter`, async (t) => {
    const fixture = await startVault(t);
    const { status, json } = await sendAuthorized(fixture, path, { method: 'POST', body });
    t.equal(status, 400);
    t.match(json, { error: { code: 'BadParameter' } });
    t.same(await fixture.control.keys(), []);
  });
}

for (const query of ['maxresults=0', 'maxresults=26', 'maxresults=x', '$skiptoken=-1']) {
  void test(`a list with ${query} is a bad parameter`, async (t) => {
    const { status } = await sendAuthorized(await startVault(t), `/keys?api-version=7.4&${query}`);
    t.equal(status, 400);
  });
}

for (const path of ['/keys/k1?api-version=7.4', '/keys/k1/?api%2Dversion=2025-07-01']) {
  void test(`GET ${path} finds the key`, async (t) => {
    const fixture = await startVault(t);
    const { kid } = await fixture.control.createKey({ name: 'k1', kty: 'EC' });
    t.match((await sendAuthorized(fixture, path)).json, { key: { kid } });
  });
}

void test('a body of more than 64 KiB is refused', async (t) => {
  const fixture = await startVault(t);
  const body = JSON.stringify({ kty: 'EC', tags: { long: 'x'.repeat(65_536) } });
  const { status } = await sendAuthorized(fixture, CREATE, { method: 'POST', body });
  t.equal(status, 413);
});

void test('unwrap without a version uses the newest', async (t) => {
  const fixture = await startVault(t);
  const { kid } = await fixture.control.createKey({ name: 'k1' });
  const { result } = await createRemoteClient(fixture, kid).wrapKey('RSA-OAEP', Buffer.from('x'));
  const value = Buffer.from(result).toString('base64url');
  const { json } = await sendAuthorized(fixture, '/keys/k1//unwrapkey?api-version=7.4', {
    method: 'POST',
    body: JSON.stringify({ alg: 'RSA-OAEP', value }),
  });
  t.same(json, { kid, value: Buffer.from('x').toString('base64url') });
});

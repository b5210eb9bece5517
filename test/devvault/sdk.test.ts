// SPDX-License-Identifier: Apache-2.0
import { CryptographyClient } from '@azure/keyvault-keys';
import { test } from 'tap';
import {
  clientOptions,
  createCredential,
  createKeyClient,
  createRemoteClient,
  failureOf,
  makeWrapped,
  startVault,
} from './support.js';

void test('the SDK creates a key with the vault’s defaults', async (t) => {
  const fixture = await startVault(t);
  const key = await createKeyClient(fixture).createRsaKey('k1');
  t.equal(key.keyType, 'RSA');
  t.equal(key.key?.n?.length, 256);
  t.match(key.id, new RegExp(`^${fixture.vault.url}/keys/k1/[0-9a-f]{32}$`));
  t.match(key.properties, {
    enabled: true,
    recoveryLevel: 'CustomizedRecoverable',
    recoverableDays: 7,
    exportable: false,
    hsmPlatform: '0',
  });
  t.equal(key.properties.expiresOn, undefined);
});

void test('a versionless GET answers the newest version, a versioned one its own', async (t) => {
  const fixture = await startVault(t);
  const client = createKeyClient(fixture);
  const first = await client.createRsaKey('k1');
  const second = await client.rotateKey('k1');
  t.not(second.properties.version, first.properties.version);
  t.equal((await client.getKey('k1')).id, second.id);
  const version = first.properties.version ?? '';
  const old = await client.getKey('k1', { version });
  t.equal(old.id, first.id);
  t.same(old.key?.n, first.key?.n);
});

for (const [what, options, expected] of [
  ['RSA-HSM', { keySize: 3072, hsm: true }, { type: 'RSA-HSM', bytes: 384, platform: '2' }],
  ['RSA of 4096 bits', { keySize: 4096 }, { type: 'RSA', bytes: 512, platform: '0' }],
  ['RSA of 1024 bits', { keySize: 1024 }, { type: 'RSA', bytes: 128, platform: '0' }],
] as const) {
  void test(`the SDK creates ${what}`, async (t) => {
    const key = await createKeyClient(await startVault(t)).createRsaKey('k1', options);
    t.equal(key.keyType, expected.type);
    t.equal(key.key?.n?.length, expected.bytes);
    t.equal(key.properties.hsmPlatform, expected.platform);
  });
}

void test('the SDK creates an EC key that can neither wrap nor unwrap', async (t) => {
  const fixture = await startVault(t);
  const key = await createKeyClient(fixture).createEcKey('k1', { curve: 'P-384' });
  t.match(key.key, { kty: 'EC', crv: 'P-384' });
  t.equal(key.key?.x?.length, 48);
  t.same(key.keyOperations, ['sign', 'verify']);
  const client = createRemoteClient(fixture, key.id ?? '');
  const failure = await failureOf(() => client.unwrapKey('RSA-OAEP-256', Buffer.alloc(256)));
  t.match(failure, { statusCode: 403, innerCode: 'KeyOperationForbidden' });
});

for (const algorithm of ['RSA-OAEP-256', 'RSA-OAEP'] as const) {
  void test(`${algorithm}: what was wrapped comes back, with the versioned kid`, async (t) => {
    const fixture = await startVault(t);
    const { kid } = await fixture.control.createKey({ name: 'k1' });
    const client = createRemoteClient(fixture, kid);
    const { result: wrapped } = await client.wrapKey(algorithm, Buffer.from('secret'));
    const { result, keyID } = await client.unwrapKey(algorithm, wrapped);
    t.equal(Buffer.from(result).toString(), 'secret');
    t.equal(keyID, kid);
    const log = await fixture.control.log();
    t.same(
      log.filter(({ status }) => status === 200).map(({ operation }) => operation),
      ['token', 'wrapKey', 'unwrapKey'],
    );
  });

  void test(`${algorithm}: the vault unwraps what the SDK wrapped locally`, async (t) => {
    const fixture = await startVault(t);
    const key = await createKeyClient(fixture).createRsaKey('k1');
    const options = clientOptions(fixture);
    const local = new CryptographyClient(key, createCredential(fixture), options);
    const { result: wrapped } = await local.wrapKey(algorithm, Buffer.from('secret'));
    const { result } = await createRemoteClient(fixture, key.id ?? '').unwrapKey(
      algorithm,
      wrapped,
    );
    t.equal(Buffer.from(result).toString(), 'secret');
  });
}

void test('encrypt and decrypt are operations of their own', async (t) => {
  const fixture = await startVault(t);
  const { kid } = await fixture.control.createKey({ name: 'k1', ops: ['encrypt', 'decrypt'] });
  const client = createRemoteClient(fixture, kid);
  const plaintext = Buffer.from('secret');
  const { result } = await client.encrypt({ algorithm: 'RSA-OAEP-256', plaintext });
  const decrypted = await client.decrypt({ algorithm: 'RSA-OAEP-256', ciphertext: result });
  t.equal(Buffer.from(decrypted.result).toString(), 'secret');
  t.match(await failureOf(() => client.wrapKey('RSA-OAEP-256', plaintext)), {
    innerCode: 'KeyOperationForbidden',
  });
});

void test('a wrapped value that was changed is a bad parameter', async (t) => {
  const { client, wrapped } = await makeWrapped(await startVault(t));
  const changed = Uint8Array.from(wrapped, (byte, index) => (index === 9 ? byte ^ 1 : byte));
  const failure = await failureOf(() => client.unwrapKey('RSA-OAEP-256', changed));
  t.match(failure, { statusCode: 400, code: 'BadParameter' });
});

void test('a value that does not fit the key is a bad parameter', async (t) => {
  const { client } = await makeWrapped(await startVault(t));
  const failure = await failureOf(() => client.wrapKey('RSA-OAEP-256', Buffer.alloc(191)));
  t.match(failure, { statusCode: 400, code: 'BadParameter' });
});

for (const algorithm of ['RSA1_5', 'A256KW', 'constructor']) {
  void test(`algorithm ${algorithm} is a bad parameter`, async (t) => {
    const { client } = await makeWrapped(await startVault(t));
    const failure = await failureOf(() =>
      client.unwrapKey(algorithm as 'RSA-OAEP', Buffer.alloc(256)),
    );
    t.match(failure, { statusCode: 400, code: 'BadParameter' });
  });
}

void test('the SDK pages through versions by nextLink, oldest first', async (t) => {
  const fixture = await startVault(t);
  const client = createKeyClient(fixture);
  const kids = [(await client.createEcKey('k1')).id];
  for (let count = 1; count < 5; count += 1) kids.push((await client.rotateKey('k1')).id);
  const found: Array<string | undefined> = [];
  const pages: number[] = [];
  for await (const page of client.listPropertiesOfKeyVersions('k1').byPage({ maxPageSize: 2 })) {
    pages.push(page.length);
    found.push(...page.map(({ id }) => id));
  }
  t.same(found, kids);
  t.same(pages, [2, 2, 1]);
});

void test('the SDK lists keys and deleted keys apart', async (t) => {
  const fixture = await startVault(t);
  const client = createKeyClient(fixture);
  for (const name of ['b', 'a', 'constructor']) await client.createEcKey(name);
  await (await client.beginDeleteKey('b', { intervalInMs: 1 })).pollUntilDone();
  const names: string[] = [];
  for await (const { name } of client.listPropertiesOfKeys()) names.push(name);
  t.same(names, ['a', 'constructor']);
  const deleted: string[] = [];
  for await (const { name } of client.listDeletedKeys()) deleted.push(name);
  t.same(deleted, ['b']);
});

void test('the SDK changes enabled, dates, operations and tags of one version', async (t) => {
  const client = createKeyClient(await startVault(t));
  const first = await client.createRsaKey('k1');
  await client.rotateKey('k1');
  const expiresOn = new Date('2030-01-01T00:00:00Z');
  const version = first.properties.version ?? '';
  await client.updateKeyProperties('k1', version, {
    enabled: false,
    expiresOn,
    keyOps: ['unwrapKey'],
    tags: { team: 'storage' },
  });
  const changed = await client.getKey('k1', { version });
  t.match(changed.properties, { enabled: false, expiresOn, tags: { team: 'storage' } });
  t.same(changed.keyOperations, ['unwrapKey']);
  t.equal((await client.getKey('k1')).properties.enabled, true);
});

void test('the SDK deletes a key, finds it deleted, recovers it with its versions', async (t) => {
  const fixture = await startVault(t);
  const client = createKeyClient(fixture);
  const { kid, client: remote, wrapped } = await makeWrapped(fixture);
  const deleted = await (await client.beginDeleteKey('k1', { intervalInMs: 1 })).pollUntilDone();
  t.equal(deleted.properties.recoveryId, `${fixture.vault.url}/deletedkeys/k1`);
  const { deletedOn, scheduledPurgeDate } = deleted.properties;
  t.equal(Number(scheduledPurgeDate) - Number(deletedOn), 7 * 86_400_000);
  t.equal((await client.getDeletedKey('k1')).id, kid);
  const recovery = await client.beginRecoverDeletedKey('k1', { intervalInMs: 1 });
  t.equal((await recovery.pollUntilDone()).id, kid);
  t.ok(await remote.unwrapKey('RSA-OAEP-256', wrapped));
});

void test('the SDK purges a deleted key where the vault allows it', async (t) => {
  const settings = { recoveryLevel: 'Recoverable+Purgeable' } as const;
  const client = createKeyClient(await startVault(t, { settings }));
  await client.createEcKey('k1');
  await (await client.beginDeleteKey('k1', { intervalInMs: 1 })).pollUntilDone();
  await client.purgeDeletedKey('k1');
  t.match(await failureOf(() => client.getDeletedKey('k1')), { statusCode: 404 });
  t.ok(await client.createEcKey('k1'));
});

void test('a key whose retention has ended is gone, and its name is free', async (t) => {
  let nowMs = Date.now();
  const fixture = await startVault(t, { nowMs: () => nowMs });
  const client = createKeyClient(fixture);
  await client.createEcKey('k1');
  await fixture.control.deleteKey('k1');
  nowMs += 7 * 86_400_000 + 1000;
  const later = createKeyClient(fixture);
  t.match(await failureOf(() => later.getDeletedKey('k1')), { statusCode: 404 });
  t.ok(await later.createEcKey('k1'));
});

void test('the SDK sets a rotation policy, and rotation obeys its expiry', async (t) => {
  const client = createKeyClient(await startVault(t));
  await client.createEcKey('k1');
  t.equal((await client.getKeyRotationPolicy('k1')).expiresIn, undefined);
  const policy = await client.updateKeyRotationPolicy('k1', {
    expiresIn: 'P90D',
    lifetimeActions: [{ action: 'Rotate', timeBeforeExpiry: 'P30D' }],
  });
  t.equal(policy.expiresIn, 'P90D');
  t.match((await client.getKeyRotationPolicy('k1')).lifetimeActions, [{ action: 'Rotate' }]);
  const { createdOn, expiresOn } = (await client.rotateKey('k1')).properties;
  t.equal(Number(expiresOn) - Number(createdOn), 90 * 86_400_000);
});

void test('every answer carries the headers of a genuine vault', async (t) => {
  const fixture = await startVault(t);
  const { headers } = await failureOf(() => createKeyClient(fixture).getKey('none'));
  t.match(headers, {
    'x-ms-keyvault-service-version': /^1\./,
    'x-ms-keyvault-region': 'loopback',
    'x-ms-keyvault-network-info': /^conn_type=Ipv4;addr=127\.0\.0\.1;/,
    'x-ms-request-id': /^[0-9a-f-]{36}$/,
  });
  const entry = (await fixture.control.log()).at(-1);
  t.equal(entry?.requestId, headers['x-ms-request-id']);
});

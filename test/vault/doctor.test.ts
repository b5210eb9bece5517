// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { test } from 'tap';
import { Examination, verdicts } from './support/examination.js';

const NOW_S = Math.floor(Date.now() / 1000);
const DAY_S = 86_400;

void test('a healthy key passes every check', async (t) => {
  const examination = await Examination.start(t);
  const found = await examination.run({ canaries: [await examination.canary()] });
  t.same(new Set(Object.values(verdicts(found))), new Set(['ok']));
  t.same(Object.keys(found), [
    'identity',
    'dns',
    'connect',
    'answer',
    'clock',
    'token',
    'key',
    'key-type',
    'key-size',
    'key-enabled',
    'key-operations',
    'key-dates',
    'recovery-level',
    'wrap',
    'unwrap',
    'canary',
  ]);
});

void test('the token says whom the identity stands for', async (t) => {
  const examination = await Examination.start(t);
  const { token } = await examination.run();
  t.match(token?.facts, {
    clientId: examination.fixture.vault.clientId,
    tenantId: examination.fixture.vault.tenantId,
    objectId: /^[0-9a-f-]{36}$/,
  });
});

void test('no check repeats the token or the secret', async (t) => {
  const examination = await Examination.start(t);
  const text = JSON.stringify(await examination.run());
  t.notMatch(text, /eyJ/);
  t.notOk(text.includes(examination.fixture.secret));
});

void test('the vault sees no wrap, one GET and one unwrap of the key', async (t) => {
  const examination = await Examination.start(t);
  await examination.run();
  const log = await examination.fixture.control.log();
  const accepted = log.filter(({ status, kid }) => status === 200 && kid !== undefined);
  t.same(
    accepted.map(({ operation }) => operation),
    ['get', 'unwrapKey'],
  );
});

void test('a disabled key fails as disabled', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.disableKey('k1');
  const found = await examination.run();
  t.match(found['key-enabled'], { verdict: 'fail', code: 'ERR_KEY_DISABLED' });
});

void test('a disabled key still fails the unwrap, with the vault’s own words', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.disableKey('k1');
  const { unwrap } = await examination.run();
  t.match(unwrap, { verdict: 'fail', code: 'KeyDisabled', kind: 'key-inaccessible' });
  t.match(unwrap?.facts, { class: 'denied-certain', httpStatus: 403, vaultRequestId: /./ });
});

void test('a disabled old version fails its canary, while the newest one unwraps', async (t) => {
  const examination = await Examination.start(t);
  const old = await examination.canary();
  const version = old.kid.split('/').at(-1) ?? '';
  await examination.fixture.control.rotateKey('k1');
  await examination.fixture.control.disableKey('k1', { version });
  const found = await examination.run({ canaries: [old] });
  t.equal(found['unwrap']?.verdict, 'ok');
  t.match(found['canary'], {
    verdict: 'fail',
    code: 'KeyDisabled',
    facts: { kid: old.kid, isNewest: false },
  });
});

void test('missing unwrapKey fails the unwrap and not the GET', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.deny({ operations: ['unwrapKey'] });
  const found = await examination.run();
  t.equal(found['key']?.verdict, 'ok');
  t.match(found['unwrap'], { verdict: 'fail', kind: 'key-inaccessible' });
});

void test('missing get fails the key and leaves the canary to be unwrapped', async (t) => {
  const examination = await Examination.start(t);
  const canary = await examination.canary();
  await examination.fixture.control.deny({ operations: ['get'] });
  const found = await examination.run({ canaries: [canary] });
  t.match(verdicts(found), { key: 'fail', 'key-type': 'skipped', unwrap: 'skipped', canary: 'ok' });
});

void test('a missing role is told from a missing policy', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.settings({ accessMode: 'rbac' });
  await examination.fixture.control.deny();
  const { key } = await examination.run();
  t.match(key, { verdict: 'fail', code: 'ForbiddenByRbac' });
});

void test('the firewall fails the key, and the token is fine', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.settings({ firewall: 'address' });
  const found = await examination.run();
  t.equal(found['token']?.verdict, 'ok');
  t.match(found['key'], { verdict: 'fail', code: 'ForbiddenByFirewall' });
});

void test('a private link is told from a firewall', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.settings({ firewall: 'private-link' });
  const { key } = await examination.run();
  t.match(key, { verdict: 'fail', code: 'ForbiddenByConnection' });
});

void test('a wrong secret fails the token with its AADSTS number', async (t) => {
  const examination = await Examination.start(t);
  const found = await examination.run({
    identity: { secret_file: await examination.wrongSecret() },
  });
  t.equal(found['connect']?.verdict, 'ok');
  t.match(found['token'], {
    verdict: 'fail',
    code: 'AADSTS7000215',
    kind: 'key-inaccessible',
    facts: { class: 'denied-identity' },
  });
  t.equal(found['key']?.verdict, 'skipped');
});

void test('an expired secret has a number of its own', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.settings({ application: 'secret-expired' });
  const { token } = await examination.run();
  t.match(token, { verdict: 'fail', code: 'AADSTS7000222' });
});

void test('a missing secret file fails the identity and stops no look at the vault', async (t) => {
  const examination = await Examination.start(t);
  const found = await examination.run({ identity: { secret_file: '/nonexistent/secret' } });
  t.match(found['identity'], { verdict: 'fail', code: 'ERR_IDENTITY_SECRET', kind: 'invalid' });
  t.match(verdicts(found), { connect: 'ok', answer: 'ok', token: 'skipped', key: 'skipped' });
});

void test('a secret file that others can read is a warning', async (t) => {
  const examination = await Examination.start(t);
  const path = join(examination.fixture.stateDir, 'open-secret');
  await writeFile(path, examination.fixture.secret, { mode: 0o644 });
  const { identity } = await examination.run({ identity: { secret_file: path } });
  t.match(identity, { verdict: 'warn', code: 'SecretReadable', facts: { mode: '0644' } });
});

void test('an unknown identity fails and names those that there are', async (t) => {
  const examination = await Examination.start(t);
  const { identity } = await examination.run({ identityName: 'other' });
  t.match(identity, { verdict: 'fail', code: 'ERR_VAULT_IDENTITY', facts: { known: ['prod'] } });
});

void test('an EC key fails by its type, and nothing is wrapped', async (t) => {
  const examination = await Examination.start(t);
  const { vault, control } = examination.fixture;
  await control.createKey({ name: 'ec', kty: 'EC' });
  const found = await examination.run({ key: `${vault.url}/keys/ec` });
  t.match(found['key-type'], { verdict: 'fail', code: 'ERR_KEY_TYPE', kind: 'invalid' });
  t.match(verdicts(found), { 'key-size': 'skipped', wrap: 'skipped', unwrap: 'skipped' });
});

void test('a key of 1024 bits fails by its size', async (t) => {
  const examination = await Examination.start(t);
  const { vault, control } = examination.fixture;
  await control.createKey({ name: 'small', sizeBits: 1024 });
  const found = await examination.run({ key: `${vault.url}/keys/small` });
  t.match(found['key-size'], { verdict: 'fail', facts: { sizeBits: 1024 } });
});

void test('a key without unwrapKey among its operations fails by them', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.updateKey('k1', { ops: ['wrapKey'] });
  const found = await examination.run();
  t.match(found['key-operations'], { verdict: 'fail', code: 'ERR_KEY_OPERATIONS' });
  t.match(found['unwrap'], { verdict: 'fail', code: 'KeyOperationForbidden' });
});

void test('a purgeable vault fails', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.settings({ recoveryLevel: 'Recoverable+Purgeable' });
  const found = await examination.run();
  t.match(found['recovery-level'], { verdict: 'fail', code: 'ERR_KEY_PURGEABLE' });
  t.equal(found['unwrap']?.verdict, 'ok');
});

void test('a purgeable vault is a warning for a set that allows it', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.settings({ recoveryLevel: 'Purgeable' });
  const found = await examination.run({ allowPurgeable: true });
  t.match(found['recovery-level'], { verdict: 'warn', code: 'ERR_KEY_PURGEABLE' });
});

void test('an expired key is a warning, since it still unwraps', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.updateKey('k1', { expires: NOW_S - 2 * DAY_S });
  const found = await examination.run();
  t.match(found['key-dates'], { verdict: 'warn', code: 'KeyExpired', facts: { daysLeft: -2 } });
  t.equal(found['unwrap']?.verdict, 'ok');
});

void test('an expired key is a failure for a set that goes offline then', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.updateKey('k1', { expires: NOW_S - 2 * DAY_S });
  const found = await examination.run({ expiryDenies: true });
  t.match(found['key-dates'], { verdict: 'fail', code: 'KeyExpired' });
});

void test('a key that expires within a month is a warning with the days left', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.updateKey('k1', { expires: NOW_S + 10 * DAY_S + 3600 });
  const found = await examination.run();
  t.match(found['key-dates'], { verdict: 'warn', code: 'KeyExpiresSoon', facts: { daysLeft: 10 } });
});

void test('a key that is not valid yet is a warning', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.updateKey('k1', { notBefore: NOW_S + DAY_S });
  const found = await examination.run();
  t.match(found['key-dates'], { verdict: 'warn', code: 'KeyNotYetValid' });
});

void test('a deleted key fails as not found', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.deleteKey('k1');
  const { key } = await examination.run();
  t.match(key, { verdict: 'fail', code: 'KeyNotFound', kind: 'key-inaccessible' });
});

void test('a vault that is not there fails the connection', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.vault.close();
  const found = await examination.run();
  t.match(found['connect'], { verdict: 'fail', code: 'ECONNREFUSED', kind: 'unavailable' });
  t.match(verdicts(found), { answer: 'skipped', clock: 'skipped', key: 'skipped' });
});

void test('a name that does not resolve fails by its name', async (t) => {
  const examination = await Examination.start(t);
  const found = await examination.run({ key: 'https://no-such-vault.invalid/keys/k1' });
  t.match(found['dns'], { verdict: 'fail', code: /^(ENOTFOUND|EAI_AGAIN|TIMEOUT)$/ });
  t.equal(found['connect']?.verdict, 'skipped');
});

void test('a host that accepts and says nothing ends by the time limit', async (t) => {
  const examination = await Examination.start(t);
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.teardown(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const found = await examination.run({
    key: `https://127.0.0.1:${port}/keys/k1`,
    transport: { timeoutMs: 300 },
  });
  t.match(found['connect'], { verdict: 'fail', code: 'TIMEOUT' });
});

void test('a certificate that nobody vouches for fails the connection', async (t) => {
  const examination = await Examination.start(t);
  const other = await Examination.start(t);
  const { connect } = await examination.run({
    transport: { caFile: other.fixture.vault.caPath },
  });
  t.match(connect, { verdict: 'fail', code: /CERT|SIGNATURE/ });
});

void test('a missing CA file fails as such', async (t) => {
  const examination = await Examination.start(t);
  const found = await examination.run({ transport: { caFile: '/nonexistent/ca.pem' } });
  t.match(found['connect'], { verdict: 'fail', code: 'ERR_VAULT_CA_FILE', kind: 'invalid' });
});

void test('a page of a proxy in the place of the vault is no Key Vault', async (t) => {
  const examination = await Examination.start(t);
  const { control } = examination.fixture;
  await control.trouble({ kind: 'html', status: 200, beforeAuthentication: true });
  const { answer } = await examination.run();
  t.match(answer, { verdict: 'fail', code: 'NotFromVault', message: /text\/html/ });
});

void test('a page of a proxy that says 403 is no denial', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.trouble({ kind: 'html', status: 403 });
  const { key } = await examination.run();
  t.match(key, { verdict: 'fail', kind: 'unavailable', facts: { class: 'no-answer' } });
});

void test('answers without the vault’s headers are a warning', async (t) => {
  const examination = await Examination.start(t);
  const { control } = examination.fixture;
  await control.trouble({ kind: 'no-headers', beforeAuthentication: true });
  const { answer } = await examination.run();
  t.match(answer, { verdict: 'warn', code: 'NotFromVault' });
});

void test('a token endpoint that hangs ends by the time limit', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.trouble({ kind: 'hang', operation: 'token' });
  const started = performance.now();
  const found = await examination.run({ transport: { timeoutMs: 500 } });
  t.match(found['token'], { verdict: 'fail', code: 'TIMEOUT', kind: 'unavailable' });
  t.ok(performance.now() - started < 5000);
});

void test('an unwrap that stalls in its body ends by the time limit', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.trouble({ kind: 'stall', operation: 'unwrapKey' });
  const { unwrap } = await examination.run({ transport: { timeoutMs: 500 } });
  t.match(unwrap, { verdict: 'fail', code: 'TIMEOUT' });
});

void test('an unwrap to other bytes is an integrity failure', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.trouble({ kind: 'wrong-value', operation: 'unwrapKey' });
  const { unwrap } = await examination.run();
  t.match(unwrap, { verdict: 'fail', code: 'CanaryMismatch', kind: 'integrity' });
});

void test('a foreign challenge is not followed with a token', async (t) => {
  const examination = await Examination.start(t);
  await examination.fixture.control.trouble({ kind: 'wrong-challenge' });
  const found = await examination.run();
  t.not(found['key']?.verdict, 'ok');
  const log = await examination.fixture.control.log();
  t.notOk(log.some(({ operation, status }) => operation === 'get' && status === 200));
});

for (const [side, skewMs] of [
  ['ahead', 10 * 60_000],
  ['behind', -10 * 60_000],
] as const) {
  void test(`a clock ten minutes ${side} is a warning`, async (t) => {
    const examination = await Examination.start(t);
    const { clock } = await examination.run({ skewMs });
    t.match(clock, { verdict: 'warn', code: 'ClockDifference', message: new RegExp(side) });
  });
}

void test('a clock four minutes off is fine', async (t) => {
  const examination = await Examination.start(t);
  t.match(await examination.run({ skewMs: 4 * 60_000 }), { clock: { verdict: 'ok' } });
});

void test('through a proxy that is not there the proxy is what fails', async (t) => {
  const examination = await Examination.start(t);
  const found = await examination.run({ transport: { proxy: 'http://127.0.0.1:1' } });
  t.match(verdicts(found), { dns: 'ok', connect: 'fail' });
  t.equal(found['connect']?.code, 'ECONNREFUSED');
});

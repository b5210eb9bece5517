// SPDX-License-Identifier: Apache-2.0
import { generateKeyPairSync } from 'node:crypto';
import { type Test, test } from 'tap';
import type { CustomerKey } from '../../src/vault/types.js';
import { errorBody, type Reply, VERSION } from './support/fake-vault.js';
import { Rig } from './support/rig.js';

interface Options {
  readonly reply?: Reply;
  readonly key?: object;
  readonly attributes?: object;
  readonly url?: string;
  readonly allowPurgeable?: boolean;
}

async function fetchKey(t: Test, options: Options = {}): Promise<CustomerKey> {
  const rig = await Rig.start();
  t.teardown(() => rig.stop());
  const { key, attributes } = { key: {}, attributes: {}, ...options };
  rig.vault.onGet = () => options.reply ?? { body: rig.vault.keyBody({ key, attributes }) };
  return rig.access().fetchCustomerKey({
    identity: 'prod',
    url: `${rig.vault.origin}${options.url ?? '/keys/k1'}`,
    allowPurgeable: options.allowPurgeable ?? false,
  });
}

function jwk(type: 'rsa', modulusLength: number): object {
  return generateKeyPairSync(type, { modulusLength }).publicKey.export({ format: 'jwk' });
}

void test('a versionless URL gives the newest version with its public half', async (t) => {
  const key = await fetchKey(t, { attributes: { exp: 2_000_000_000 } });
  t.match(key, {
    name: 'k1',
    version: VERSION,
    sizeBits: 2048,
    recoveryLevel: 'Recoverable',
    expiresOnMs: 2_000_000_000_000,
  });
  t.match(key.kid, new RegExp(`/keys/k1/${VERSION}$`));
  t.equal(key.modulus.length, 256);
  t.strictSame([...key.exponent], [1, 0, 1]);
});

void test('a versioned URL gives that version', async (t) => {
  t.equal((await fetchKey(t, { url: `/keys/k1/${VERSION}` })).version, VERSION);
});

void test('a key without expiry has none', async (t) => {
  t.notOk('expiresOnMs' in (await fetchKey(t)));
});

void test('leading zeros of the modulus do not count', async (t) => {
  const { n } = jwk('rsa', 2048) as { n: string };
  const padded = Buffer.concat([Buffer.alloc(3), Buffer.from(n, 'base64url')]).toString(
    'base64url',
  );
  t.match(await fetchKey(t, { key: { n: padded } }), { sizeBits: 2048 });
});

for (const type of ['RSA', 'RSA-HSM']) {
  void test(`${type} of 3072 bits serves`, async (t) => {
    t.match(await fetchKey(t, { key: { ...jwk('rsa', 3072), kty: type } }), { sizeBits: 3072 });
  });
}

for (const [type, hsm] of [
  ['RSA', false],
  ['RSA-HSM', true],
] as const) {
  void test(`a key of type ${type} is ${hsm ? '' : 'not '}in an HSM`, async (t) => {
    t.equal((await fetchKey(t, { key: { ...jwk('rsa', 2048), kty: type } })).hsm, hsm);
  });
}

void test('an EC key is refused with its type', async (t) => {
  const key = { kty: 'EC', crv: 'P-256', n: undefined, e: undefined };
  await t.rejects(fetchKey(t, { key }), {
    code: 'ERR_KEY_TYPE',
    message: /type EC, expected RSA or RSA-HSM/,
    fields: { actual: 'EC' },
  });
});

void test('a symmetric key is refused', async (t) => {
  await t.rejects(fetchKey(t, { key: { kty: 'oct-HSM', n: undefined } }), { code: 'ERR_KEY_TYPE' });
});

void test('an RSA key of 1024 bits is refused with both sides', async (t) => {
  await t.rejects(fetchKey(t, { key: jwk('rsa', 1024) }), {
    code: 'ERR_KEY_SIZE',
    message: /1024 bits, expected 2048, 3072, 4096/,
  });
});

void test('a modulus of 2047 bits is refused', async (t) => {
  const modulus = Buffer.alloc(256, 0xff);
  modulus[0] = 0x7f;
  const key = { n: modulus.toString('base64url') };
  await t.rejects(fetchKey(t, { key }), { code: 'ERR_KEY_SIZE', fields: { actual: 2047 } });
});

void test('an even modulus, an exponent of one, and no modulus are refused', async (t) => {
  const even = Buffer.alloc(256, 0xfe).toString('base64url');
  await t.rejects(fetchKey(t, { key: { n: even } }), { code: 'ERR_KEY_MATERIAL' });
  await t.rejects(fetchKey(t, { key: { e: 'AQ' } }), { code: 'ERR_KEY_MATERIAL' });
  await t.rejects(fetchKey(t, { key: { n: undefined } }), { code: 'ERR_KEY_MATERIAL' });
});

void test('a key that may not unwrap is refused with what it may', async (t) => {
  await t.rejects(fetchKey(t, { key: { key_ops: ['sign', 'wrapKey'] } }), {
    code: 'ERR_KEY_OPERATIONS',
    message: /permits sign, wrapKey, expected wrapKey and unwrapKey/,
  });
});

void test('a key without operations is refused', async (t) => {
  await t.rejects(fetchKey(t, { key: { key_ops: [] } }), { message: /permits no operation/ });
});

void test('a disabled key is refused, whether the vault shows it or not', async (t) => {
  await t.rejects(fetchKey(t, { attributes: { enabled: false } }), { code: 'ERR_KEY_DISABLED' });
  const reply = { status: 403, body: errorBody('Forbidden', 'KeyDisabled') };
  await t.rejects(fetchKey(t, { reply }), { code: 'ERR_KEY_DISABLED' });
});

for (const recoveryLevel of [
  'Purgeable',
  'Recoverable+Purgeable',
  'CustomizedRecoverable+Purgeable',
]) {
  void test(`recovery level ${recoveryLevel} needs the override`, async (t) => {
    const attributes = { recoveryLevel };
    await t.rejects(fetchKey(t, { attributes }), {
      code: 'ERR_KEY_PURGEABLE',
      fields: { actual: recoveryLevel },
    });
    t.match(await fetchKey(t, { attributes, allowPurgeable: true }), { recoveryLevel });
  });
}

void test('a vault that names no recovery level is taken for one without protection', async (t) => {
  const attributes = { recoveryLevel: undefined };
  await t.rejects(fetchKey(t, { attributes }), { code: 'ERR_KEY_PURGEABLE' });
});

void test('the description of another key is refused', async (t) => {
  const kid = `https://vault/keys/other/${VERSION}`;
  await t.rejects(fetchKey(t, { key: { kid } }), { code: 'ERR_KEY_MATERIAL' });
});

/** What the vault may say instead, and the code it becomes. */
const REFUSALS: ReadonlyArray<readonly [string, Reply, string]> = [
  ['no such key', { status: 404, body: errorBody('KeyNotFound') }, 'ERR_KEY_NOT_FOUND'],
  [
    'no permission',
    { status: 403, body: errorBody('Forbidden', 'ForbiddenByRbac') },
    'ERR_KEY_ACCESS',
  ],
  [
    'firewall',
    { status: 403, body: errorBody('Forbidden', 'ForbiddenByFirewall') },
    'ERR_KEY_NETWORK',
  ],
  ['a proxy’s 404', { status: 404, genuine: false, body: 'not found' }, 'ERR_KEY_NO_ANSWER'],
  ['an HTML page', { body: '<html>', genuine: false }, 'ERR_KEY_NO_ANSWER'],
  ['an empty object', { body: {} }, 'ERR_KEY_NO_ANSWER'],
  ['nothing', {}, 'ERR_KEY_NO_ANSWER'],
  ['a 503 without body', { status: 503 }, 'ERR_KEY_NO_ANSWER'],
  ['a dropped connection', { drop: true }, 'ERR_KEY_NO_ANSWER'],
  ['a stalled body', { stall: 'body', body: {} }, 'ERR_KEY_NO_ANSWER'],
];

for (const [situation, reply, code] of REFUSALS) {
  void test(`${situation} gives ${code} with the verdict`, async (t) => {
    await t.rejects(fetchKey(t, { reply }), {
      code,
      message: /^cannot read key https:/,
      fields: { verdict: { message: /./ } },
    });
  });
}

void test('a bad client secret is the identity’s', async (t) => {
  const rig = await Rig.start();
  t.teardown(() => rig.stop());
  rig.vault.onToken = () => ({
    status: 401,
    body: { error: 'invalid_client', error_description: 'x', error_codes: [7000215] },
  });
  const request = { identity: 'prod', url: `${rig.vault.origin}/keys/k1`, allowPurgeable: false };
  await t.rejects(rig.access().fetchCustomerKey(request), {
    code: 'ERR_KEY_IDENTITY',
    fields: { verdict: { code: 'AADSTS7000215' } },
  });
});

void test('an unknown identity is refused with those that exist', async (t) => {
  const rig = await Rig.start();
  t.teardown(() => rig.stop());
  const request = { identity: 'dev', url: `${rig.vault.origin}/keys/k1`, allowPurgeable: false };
  await t.rejects(rig.access().fetchCustomerKey(request), {
    code: 'ERR_VAULT_IDENTITY',
    message: /"dev".*prod/,
  });
});

void test('a URL that is no key’s is refused before anybody is asked', async (t) => {
  await t.rejects(fetchKey(t, { url: '/secrets/s1' }), { code: 'ERR_KEY_URL' });
});

void test('errors hold neither the secret nor a token', async (t) => {
  const reply = { status: 403, body: errorBody('Forbidden', 'ForbiddenByRbac') };
  const error = await fetchKey(t, { reply }).catch((thrown: unknown) => thrown);
  const { inspect } = await import('node:util');
  t.notMatch(inspect(error, { depth: 20, showHidden: true }), /a client secret|token-\d|Bearer/);
});

// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { encodeDekAad, encodeOuterDekAad } from '../../src/luks2/dek-aad.js';
import {
  decodeHeaderPair,
  decodeOuterHeaderPair,
  encodeHeaderPair,
  type HeaderPair,
} from '../../src/luks2/header-pair.js';
import {
  type AnyHeaderMetadata,
  type OuterHeaderMetadata,
  platformWrappedSetKey,
  type WrappedSetKey,
} from '../../src/luks2/metadata.js';
import { filled, SAMPLE, withToken } from './sample.js';

const PLATFORM_KEY_ID = '00112233445566778899aabbccddeeff';

const OUTER: OuterHeaderMetadata = {
  ...SAMPLE,
  token: {
    version: 1,
    layer: 'outer',
    diskUuid: SAMPLE.token.diskUuid,
    diskName: SAMPLE.token.diskName,
    dekGeneration: 1,
    platformKeyId: PLATFORM_KEY_ID,
    sealedDek: SAMPLE.token.sealedDek,
  },
};

const PLATFORM_ENTRY = platformWrappedSetKey(PLATFORM_KEY_ID, {
  nonce: filled(12, 1),
  ciphertext: filled(32, 2),
  tag: filled(16, 3),
});

function encode(metadata: AnyHeaderMetadata): HeaderPair {
  const salts = { primary: randomBytes(64), secondary: randomBytes(64) };
  return encodeHeaderPair(metadata, { seqid: 1, salts });
}

function decoded({ primary, secondary }: HeaderPair): AnyHeaderMetadata {
  return decodeHeaderPair(primary, secondary).metadata;
}

void test('an outer header is read as it was written', (t) => {
  const { primary, secondary } = encode(OUTER);
  t.strictSame(decodeOuterHeaderPair(primary, secondary).metadata, OUTER);
  t.end();
});

void test('an outer header is not taken for the only one', (t) => {
  t.throws(() => decoded(encode(OUTER)), { code: 'ERR_LUKS2_LAYER' });
  t.end();
});

void test('the only header is not taken for an outer one', (t) => {
  const { primary, secondary } = encode(SAMPLE);
  t.throws(() => decodeOuterHeaderPair(primary, secondary), { code: 'ERR_LUKS2_LAYER' });
  t.end();
});

for (const platformKeyId of ['', 'abc', PLATFORM_KEY_ID.toUpperCase(), `${PLATFORM_KEY_ID}00`]) {
  void test(`a platform key id ${JSON.stringify(platformKeyId)} is not written`, (t) => {
    const token = { ...OUTER.token, platformKeyId };
    t.throws(() => encode({ ...OUTER, token }), { code: 'ERR_LUKS2_METADATA' });
    t.end();
  });
}

void test('a set key under the platform key is read as it was written', (t) => {
  const metadata = withToken({ wrappedSetKeys: [PLATFORM_ENTRY] });
  t.strictSame(decoded(encode(metadata)), metadata);
  t.end();
});

const [CUSTOMER_ENTRY] = SAMPLE.token.wrappedSetKeys as [WrappedSetKey];
const REFUSED: readonly (readonly [string, WrappedSetKey[]])[] = [
  ['a platform key beside a customer key', [CUSTOMER_ENTRY, PLATFORM_ENTRY]],
  ['two platform keys', [PLATFORM_ENTRY, PLATFORM_ENTRY]],
  ['no key at all', []],
  ['a sealed set key of 59 bytes', [{ ...PLATFORM_ENTRY, value: filled(59, 1) }]],
  [
    'a wrapped set key as large as RSA under a platform key',
    [{ ...PLATFORM_ENTRY, value: filled(256, 1) }],
  ],
  ['a platform key that has no id', [{ ...PLATFORM_ENTRY, kid: 'platform:' }]],
  ['a vault key that seals with A256GCM', [{ ...PLATFORM_ENTRY, kid: CUSTOMER_ENTRY.kid }]],
  ['a platform key that wraps with RSA', [{ ...CUSTOMER_ENTRY, kid: PLATFORM_ENTRY.kid }]],
];
for (const [what, wrappedSetKeys] of REFUSED) {
  void test(`${what} is not written`, (t) => {
    t.throws(() => encode(withToken({ wrappedSetKeys })), { code: 'ERR_LUKS2_METADATA' });
    t.end();
  });
}

void test('the additional data of the outer DEK is laid out as documented', (t) => {
  const aad = encodeOuterDekAad({
    diskUuid: '00112233-4455-6677-8899-aabbccddeeff',
    dekGeneration: 7,
  });
  const expected =
    '6b6579686f6c642d64656b00' + // "keyhold-dek\0"
    '00000002' +
    '00112233445566778899aabbccddeeff' +
    '00000000000000000000000000000000' +
    '00000000' +
    '00000007';
  t.equal(Buffer.from(aad).toString('hex'), expected);
  t.end();
});

void test('no inner DEK has the additional data of an outer one', (t) => {
  const { diskUuid } = SAMPLE.token;
  const inner = encodeDekAad({
    diskUuid,
    setId: '00000000-0000-0000-0000-000000000000',
    setKeyGeneration: 1,
    dekGeneration: 1,
  });
  t.notSame(inner, encodeOuterDekAad({ diskUuid, dekGeneration: 1 }));
  t.end();
});

void test('a DEK generation of 0 has no outer additional data', (t) => {
  const { diskUuid } = SAMPLE.token;
  t.throws(() => encodeOuterDekAad({ diskUuid, dekGeneration: 0 }), /dekGeneration is 0/);
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import {
  constants,
  generateKeyPairSync,
  pbkdf2Sync,
  privateDecrypt,
  randomBytes,
} from 'node:crypto';
import { closeSync, writeSync } from 'node:fs';
import { test } from 'tap';
import { custody, knownSetKey, numbersOf, openDek } from './rig.js';

const EXPONENT = Buffer.from([1, 0, 1]);
const AAD = randomBytes(60);

for (const modulusLength of [2048, 3072, 4096]) {
  void test(`node:crypto unwraps a set key wrapped for ${modulusLength} bits`, async (t) => {
    const bytes = randomBytes(32);
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength });
    const wrapped = custody.wrapSetKey(await knownSetKey(bytes), numbersOf(publicKey));
    const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
    t.same(privateDecrypt({ key: privateKey, ...padding }, wrapped), bytes);
  });
}

void test('an exponent of 3 is taken', async (t) => {
  const bytes = randomBytes(32);
  const { publicKey, privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicExponent: 3,
  });
  const wrapped = custody.wrapSetKey(await knownSetKey(bytes), numbersOf(publicKey));
  const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
  t.same(privateDecrypt({ key: privateKey, ...padding }, wrapped), bytes);
});

/** A number of so many bits, odd unless told otherwise. */
function modulusOf(bits: number, last = 1): Buffer {
  const modulus = Buffer.alloc(Math.ceil(bits / 8));
  modulus[0] = 1 << ((bits - 1) % 8);
  modulus[modulus.length - 1] = (modulus.at(-1) ?? 0) | last;
  return modulus;
}

const BAD_PUBLIC_KEYS: readonly (readonly [string, Buffer, Buffer, RegExp])[] = [
  ['a modulus of 1024 bits', modulusOf(1024), EXPONENT, /1024 bits, expected 2048, 3072 or 4096/],
  ['a modulus of 2047 bits', modulusOf(2047), EXPONENT, /2047 bits/],
  ['a modulus of 4097 bits', modulusOf(4097), EXPONENT, /4097 bits/],
  ['a modulus of 8192 bits', modulusOf(8192), EXPONENT, /1024 and 3 bytes, at most 513/],
  ['an empty modulus', Buffer.alloc(0), EXPONENT, /0 bits/],
  ['a modulus of zeros', Buffer.alloc(256), EXPONENT, /0 bits/],
  ['an even modulus', modulusOf(2048, 0), EXPONENT, /even/],
  ['an exponent of 1', modulusOf(2048), Buffer.from([1]), /exponent has 1 bits/],
  ['an even exponent', modulusOf(2048), Buffer.from([1, 0, 0]), /odd number/],
  ['an empty exponent', modulusOf(2048), Buffer.alloc(0), /exponent has 0 bits/],
  ['an exponent of 72 bits', modulusOf(2048), modulusOf(72), /exponent has 72 bits/],
];

for (const [what, modulus, exponent, message] of BAD_PUBLIC_KEYS) {
  void test(`wrapping under ${what} is refused`, (t) => {
    const key = custody.generateSetKey();
    t.throws(() => custody.wrapSetKey(key, { modulus, exponent }), {
      code: 'ERR_NATIVE_INVALID',
      message,
    });
    t.end();
  });
}

void test('two generated set keys differ', (t) => {
  t.notOk(custody.sameSetKey(custody.generateSetKey(), custody.generateSetKey()));
  t.end();
});

void test('two set keys with the same bytes are the same', async (t) => {
  const bytes = randomBytes(32);
  t.ok(custody.sameSetKey(await knownSetKey(bytes), await knownSetKey(bytes)));
});

void test('a wiped set key is not even the same as itself', (t) => {
  const key = custody.generateSetKey();
  key.wipe();
  t.notOk(custody.sameSetKey(key, key));
  t.end();
});

void test('a handle of another custody is refused', (t) => {
  const foreign = { wiped: false, wipe: () => undefined };
  t.throws(() => custody.sameSetKey(foreign, custody.generateSetKey()), { name: 'TypeError' });
  t.end();
});

void test('a wiped set key wraps nothing', (t) => {
  const key = custody.generateSetKey();
  key.wipe();
  const publicKey = { modulus: modulusOf(2048), exponent: EXPONENT };
  t.throws(() => custody.wrapSetKey(key, publicKey), { code: 'ERR_SET_KEY_WIPED' });
  t.end();
});

void test('a wiped set key makes no DEK', (t) => {
  const key = custody.generateSetKey();
  key.wipe();
  t.throws(() => custody.createDek(key, AAD), { code: 'ERR_SET_KEY_WIPED' });
  t.end();
});

void test('wiping twice is wiping once', (t) => {
  const key = custody.generateSetKey();
  key.wipe();
  key.wipe();
  t.ok(key.wiped);
  t.end();
});

for (const [what, bytes, message] of [
  ['31 bytes', randomBytes(31), /got 31 bytes, expected 32/],
  ['33 bytes', randomBytes(33), /got at least 33 bytes, expected 32/],
  ['nothing', Buffer.alloc(0), /got 0 bytes, expected 32/],
] as const) {
  void test(`a pipe that brings ${what} brings no set key`, async (t) => {
    await t.rejects(knownSetKey(bytes), { code: 'ERR_NATIVE_INVALID', message });
  });
}

void test('a set key may come in pieces', async (t) => {
  const bytes = randomBytes(32);
  const { readFd, writeFd } = custody.createPipe();
  const received = custody.receiveSetKey(readFd, 5000);
  for (const byte of bytes) writeSync(writeFd, Uint8Array.of(byte));
  closeSync(writeFd);
  t.ok(custody.sameSetKey(await received, await knownSetKey(bytes)));
});

void test('a pipe that stays silent times out', async (t) => {
  const { readFd, writeFd } = custody.createPipe();
  await t.rejects(custody.receiveSetKey(readFd, 50), { code: 'ERR_NATIVE_TIMEOUT' });
  custody.closeFd(writeFd);
});

void test('a pipe that stops half way times out', async (t) => {
  const { readFd, writeFd } = custody.createPipe();
  writeSync(writeFd, randomBytes(16));
  await t.rejects(custody.receiveSetKey(readFd, 50), { code: 'ERR_NATIVE_TIMEOUT' });
  custody.closeFd(writeFd);
});

void test('a key is not complete before its pipe has ended', async (t) => {
  const { readFd, writeFd } = custody.createPipe();
  writeSync(writeFd, randomBytes(32));
  await t.rejects(custody.receiveSetKey(readFd, 50), { code: 'ERR_NATIVE_TIMEOUT' });
  custody.closeFd(writeFd);
});

void test('a negative time limit is refused', async (t) => {
  const { readFd, writeFd } = custody.createPipe();
  await t.rejects(custody.receiveSetKey(readFd, -1), {
    code: 'ERR_NATIVE_INVALID',
    message: /-1 ms, expected 0 or more/,
  });
  custody.closeFd(writeFd);
});

void test('receiving closes the descriptor, also when it fails', async (t) => {
  const { readFd, writeFd } = custody.createPipe();
  await t.rejects(custody.receiveSetKey(readFd, 0), { code: 'ERR_NATIVE_TIMEOUT' });
  t.throws(() => custody.closeFd(readFd), {
    code: 'ERR_NATIVE_SYSTEM',
    fields: { errno: 'EBADF' },
  });
  custody.closeFd(writeFd);
});

void test('receiving from a descriptor that is not open is refused', async (t) => {
  await t.rejects(custody.receiveSetKey(-1, 50), { code: /^ERR_NATIVE_(SYSTEM|TIMEOUT)$/ });
});

void test('a new DEK is what node:crypto opens with the set key', async (t) => {
  const bytes = randomBytes(32);
  const { sealed } = custody.createDek(await knownSetKey(bytes), AAD);
  t.equal(openDek(bytes, sealed, AAD).length, 64);
});

void test('the digest of a new DEK is PBKDF2 of it by node:crypto', async (t) => {
  const bytes = randomBytes(32);
  const { sealed, digest } = custody.createDek(await knownSetKey(bytes), AAD);
  const dek = openDek(bytes, sealed, AAD);
  t.same(Buffer.from(digest.digest), pbkdf2Sync(dek, digest.salt, digest.iterations, 32, 'sha256'));
});

void test('a new DEK does not open under other additional data', async (t) => {
  const bytes = randomBytes(32);
  const { sealed } = custody.createDek(await knownSetKey(bytes), AAD);
  t.throws(() => openDek(bytes, sealed, randomBytes(60)));
});

void test('two DEKs of one set key share neither bytes nor nonce nor salt', async (t) => {
  const bytes = randomBytes(32);
  const key = await knownSetKey(bytes);
  const [a, b] = [custody.createDek(key, AAD), custody.createDek(key, AAD)];
  t.notSame(openDek(bytes, a.sealed, AAD), openDek(bytes, b.sealed, AAD));
  t.notSame(a.sealed.nonce, b.sealed.nonce);
  t.notSame(a.digest.salt, b.digest.salt);
});

void test('additional data of more than 4096 bytes is refused', (t) => {
  const key = custody.generateSetKey();
  t.throws(() => custody.createDek(key, new Uint8Array(4097)), {
    code: 'ERR_NATIVE_INVALID',
    message: /4097 bytes, at most 4096/,
  });
  t.end();
});

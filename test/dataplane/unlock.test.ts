// SPDX-License-Identifier: Apache-2.0
import { createCipheriv, randomBytes } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { test } from 'tap';
import { NbdClient } from '../support/nbd-client.js';
import { addon, custody, digestDek, Rig, sealDek, type Served } from './rig.js';

const SECTORS = 24;

/** AES-256-XTS by node:crypto, with dm-crypt's plain64 numbering in 512-byte units. */
function encrypt(dek: Uint8Array, plaintext: Buffer, sectorSizeBytes: number): Buffer {
  const sectors: Buffer[] = [];
  for (let at = 0; at < plaintext.length; at += sectorSizeBytes) {
    const tweak = Buffer.alloc(16);
    tweak.writeBigUInt64LE(BigInt(at / 512));
    const cipher = createCipheriv('aes-256-xts', dek, tweak);
    sectors.push(cipher.update(plaintext.subarray(at, at + sectorSizeBytes)));
  }
  return Buffer.concat(sectors);
}

for (const kernel of addon.xtsKernels()) {
  for (const sectorSizeBytes of [512, 4096] as const) {
    void test(`${kernel}: ${sectorSizeBytes}-byte sectors equal node:crypto's`, async (t) => {
      const rig = await Rig.start(t, { shards: 1, xts: kernel });
      const dataOffsetBytes = 8192;
      const served = await rig.serve('d', { sectorSizeBytes, dataOffsetBytes });
      const client = await rig.client(rig.listen(), 'd');
      const plaintext = randomBytes(SECTORS * sectorSizeBytes);
      await client.write(0, plaintext);
      await client.flush();
      client.destroy();
      const store = await readFile(served.spec.storePath);
      const ciphertext = store.subarray(dataOffsetBytes, dataOffsetBytes + plaintext.length);
      t.ok(ciphertext.equals(encrypt(served.dekBytes, plaintext, sectorSizeBytes)));
    });
  }
}

void test('what node:crypto encrypted into the store is what a client reads', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const served = await rig.serve('d');
  const plaintext = randomBytes(SECTORS * 512);
  const file = await open(served.spec.storePath, 'r+');
  await file.write(encrypt(served.dekBytes, plaintext, 512), 0);
  await file.close();
  const client = await rig.client(rig.listen(), 'd');
  t.ok((await client.read(0, plaintext.length)).data.equals(plaintext));
  client.destroy();
});

void test('a DEK that native code made serves a disk', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk, setKey } = await rig.serve('d', { locked: true });
  const aad = randomBytes(40);
  disk.unlock(setKey, { ...custody.createDek(setKey, aad), aad });
  t.ok(disk.stats().keyPresent);
});

/** One bit of a copy is the other way round. */
function flipped(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
  return copy;
}

interface Wrong {
  readonly what: string;
  readonly code: string;
  readonly dek: (good: Served) => Served['dek'];
}

const foreignDek = randomBytes(64);
const equalHalves = Buffer.concat([foreignDek.subarray(0, 32), foreignDek.subarray(0, 32)]);

const WRONG: readonly Wrong[] = [
  ...(['nonce', 'ciphertext', 'tag'] as const).map((part) => ({
    what: `a seal with another ${part}`,
    code: 'ERR_DEK_UNSEAL',
    dek: ({ dek }: Served) => {
      return { ...dek, sealed: { ...dek.sealed, [part]: flipped(dek.sealed[part]) } };
    },
  })),
  {
    what: 'other additional data',
    code: 'ERR_DEK_UNSEAL',
    dek: ({ dek }) => ({ ...dek, aad: flipped(dek.aad) }),
  },
  {
    what: 'additional data cut short',
    code: 'ERR_DEK_UNSEAL',
    dek: ({ dek }) => ({ ...dek, aad: dek.aad.subarray(1) }),
  },
  {
    what: 'the DEK of another disk',
    code: 'ERR_DEK_DIGEST',
    dek: ({ dek, setKeyBytes }) => ({ ...dek, sealed: sealDek(setKeyBytes, foreignDek, dek.aad) }),
  },
  {
    what: 'another digest',
    code: 'ERR_DEK_DIGEST',
    dek: ({ dek }) => ({ ...dek, digest: { ...dek.digest, digest: flipped(dek.digest.digest) } }),
  },
  {
    what: 'another salt',
    code: 'ERR_DEK_DIGEST',
    dek: ({ dek }) => ({ ...dek, digest: { ...dek.digest, salt: flipped(dek.digest.salt) } }),
  },
  {
    what: 'another iteration count',
    code: 'ERR_DEK_DIGEST',
    dek: ({ dek }) => ({ ...dek, digest: { ...dek.digest, iterations: 1001 } }),
  },
  {
    what: 'too few iterations',
    code: 'ERR_NATIVE_INVALID',
    dek: ({ dek, dekBytes }) => ({ ...dek, digest: digestDek(dekBytes, 999) }),
  },
  {
    what: 'so many iterations that they would hold the daemon up',
    code: 'ERR_NATIVE_INVALID',
    dek: ({ dek }) => ({ ...dek, digest: { ...dek.digest, iterations: 10_000_001 } }),
  },
  {
    what: 'a DEK with equal halves',
    code: 'ERR_NATIVE_INVALID',
    dek: ({ dek, setKeyBytes }) => ({
      ...dek,
      sealed: sealDek(setKeyBytes, equalHalves, dek.aad),
      digest: digestDek(equalHalves),
    }),
  },
  {
    what: 'a nonce of 16 bytes',
    code: 'ERR_NATIVE_INVALID',
    dek: ({ dek }) => ({ ...dek, sealed: { ...dek.sealed, nonce: new Uint8Array(16) } }),
  },
  {
    what: 'a tag cut to 4 bytes',
    code: 'ERR_NATIVE_INVALID',
    dek: ({ dek }) => ({ ...dek, sealed: { ...dek.sealed, tag: dek.sealed.tag.subarray(0, 4) } }),
  },
];

void test('unlocking with a wrong DEK', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  for (const [index, { what, code, dek }] of WRONG.entries()) {
    void t.test(`${what} is refused with ${code} and the disk stays locked`, async (st) => {
      const served = await rig.serve(`d${index}`, { locked: true });
      st.throws(() => served.disk.unlock(served.setKey, dek(served)), { code });
      st.notOk(served.disk.stats().keyPresent);
    });
  }
  await t.test('after all of them the right DEK still opens the disk', async (st) => {
    const served = await rig.serve('last', { locked: true });
    for (const { dek } of WRONG) st.throws(() => served.disk.unlock(served.setKey, dek(served)));
    served.unlock();
    st.ok(served.disk.stats().keyPresent);
  });
});

void test('another set key opens no DEK', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const served = await rig.serve('d', { locked: true });
  t.throws(() => served.disk.unlock(custody.generateSetKey(), served.dek), {
    code: 'ERR_DEK_UNSEAL',
    message: /unlocking disk d: .*corrupt or was tampered with/,
  });
});

void test('a wiped set key opens no DEK', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const served = await rig.serve('d', { locked: true });
  served.setKey.wipe();
  t.throws(() => served.unlock(), { code: 'ERR_SET_KEY_WIPED' });
});

void test('wiping the set key leaves disks that serve alone', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const served = await rig.serve('d');
  served.setKey.wipe();
  const client = await rig.client(rig.listen(), 'd');
  t.equal((await client.read(0, 512)).errno, 0);
  client.destroy();
});

void test('a locked disk answers ESHUTDOWN to a client that gets there', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  await rig.serve('d', { locked: true });
  const client = await NbdClient.handshake(rig.listen());
  await client.go('d');
  t.equal((await client.read(0, 512)).errno, 108);
  client.destroy();
});

void test('no error of unlocking carries a byte of a key', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const served = await rig.serve('d', { locked: true });
  const texts = WRONG.map(({ dek }) => {
    try {
      served.disk.unlock(served.setKey, dek(served));
      return '';
    } catch (error) {
      return JSON.stringify(error, Object.getOwnPropertyNames(error)) + String(error);
    }
  });
  const keys = [served.setKeyBytes, served.dekBytes, foreignDek];
  const traces = keys.flatMap((key) => [
    key.subarray(0, 4).toString('hex'),
    key.subarray(0, 6).toString('base64'),
  ]);
  t.notOk(texts.some((text) => traces.some((trace) => text.includes(trace))));
});

// SPDX-License-Identifier: Apache-2.0
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import type { OuterLayer } from '../../src/disks/ports.js';
import {
  addon,
  createPlatformKeyFile,
  custody,
  digestDek,
  MIB,
  Rig,
  sealDek,
  type Served,
} from './rig.js';

const HEADER_BYTES = 16 * MIB;
const DATA_OFFSET_BYTES = 2 * HEADER_BYTES;
const SECTORS = 24;

/** One pass of AES-256-XTS by node:crypto; `fromBytes` counts from the container's own data. */
function pass(
  dek: Uint8Array,
  bytes: Uint8Array,
  options: { fromBytes: number; sectorSizeBytes: number; encrypt: boolean },
): Buffer {
  const { fromBytes, sectorSizeBytes, encrypt } = options;
  const sectors: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += sectorSizeBytes) {
    const tweak = Buffer.alloc(16);
    tweak.writeBigUInt64LE(BigInt((fromBytes + at) / 512));
    const create = encrypt ? createCipheriv : createDecipheriv;
    sectors.push(
      create('aes-256-xts', dek, tweak).update(bytes.subarray(at, at + sectorSizeBytes)),
    );
  }
  return Buffer.concat(sectors);
}

interface Double extends Served {
  readonly outerDekBytes: Buffer;
  readonly outer: OuterLayer;
}

/** A locked disk with two DEKs that the test knows. */
async function serveDouble(rig: Rig, sectorSizeBytes: 512 | 4096 = 512): Promise<Double> {
  const path = join(rig.dir, 'platform.key');
  const platform = createPlatformKeyFile(addon, path);
  const outerDekBytes = randomBytes(64);
  const aad = randomBytes(56);
  const sealed = sealDek(await readFile(path), outerDekBytes, aad);
  const outer = {
    platform,
    dek: { sealed, aad, digest: digestDek(outerDekBytes) },
  };
  const dataOffsetBytes = DATA_OFFSET_BYTES;
  const served = await rig.serve('d', {
    locked: true,
    sectorSizeBytes,
    dataOffsetBytes,
  });
  return { ...served, outerDekBytes, outer };
}

for (const kernel of addon.xtsKernels()) {
  for (const sectorSizeBytes of [512, 4096] as const) {
    const what = `${kernel}: ${sectorSizeBytes}-byte sectors`;
    void test(`${what}: two passes of node:crypto read a double disk`, async (t) => {
      const rig = await Rig.start(t, { shards: 1, xts: kernel });
      const served = await serveDouble(rig, sectorSizeBytes);
      served.disk.unlock(served.setKey, served.dek, served.outer);
      const client = await rig.client(rig.listen(), 'd');
      const plaintext = randomBytes(SECTORS * sectorSizeBytes);
      await client.write(0, plaintext);
      await client.flush();
      t.ok((await client.read(0, plaintext.length)).data.equals(plaintext), 'read back');
      client.destroy();
      const store = await readFile(served.spec.storePath);
      const stored = store.subarray(DATA_OFFSET_BYTES, DATA_OFFSET_BYTES + plaintext.length);
      const shared = { sectorSizeBytes, encrypt: false };
      const once = pass(served.outerDekBytes, stored, {
        fromBytes: HEADER_BYTES,
        ...shared,
      });
      t.ok(pass(served.dekBytes, once, { fromBytes: 0, ...shared }).equals(plaintext));
    });
  }
}

void test('what two passes of node:crypto wrote is what a client reads', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const served = await serveDouble(rig);
  const plaintext = randomBytes(SECTORS * 512);
  const shared = { sectorSizeBytes: 512, encrypt: true };
  const once = pass(served.dekBytes, plaintext, { fromBytes: 0, ...shared });
  const twice = pass(served.outerDekBytes, once, {
    fromBytes: HEADER_BYTES,
    ...shared,
  });
  const file = await open(served.spec.storePath, 'r+');
  await file.write(twice, 0, twice.length, DATA_OFFSET_BYTES);
  await file.close();
  served.disk.unlock(served.setKey, served.dek, served.outer);
  const client = await rig.client(rig.listen(), 'd');
  t.ok((await client.read(0, plaintext.length)).data.equals(plaintext));
  client.destroy();
});

void test('a fresh double disk reads as zeros', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const served = await serveDouble(rig);
  served.disk.unlock(served.setKey, served.dek, served.outer);
  const client = await rig.client(rig.listen(), 'd');
  t.ok((await client.read(0, 8192)).data.equals(Buffer.alloc(8192)));
  client.destroy();
});

void test('an outer DEK of another platform key leaves the disk locked', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk, setKey, dek, outer } = await serveDouble(rig);
  const platform = createPlatformKeyFile(addon, join(rig.dir, 'other.key'));
  t.throws(() => disk.unlock(setKey, dek, { ...outer, platform }), {
    code: 'ERR_DEK_UNSEAL',
  });
  t.notOk(disk.stats().keyPresent);
});

void test('an outer DEK with the digest of another leaves the disk locked', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk, setKey, dek, outer, dekBytes } = await serveDouble(rig);
  const wrong = {
    ...outer,
    dek: { ...outer.dek, digest: digestDek(dekBytes) },
  };
  t.throws(() => disk.unlock(setKey, dek, wrong), { code: 'ERR_DEK_DIGEST' });
  t.notOk(disk.stats().keyPresent);
});

void test('a double disk whose two DEKs are equal is refused', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk, setKey, dek, outer, dekBytes } = await serveDouble(rig);
  const sealed = sealDek(await readFile(join(rig.dir, 'platform.key')), dekBytes, outer.dek.aad);
  const same = {
    ...outer,
    dek: { ...outer.dek, sealed, digest: digestDek(dekBytes) },
  };
  t.throws(() => disk.unlock(setKey, dek, same), { message: /share a key/ });
});

void test('the outer cipher equals node:crypto over the inner header', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { outer, outerDekBytes } = await serveDouble(rig);
  const header = randomBytes(16_384);
  const cipher = rig.plane.openOuterCipher(outer, 4096);
  const expected = pass(outerDekBytes, header, {
    fromBytes: 16_384,
    sectorSizeBytes: 4096,
    encrypt: true,
  });
  t.ok(expected.equals(cipher.encrypt(header, 16_384)));
  t.ok(header.equals(cipher.decrypt(expected, 16_384)));
});

void test('the outer cipher refuses everything after its wipe', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { outer } = await serveDouble(rig);
  const cipher = rig.plane.openOuterCipher(outer, 512);
  cipher.wipe();
  t.throws(() => cipher.decrypt(new Uint8Array(512), 0), {
    code: 'ERR_SET_KEY_WIPED',
  });
});

void test('an outer DEK that native code made opens the outer cipher', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { outer } = await serveDouble(rig);
  const aad = randomBytes(56);
  const dek = { ...custody.createOuterDek(outer.platform, aad), aad };
  const cipher = rig.plane.openOuterCipher({ platform: outer.platform, dek }, 512);
  t.equal(cipher.encrypt(new Uint8Array(512), 0).length, 512);
  cipher.wipe();
});

void test('a disk that moved to another lease outlives the old one', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk, lease } = await rig.serve('d');
  const next = custody.createLease();
  next.renew(addon.bootTimeMs(), 600_000);
  disk.setLease(next, true);
  lease.end();
  t.ok(disk.stats().keyPresent);
  next.end();
  t.notOk(disk.stats().keyPresent);
});

void test('a lease that has ended is refused, and the old one stays', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk, lease } = await rig.serve('d');
  t.throws(() => disk.setLease(custody.createLease(), true), {
    code: 'ERR_SET_KEY_WIPED',
  });
  t.ok(disk.stats().keyPresent);
  lease.end();
  t.notOk(disk.stats().keyPresent);
});

void test('a discarded range of a store takes no space, and its size stays', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const path = join(rig.dir, 'store');
  await writeFile(path, randomBytes(MIB));
  const before = await stat(path);
  const discarded = rig.plane.discardRange(path, 0, MIB);
  const after = await stat(path);
  t.equal(after.size, before.size);
  t.equal(after.blocks < before.blocks, discarded);
});

void test('discarding in a store that is not there fails with its path', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  t.throws(() => rig.plane.discardRange(join(rig.dir, 'none'), 0, MIB), {
    code: 'ERR_STORE_DISCARD',
    fields: { errno: 'ENOENT' },
  });
});

// SPDX-License-Identifier: Apache-2.0
import { createHmac, randomBytes } from 'node:crypto';
import { chmod, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import type { PlatformKeyHandle } from '../../src/sets/ports.js';
import {
  addon,
  createPlatformKeyFile,
  custody,
  digestDek,
  knownSetKey,
  loadPlatformKey,
  openDek,
  sealDek,
  temporaryDirectory,
} from './rig.js';

const AAD = randomBytes(40);

interface Host {
  readonly path: string;
  readonly platform: PlatformKeyHandle;
  readonly bytes: Buffer;
}

/** A new platform key whose bytes the test knows. */
async function host(t: Parameters<typeof temporaryDirectory>[0]): Promise<Host> {
  const path = join(await temporaryDirectory(t), 'platform.key');
  const platform = createPlatformKeyFile(addon, path);
  return { path, platform, bytes: await readFile(path) };
}

void test('a new platform key is a file of 32 bytes for its owner alone', async (t) => {
  const { path } = await host(t);
  const { size, mode } = await stat(path);
  t.same([size, mode & 0o777], [32, 0o600]);
});

void test('the id is what node:crypto computes from the file', async (t) => {
  const { platform, bytes } = await host(t);
  const hmac = createHmac('sha256', bytes).update('keyhold platform key id').digest('hex');
  t.equal(platform.id, hmac.slice(0, 32));
});

void test('a key that was loaded has the id of the one that was made', async (t) => {
  const { path, platform } = await host(t);
  t.equal(loadPlatformKey(addon, { path, credential: false }).id, platform.id);
});

void test('a platform key file is never overwritten', async (t) => {
  const { path, bytes } = await host(t);
  t.throws(() => createPlatformKeyFile(addon, path), {
    code: 'ERR_PLATFORM_KEY_FILE',
    fields: { errno: 'EEXIST' },
  });
  t.same(await readFile(path), bytes);
});

void test('a file that others may read is refused with both modes', async (t) => {
  const { path } = await host(t);
  await chmod(path, 0o644);
  t.throws(() => loadPlatformKey(addon, { path, credential: false }), {
    code: 'ERR_PLATFORM_KEY_FILE',
    message: /platform\.key: its mode is 0644, expected 0600 or 0400/,
  });
});

void test('a file of another length is refused', async (t) => {
  const { path } = await host(t);
  await writeFile(path, randomBytes(64));
  t.throws(() => loadPlatformKey(addon, { path, credential: true }), {
    code: 'ERR_PLATFORM_KEY_FILE',
    message: /64 bytes, expected 32/,
  });
});

void test('a symbolic link is refused', async (t) => {
  const { path } = await host(t);
  await symlink(path, `${path}.link`);
  t.throws(() => loadPlatformKey(addon, { path: `${path}.link`, credential: false }), {
    code: 'ERR_PLATFORM_KEY_FILE',
  });
});

void test('a file that is not there is named', async (t) => {
  const { path } = await host(t);
  t.throws(() => loadPlatformKey(addon, { path: `${path}.none`, credential: false }), {
    code: 'ERR_PLATFORM_KEY_FILE',
    message: /platform\.key\.none/,
  });
});

void test('node:crypto opens a set key that the platform key sealed', async (t) => {
  const { platform, bytes } = await host(t);
  const keyBytes = randomBytes(32);
  const sealed = custody.sealSetKey(platform, await knownSetKey(keyBytes), AAD);
  t.same(openDek(bytes, sealed, AAD), keyBytes);
});

void test('a set key that node:crypto sealed is the same key', async (t) => {
  const { platform, bytes } = await host(t);
  const keyBytes = randomBytes(32);
  const opened = custody.openSetKey(platform, sealDek(bytes, keyBytes, AAD), AAD);
  t.ok(custody.sameSetKey(opened, await knownSetKey(keyBytes)));
});

void test('another platform key does not open a set key, and the error says so', async (t) => {
  const [one, other] = [await host(t), await host(t)];
  const sealed = custody.sealSetKey(one.platform, custody.generateSetKey(), AAD);
  t.throws(() => custody.openSetKey(other.platform, sealed, AAD), {
    code: 'ERR_SET_KEY_UNSEAL',
    message: /corrupt or was tampered with, or another platform key sealed it/,
  });
});

void test('a sealed set key opens under its own additional data only', async (t) => {
  const { platform } = await host(t);
  const sealed = custody.sealSetKey(platform, custody.generateSetKey(), AAD);
  t.throws(() => custody.openSetKey(platform, sealed, randomBytes(40)), {
    code: 'ERR_SET_KEY_UNSEAL',
  });
});

void test('a wiped set key is not sealed', async (t) => {
  const { platform } = await host(t);
  const key = custody.generateSetKey();
  key.wipe();
  t.throws(() => custody.sealSetKey(platform, key, AAD), {
    code: 'ERR_SET_KEY_WIPED',
  });
});

void test('a handle of another make is refused', async (t) => {
  const { platform } = await host(t);
  const other = { id: platform.id };
  t.throws(() => custody.createOuterDek(other, AAD), {
    code: 'ERR_NATIVE_INVALID',
  });
});

void test('node:crypto opens a DEK that was sealed for another set', async (t) => {
  const [fromBytes, toBytes, dekBytes] = [randomBytes(32), randomBytes(32), randomBytes(64)];
  const dek = {
    sealed: sealDek(fromBytes, dekBytes, AAD),
    aad: AAD,
    digest: digestDek(dekBytes),
  };
  const [from, to] = [await knownSetKey(fromBytes), await knownSetKey(toBytes)];
  const aad = randomBytes(40);
  t.same(openDek(toBytes, custody.resealDek({ from, to, dek, aad }), aad), dekBytes);
});

void test('a DEK with a broken seal is not sealed for another set', (t) => {
  const from = custody.generateSetKey();
  const { sealed, digest } = custody.createDek(from, AAD);
  const dek = { sealed, digest, aad: randomBytes(40) };
  t.throws(() => custody.resealDek({ from, to: custody.generateSetKey(), dek, aad: AAD }), {
    code: 'ERR_DEK_UNSEAL',
  });
  t.end();
});

void test('a DEK with the digest of another is not sealed for another set', (t) => {
  const from = custody.generateSetKey();
  const { sealed } = custody.createDek(from, AAD);
  const dek = { sealed, digest: custody.createDek(from, AAD).digest, aad: AAD };
  t.throws(() => custody.resealDek({ from, to: custody.generateSetKey(), dek, aad: AAD }), {
    code: 'ERR_DEK_DIGEST',
  });
  t.end();
});

void test('a DEK is not sealed under a wiped set key', (t) => {
  const [from, to] = [custody.generateSetKey(), custody.generateSetKey()];
  const dek = { ...custody.createDek(from, AAD), aad: AAD };
  to.wipe();
  t.throws(() => custody.resealDek({ from, to, dek, aad: AAD }), {
    code: 'ERR_SET_KEY_WIPED',
  });
  t.end();
});

/** A new file of this test, and a DEK that a known set key sealed. */
async function exportable(t: Parameters<typeof temporaryDirectory>[0]) {
  const [keyBytes, dekBytes] = [randomBytes(32), randomBytes(64)];
  const dek = { sealed: sealDek(keyBytes, dekBytes, AAD), aad: AAD, digest: digestDek(dekBytes) };
  const file = join(await temporaryDirectory(t), 'dek');
  return { keyBytes, dekBytes, dek, file };
}

void test('a DEK that node:crypto sealed is exported as it is', async (t) => {
  const { keyBytes, dekBytes, dek, file } = await exportable(t);
  await custody.exportDek(await knownSetKey(keyBytes), dek, file);
  t.same(await readFile(file), dekBytes);
});

void test('the same of an outer DEK', async (t) => {
  const { platform, bytes } = await host(t);
  const { dekBytes, dek, file } = await exportable(t);
  await custody.exportOuterDek(platform, { ...dek, sealed: sealDek(bytes, dekBytes, AAD) }, file);
  t.same(await readFile(file), dekBytes);
});

void test('another platform key exports no outer DEK', async (t) => {
  const { platform } = await host(t);
  const { dek, file } = await exportable(t);
  await t.rejects(custody.exportOuterDek(platform, dek, file), { code: 'ERR_DEK_UNSEAL' });
  await t.rejects(stat(file), { code: 'ENOENT' });
});

void test('a wiped set key exports no DEK', async (t) => {
  const { keyBytes, dek, file } = await exportable(t);
  const key = await knownSetKey(keyBytes);
  key.wipe();
  await t.rejects(custody.exportDek(key, dek, file), { code: 'ERR_SET_KEY_WIPED' });
  await t.rejects(stat(file), { code: 'ENOENT' });
});

void test('a DEK is not exported over a file, which the error names', async (t) => {
  const { keyBytes, dek, file } = await exportable(t);
  await writeFile(file, 'mine');
  await t.rejects(custody.exportDek(await knownSetKey(keyBytes), dek, file), {
    code: 'ERR_KEY_EXPORT_FILE',
    message: `exporting a DEK: write ${file}: File exists`,
    fields: { errno: 'EEXIST' },
  });
  t.equal(await readFile(file, 'utf8'), 'mine');
});

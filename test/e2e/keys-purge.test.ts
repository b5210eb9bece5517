// SPDX-License-Identifier: Apache-2.0
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import tap, { type Test, test } from 'tap';
import type { PurgeReceipt } from '../../src/admin/api-sets.js';
import { searchFile } from '../support/core-dump.js';
import {
  createDisk,
  createDiskAndSet,
  createSet,
  fill,
  isFilled,
  stateOf,
  untilDisk,
  usePlatformKey,
} from '../support/keys.js';
import { eventually, run } from '../support/process.js';
import { Stack } from '../support/stack.js';

const MIB = 1024 * 1024;
/** What lies before the data of a container. */
const HEADER_AREA_BYTES = 16 * MIB;

const stack = await Stack.start();
tap.teardown(() => stack.stop());
await usePlatformKey(stack);

async function isZero(store: string, lengthBytes: number): Promise<boolean> {
  const file = await open(store, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(lengthBytes), 0, lengthBytes, 0);
  await file.close();
  return bytesRead === lengthBytes && buffer.equals(Buffer.alloc(lengthBytes));
}

async function hasData(store: string, fromBytes: number): Promise<boolean> {
  return !(await readFile(store)).subarray(fromBytes, fromBytes + MIB).equals(Buffer.alloc(MIB));
}

async function assertUnrecognised(t: Test, store: string): Promise<void> {
  t.not((await run('blkid', ['-p', store])).status, 0, 'blkid');
  t.not((await run('cryptsetup', ['isLuks', store])).status, 0, 'cryptsetup');
}

interface SetRecord {
  keys: Array<{ wrappedSetKey: string }>;
  purge: { finishedAt: string | null } | null;
}

async function recordOf(set: string): Promise<SetRecord> {
  const path = join(stack.dir, 'state', 'sets', `${set}.json`);
  return JSON.parse(await readFile(path, 'utf8')) as SetRecord;
}

/** Deletes the key in the vault and waits for the end of access. */
async function deleteKey(set: string, disk = set): Promise<void> {
  await stack.vault.deleteKey(`${set}-key`);
  await untilDisk(stack, disk, 'offline(key-deleted)');
}

void test('a purge that is not due is refused', async (t) => {
  await createDiskAndSet(stack, 'kept');
  await fill(stack, 'kept', 0x71);

  await t.test('while the key gives proof', async (t) => {
    const refused = await stack.cli('set', 'purge', 'kept', '--confirm', 'kept');
    t.equal(refused.status, 4);
    t.match(refused.stderr, /ERR_SET_NOT_DENIED/);
    t.match(refused.stderr, /expected DENIED of every customer key, got .*PROOF/);
  });

  await t.test('while the vault is silent', async (t) => {
    await stack.vault.trouble({ kind: 'hang', key: 'kept-key' });
    const purging = stack.admin.purgeSet('kept', { confirm: 'kept' });
    await t.rejects(purging, { code: 'ERR_SET_NOT_DENIED', message: /NO-ANSWER/ });
    await stack.vault.trouble({ kind: 'none', key: 'kept-key' });
  });

  await t.test('without the name of the set, denied or not', async (t) => {
    const other = await stack.cli('set', 'purge', 'kept', '--confirm', 'kep');
    t.match(other, { status: 2, stderr: /ERR_SET_CONFIRMATION/ });
    t.equal((await stack.cli('set', 'purge', 'kept')).status, 2);
  });

  await t.test('and has done nothing', async (t) => {
    t.equal((await stack.admin.showSet('kept')).purge, null);
    t.equal(await stateOf(stack, 'kept'), 'online');
    t.ok(await isFilled(stack, 'kept', 0x71));
  });
});

void test('a purge after the key was deleted in the vault', async (t) => {
  await createDiskAndSet(stack, 'purged', { availabilityKey: true });
  await createDisk(stack, 'purged2', { set: 'purged' });
  await fill(stack, 'purged', 0x72);
  const { store } = await stack.disk('purged');
  const [kid = ''] = (await stack.admin.showSet('purged')).keys.map(({ id }) => id);
  const wrapped = (await recordOf('purged')).keys.map(({ wrappedSetKey }) => wrappedSetKey);
  await deleteKey('purged');
  const purge = ['set', 'purge', 'purged', '--confirm', 'purged'];
  const receipt = await stack.json<PurgeReceipt>(...purge);

  await t.test('gives a receipt of what it destroyed', (t) => {
    t.match(receipt, { finishedAt: String, kids: [kid], availabilityKey: true, failed: [] });
    t.strictSame([...receipt.erased].sort(), ['purged', 'purged2']);
    t.end();
  });

  await t.test('is in the audit log, which verifies', async (t) => {
    const text = await stack.ok('audit', 'export', '--set', 'purged');
    const { records } = JSON.parse(text) as { records: Array<{ kind: string }> };
    const purged = records.filter(({ kind }) => kind === 'set-purged');
    t.match(purged, [{ kids: [kid], erased: receipt.erased, finishedAt: receipt.finishedAt }]);
    t.equal((await stack.cli('audit', 'verify')).status, 0);
  });

  await t.test('leaves zeros before the data, which nothing recognises', async (t) => {
    t.ok(await isZero(store, HEADER_AREA_BYTES));
    t.ok(await hasData(store, HEADER_AREA_BYTES), 'the ciphertext is not its matter');
    await assertUnrecognised(t, store);
  });

  await t.test('leaves the wrapped set key nowhere in the state directory', async (t) => {
    const needles = wrapped.map((text, index) => ({
      name: `wrapped ${String(index)}`,
      bytes: Buffer.from(text.slice(0, 200)),
    }));
    t.equal(needles.length, 1);
    const state = join(stack.dir, 'state');
    for (const file of await readdir(state, { recursive: true, withFileTypes: true })) {
      if (!file.isFile()) continue;
      const path = join(file.parentPath, file.name);
      t.strictSame((await searchFile(path, needles)).found, [], path);
    }
  });

  await t.test('is for ever: a recovered key brings nothing back', async (t) => {
    await stack.vault.recoverKey('purged-key');
    await delay(1500);
    t.equal(await stateOf(stack, 'purged'), 'offline(erased)');
    t.match(await stack.ok('disk', 'show', 'purged'), /erased/);
    t.not((await stack.cli('disk', 'attach', 'purged')).status, 0);
    t.equal(await stateOf(stack, 'purged'), 'offline(erased)');
  });

  await t.test('leaves a set that takes neither disk nor key', async (t) => {
    const sizeBytes = 8 * MIB;
    const created = stack.admin.createDisk({ name: 'late', set: 'purged', sizeBytes });
    await t.rejects(created, { code: 'ERR_SET_PURGED' });
    await t.rejects(stack.admin.rotateSet('purged'), { code: 'ERR_SET_PURGED' });
    const keyUrl = await stack.keyUrl('kept-key');
    await t.rejects(stack.admin.assignKey('purged', { keyUrl }), { code: 'ERR_SET_PURGED' });
  });

  await t.test('lets disk and set be deleted', async () => {
    await stack.ok('disk', 'delete', 'purged', '--delete-store');
    await stack.ok('disk', 'delete', 'purged2', '--delete-store');
    await stack.ok('set', 'delete', 'purged');
  });
});

void test('a purge of a set that encrypts twice leaves zeros before the inner data', async (t) => {
  await createDiskAndSet(stack, 'twice', { double: true });
  await fill(stack, 'twice', 0x73);
  const { store } = await stack.disk('twice');
  await deleteKey('twice');
  await stack.admin.purgeSet('twice', { confirm: 'twice' });
  t.ok(await isZero(store, 2 * HEADER_AREA_BYTES));
  t.ok(await hasData(store, 2 * HEADER_AREA_BYTES));
  await assertUnrecognised(t, store);
});

void test('disk erase', async (t) => {
  await createDiskAndSet(stack, 'erased');
  await createDisk(stack, 'neighbour', { set: 'erased' });
  await fill(stack, 'neighbour', 0x74);
  const { store } = await stack.disk('erased');

  await t.test('is refused online, and has done nothing', async (t) => {
    const refused = await stack.cli('disk', 'erase', 'erased', '--confirm', 'erased');
    t.match(refused, { status: 4, stderr: /ERR_DISK_ONLINE/ });
    t.equal(await stateOf(stack, 'erased'), 'online');
    t.equal((await run('cryptsetup', ['isLuks', store])).status, 0);
  });

  await t.test('is refused without the name of the disk', async (t) => {
    await stack.admin.detachDisk('erased');
    const refused = await stack.cli('disk', 'erase', 'erased', '--confirm', 'neighbour');
    t.not(refused.status, 0);
    t.equal(await stateOf(stack, 'erased'), 'offline(detached)');
  });

  await t.test('destroys its header', async (t) => {
    await stack.ok('disk', 'erase', 'erased', '--confirm', 'erased');
    t.equal(await stateOf(stack, 'erased'), 'offline(erased)');
    t.ok(await isZero(store, HEADER_AREA_BYTES));
    await assertUnrecognised(t, store);
  });

  await t.test('spares the other disks of its set', async (t) => {
    t.equal(await stateOf(stack, 'neighbour'), 'online');
    t.ok(await isFilled(stack, 'neighbour', 0x74));
  });
});

/** Each with disks enough that a purge takes longer than the longest wait before the kill. */
const ROUNDS = 2;
const DISKS = 6;

void test('kill -9 in the middle of a purge: the next start finishes it', async (t) => {
  for (let round = 0; round < ROUNDS; round += 1) {
    const set = `torn${String(round)}`;
    const disks = Array.from({ length: DISKS }, (_, index) => `${set}-${String(index)}`);
    await createSet(stack, set);
    for (const disk of disks) await createDisk(stack, disk, { set });
    await deleteKey(set, disks[0]);
    const purging = stack.admin.purgeSet(set, { confirm: set }).catch(() => undefined);
    await eventually('the purge has begun', async () => (await recordOf(set)).purge !== null);
    await delay(round * 20);
    process.kill(await stack.daemonPid(), 'SIGKILL');
    await purging;
    await stack.waitForEnd();
    t.equal((await recordOf(set)).purge?.finishedAt, null, `${set}: in the middle`);
    await stack.startDev();
    await stack.vault.recoverKey(`${set}-key`);
    await eventually('it is finished', async () => {
      return (await stack.admin.showSet(set)).purge?.finishedAt !== null;
    });
    t.strictSame((await recordOf(set)).keys, []);
    for (const disk of disks) {
      t.equal(await stateOf(stack, disk), 'offline(erased)');
      t.ok(await isZero((await stack.disk(disk)).store, HEADER_AREA_BYTES), disk);
    }
  }
});

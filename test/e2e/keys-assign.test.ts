// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import tap, { test } from 'tap';
import { searchFile } from '../support/core-dump.js';
import { openDoubleStore } from '../support/dek-oracle.js';
import {
  createDisk,
  createDiskAndSet,
  createKey,
  createSet,
  DISK_BYTES,
  fill,
  headerKids,
  isFilled,
  pause,
  stateOf,
  untilDisk,
  usePlatformKey,
  Writer,
} from '../support/keys.js';
import { runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

const stack = await Stack.start();
tap.teardown(() => stack.stop());
const platformKeyPath = await usePlatformKey(stack);

/** Longer than two probe intervals and the confirmation of a denial. */
const QUIET_MS = 1500;

void test('assign-key online: a client writes on, and only the new key counts', async (t) => {
  await createDiskAndSet(stack, 'assign');
  const other = await createKey(stack, 'assign-other');
  const writer = await Writer.start(stack, 'assign');
  await stack.ok('set', 'assign-key', 'assign', other);
  t.strictSame(await headerKids(stack, 'assign'), [(await stack.vault.key('assign-other')).kid]);
  await stack.vault.deleteKey('assign-key');
  await pause(QUIET_MS);
  t.equal(await stateOf(stack, 'assign'), 'online');
  t.ok(await writer.stop());
  await stack.vault.disableKey('assign-other');
  await untilDisk(stack, 'assign', 'offline(key-disabled)');
  await stack.vault.enableKey('assign-other');
  await untilDisk(stack, 'assign', 'online');
});

void test('customer keys turned off online: no denial counts any more', async (t) => {
  await createDiskAndSet(stack, 'off');
  const writer = await Writer.start(stack, 'off');
  await stack.ok('set', 'assign-key', 'off', '--platform');
  const { platformKey } = await stack.admin.showSet('off');
  t.strictSame(await headerKids(stack, 'off'), [`platform:${String(platformKey)}`]);
  await stack.vault.disableKey('off-key');
  await pause(QUIET_MS);
  t.equal(await stateOf(stack, 'off'), 'online');
  t.ok(await writer.stop());
  t.equal((await stack.admin.restartDisk('off')).state, 'online');
});

void test('a customer key brought back online counts again', async (t) => {
  await createSet(stack, 'back');
  await stack.admin.assignKey('back', {});
  await createDisk(stack, 'back', { set: 'back' });
  const writer = await Writer.start(stack, 'back');
  await stack.ok('set', 'assign-key', 'back', await stack.keyUrl('back-key'));
  t.strictSame(await headerKids(stack, 'back'), [(await stack.vault.key('back-key')).kid]);
  t.ok(await writer.stop());
  await stack.vault.disableKey('back-key');
  await untilDisk(stack, 'back', 'offline(key-disabled)');
});

for (const [what, target] of [
  ['to another key', 'denied-other'],
  ['to the platform key', undefined],
] as const) {
  void test(`a set whose key is denied cannot be put ${what}`, async (t) => {
    const set = target ?? 'denied-platform';
    await createDiskAndSet(stack, set);
    await stack.vault.disableKey(`${set}-key`);
    await untilDisk(stack, set, 'offline(key-disabled)');
    const before = await headerKids(stack, set);
    const to = target === undefined ? '--platform' : await createKey(stack, `${set}2`);
    const refused = await stack.cli('set', 'assign-key', set, to);
    t.not(refused.status, 0);
    t.match(refused.stderr, /ERR_SET_KEY_UNAVAILABLE/);
    t.match(refused.stderr, /denied/);
    t.strictSame(await headerKids(stack, set), before);
    t.equal(await stateOf(stack, set), 'offline(key-disabled)');
  });
}

void test('assign-key to a key that is disabled changes nothing', async (t) => {
  await createDiskAndSet(stack, 'tried');
  const before = await headerKids(stack, 'tried');
  const { id: keyUrl } = await stack.vault.createKey({ name: 'tried-other', enabled: false });
  await t.rejects(stack.admin.assignKey('tried', { keyUrl }), { code: 'ERR_KEY_DISABLED' });
  t.strictSame(await headerKids(stack, 'tried'), before);
  t.equal(await stateOf(stack, 'tried'), 'online');
});

void test('assign-key takes one target: a URL or --platform', async (t) => {
  const both = await stack.cli('set', 'assign-key', 'tried', 'https://v/keys/k', '--platform');
  t.match(both, { status: 2, stderr: /ERR_CLI_USAGE/ });
  t.match(await stack.cli('set', 'assign-key', 'tried'), { status: 2, stderr: /ERR_CLI_USAGE/ });
});

void test('disk move', async (t) => {
  await createDiskAndSet(stack, 'from');
  await createSet(stack, 'to');

  await t.test('is refused while the other set is denied', async (t) => {
    await stack.vault.disableKey('to-key');
    await stack.admin.checkSet('to');
    t.equal((await stack.cli('disk', 'move', 'from', '--set', 'to')).status, 5);
    t.equal((await stack.disk('from')).set, 'from');
    await stack.vault.enableKey('to-key');
    await stack.admin.checkSet('to');
  });

  await t.test('a client writes on', async (t) => {
    const writer = await Writer.start(stack, 'from');
    await stack.ok('disk', 'move', 'from', '--set', 'to');
    await pause(500);
    t.equal((await stack.disk('from')).clients, 1);
    t.ok(await writer.stop());
    t.strictSame(await headerKids(stack, 'from'), [(await stack.vault.key('to-key')).kid]);
  });

  await t.test('the set that it left does not count', async (t) => {
    await stack.vault.disableKey('from-key');
    await pause(QUIET_MS);
    t.equal(await stateOf(stack, 'from'), 'online');
    t.equal((await stack.admin.restartDisk('from')).state, 'online');
  });

  await t.test('the set that it is in counts', async () => {
    await stack.vault.disableKey('to-key');
    await untilDisk(stack, 'from', 'offline(key-disabled)');
    await stack.vault.enableKey('to-key');
    await untilDisk(stack, 'from', 'online');
  });
});

void test('double encryption', async (t) => {
  const set = [
    'set',
    'create',
    'double',
    '--double',
    '--key',
    await createKey(stack, 'double-key'),
  ];
  await stack.ok(...set, '--probe-interval', '500ms');
  await stack.ok('disk', 'create', 'double', '--set', 'double', '--size', '8M', '--attach');
  const { store } = await stack.disk('double');
  const pattern = randomBytes(32);
  const plain = join(stack.dir, 'plain');
  const back = join(stack.dir, 'back');
  const data = Buffer.concat(Array.from({ length: DISK_BYTES / pattern.length }, () => pattern));
  await writeFile(plain, data);

  await t.test('nbdcopy brings back what it wrote', async (t) => {
    await runOk('nbdcopy', ['--flush', plain, stack.uri('double')]);
    await runOk('nbdcopy', [stack.uri('double'), back]);
    t.ok(data.equals(await readFile(back)));
  });

  await t.test('nothing of it is in the store, nor of the inner header', async (t) => {
    const needles = [
      { name: 'pattern', bytes: pattern },
      { name: 'set', bytes: Buffer.from((await stack.admin.showSet('double')).id) },
      { name: 'control', bytes: Buffer.from((await stack.disk('double')).uuid) },
    ];
    t.strictSame((await searchFile(store, needles)).found, ['control']);
  });

  await t.test('OpenSSL decrypts the store with the two keys, one after the other', async (t) => {
    const platformKey = await readFile(platformKeyPath);
    const oracle = await openDoubleStore(stack, store, { platformKey, dir: stack.dir });
    for (const offset of [0, 4096, DISK_BYTES - 4096]) {
      t.ok((await oracle.decrypt(offset, 4096)).equals(data.subarray(offset, offset + 4096)));
    }
  });

  await t.test(
    'no sector of the ciphertext is there twice, although all data is equal',
    async (t) => {
      const text = (await readFile(store)).subarray(32 * 1024 * 1024);
      t.equal(text.length, DISK_BYTES);
      const seen = new Set<string>();
      for (let at = 0; at < text.length; at += 16) seen.add(text.toString('latin1', at, at + 16));
      t.equal(seen.size, DISK_BYTES / 16);
    },
  );

  await t.test('the store names the platform key, and no key of a vault', async (t) => {
    const token = await runOk('cryptsetup', ['token', 'export', '--token-id', '0', store]);
    const { platformKeyId, wrappedSetKeys } = JSON.parse(token) as Record<string, unknown>;
    t.match(platformKeyId, /^[0-9a-f]{32}$/);
    t.strictSame(wrappedSetKeys, []);
  });

  await t.test('a disabled key takes it offline, enabled it is back with its data', async (t) => {
    await stack.vault.disableKey('double-key');
    await untilDisk(stack, 'double', 'offline(key-disabled)');
    await stack.vault.enableKey('double-key');
    await untilDisk(stack, 'double', 'online');
    await runOk('nbdcopy', [stack.uri('double'), back]);
    t.ok(data.equals(await readFile(back)));
  });

  await t.test('a disk with two layers does not move to a set with one', async (t) => {
    const moved = stack.admin.moveDisk('double', { set: 'to' });
    await t.rejects(moved, { code: 'ERR_DISK_LAYERS' });
  });

  await t.test('kill -9 and a new start: the same data', async (t) => {
    await fill(stack, 'double', 0x77);
    await stack.crashAndRestart();
    await untilDisk(stack, 'double', 'online');
    t.ok(await isFilled(stack, 'double', 0x77));
  });

  await t.test('with another platform key it stays offline, and names both', async (t) => {
    const other = join(stack.dir, 'other.key');
    await stack.ok('platform-key', 'init', other);
    await stack.reconfigure((text) => text.replace(platformKeyPath, other));
    await pause(QUIET_MS);
    const { state, message } = await stack.disk('double');
    t.equal(state, 'offline');
    t.match(message, /platform key [0-9a-f]{32} sealed it, this host has [0-9a-f]{32}/);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { open } from 'node:fs/promises';
import { test } from 'tap';
import { eventually, run, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

void test('what survives', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'kept', size: '32M' });

  await t.test('flushed and acknowledged writes survive kill -9 of the daemon', async (t) => {
    await runOk('qemu-io', [
      ...['-f', 'raw', stack.uri('kept')],
      ...['-c', 'write -P 0x51 0 1M', '-c', 'flush', '-c', 'write -P 0x52 1M 1M'],
    ]);
    await stack.crashAndRestart();
    await eventually('online', async () => (await stack.disk('kept')).state === 'online');
    const read = await run('qemu-io', [
      ...['-f', 'raw', stack.uri('kept')],
      ...['-c', 'read -P 0x51 0 1M', '-c', 'read -P 0x52 1M 1M', '-c', 'read -P 0 2M 1M'],
    ]);
    t.equal(read.status, 0, read.stdout + read.stderr);
    t.notMatch(read.stdout, /failed/i);
  });

  await t.test('the audit chain verifies after a crash', async (t) => {
    t.equal((await stack.cli('audit', 'verify')).status, 0);
  });

  await t.test('Ctrl-C and a second start find the same disk with its data', async (t) => {
    const before = await stack.disk('kept');
    await stack.stopDev();
    await stack.startDev();
    await eventually('online', async () => (await stack.disk('kept')).state === 'online');
    t.equal((await stack.disk('kept')).uuid, before.uuid);
    await runOk('qemu-io', ['-f', 'raw', stack.uri('kept'), '-c', 'read -P 0x51 0 1M']);
  });

  await t.test('a detached disk stays detached over a restart', async (t) => {
    await stack.ok('disk', 'detach', 'kept');
    await stack.stopDev();
    await stack.startDev();
    t.match(await stack.disk('kept'), { state: 'offline', reason: 'detached' });
    await stack.ok('disk', 'attach', 'kept');
  });

  await t.test('a header with one damaged copy is repaired from the other', async () => {
    await stack.ok('disk', 'detach', 'kept');
    const { store } = await stack.disk('kept');
    const file = await open(store, 'r+');
    await file.write(Buffer.alloc(512, 0xff), 0, 512, 4096);
    await file.close();
    await stack.ok('disk', 'attach', 'kept');
    await runOk('qemu-io', ['-f', 'raw', stack.uri('kept'), '-c', 'read -P 0x51 0 1M']);
    await runOk('cryptsetup', ['luksDump', store]);
  });
});

void test('what is refused', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'good', size: '8M' });

  await t.test('a header with both copies damaged', async (t) => {
    await stack.ok('disk', 'create', 'hurt', '--set', 'good-set', '--size', '8M');
    const { store } = await stack.disk('hurt');
    const file = await open(store, 'r+');
    await file.write(Buffer.alloc(512, 0xff), 0, 512, 4096 + 100);
    await file.write(Buffer.alloc(512, 0xff), 0, 512, 16_384 + 4096 + 100);
    await file.close();
    const attach = await stack.cli('disk', 'attach', 'hurt');
    t.equal(attach.status, 8);
    t.match(attach.stderr, /checksum/);
    t.match(attach.stderr, /ERR_LUKS2_DAMAGED/);
  });

  await t.test('the header of another disk', async (t) => {
    await stack.ok('disk', 'create', 'swap', '--set', 'good-set', '--size', '8M');
    const from = await open((await stack.disk('good')).store, 'r');
    const into = await open((await stack.disk('swap')).store, 'r+');
    const header = Buffer.alloc(32_768);
    await from.read(header, 0, header.length, 0);
    await into.write(header, 0, header.length, 0);
    await from.close();
    await into.close();
    const attach = await stack.cli('disk', 'attach', 'swap');
    t.not(attach.status, 0);
    t.match(attach.stderr, (await stack.disk('good')).uuid);
    t.match(attach.stderr, (await stack.disk('swap')).uuid);
  });

  await t.test('a store that was cut short', async (t) => {
    await stack.ok('disk', 'create', 'short', '--set', 'good-set', '--size', '8M');
    const file = await open((await stack.disk('short')).store, 'r+');
    await file.truncate(20 * 1024 * 1024);
    await file.close();
    const attach = await stack.cli('disk', 'attach', 'short');
    t.not(attach.status, 0);
    t.match(attach.stderr, /20971520/);
    t.match(attach.stderr, /25165824/);
  });

  await t.test('a store that was cut short right after the detach', async (t) => {
    await stack.ok('disk', 'create', 'hasty', '--set', 'good-set', '--size', '8M', '--attach');
    await stack.ok('disk', 'detach', 'hasty');
    const file = await open((await stack.disk('hasty')).store, 'r+');
    await file.truncate(20 * 1024 * 1024);
    await file.close();
    const attach = await stack.cli('disk', 'attach', 'hasty');
    t.not(attach.status, 0);
    t.match(attach.stderr, /ERR_STORE_SIZE/);
  });

  await t.test('a store that is no Keyhold disk', async (t) => {
    await stack.ok('disk', 'create', 'foreign', '--set', 'good-set', '--size', '8M');
    const file = await open((await stack.disk('foreign')).store, 'r+');
    await file.write(Buffer.alloc(32_768), 0, 32_768, 0);
    await file.close();
    const attach = await stack.cli('disk', 'attach', 'foreign');
    t.not(attach.status, 0);
    t.match(attach.stderr, /ERR_LUKS2_NOT_LUKS/);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { openStore } from '../support/dek-oracle.js';
import { eventually, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

const MIB = 1024 * 1024;
const O_DIRECT = 0o40000;

/** On the checkout's file system: the usual place may be a tmpfs, which takes 4096 bytes only. */
const cache = new URL('../../node_modules/.cache', import.meta.url).pathname;

/** Whether a process has `path` open with O_DIRECT. */
async function isOpenDirect(pid: number, path: string): Promise<boolean> {
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) !== path) continue;
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    const flags = Number.parseInt(/^flags:\s+(\d+)$/m.exec(info)?.[1] ?? '', 8);
    if ((flags & O_DIRECT) !== 0) return true;
  }
  return false;
}

void test('disks whose data goes past the page cache', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await mkdir(cache, { recursive: true });
  const dir = await mkdtemp(join(cache, 'keyhold-direct-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await stack.createDisk({ name: 'buffered' });
  const create = (name: string, sector: string, store: string) =>
    stack.cli(
      ...['disk', 'create', name, '--set', 'buffered-set', '--size', '16M', '--direct'],
      ...['--sector-size', sector, '--store', store, '--attach'],
    );

  for (const sector of ['512', '4096']) {
    const name = `d${sector}`;
    const store = join(dir, `${name}.img`);
    const patterns = [
      ...['-c', 'read -P 0xa5 1536 100352', '-c', 'read -P 0x3c 512 512'],
      ...['-c', 'read -P 0 2M 64k', '-c', 'read -P 0x77 8389632 3M'],
    ];

    await t.test(`${name}: patterns at odd offsets come back, after a restart too`, async (t) => {
      t.equal((await create(name, sector, store)).status, 0);
      t.ok(await isOpenDirect(await stack.daemonPid(), store));
      await runOk('qemu-io', [
        ...['-f', 'raw', stack.uri(name)],
        ...['-c', 'write -P 0xa5 1536 100352', '-c', 'write -f -P 0x3c 512 512'],
        ...['-c', 'write -P 0x11 2M 64k', '-c', 'write -z 2M 64k', '-c', 'discard 4M 1M'],
        ...['-c', 'write -P 0x77 8389632 3M', '-c', 'flush', ...patterns],
      ]);
      await stack.stopDev();
      await stack.startDev();
      await eventually(`${name} online`, async () => (await stack.disk(name)).state === 'online');
      t.ok(await isOpenDirect(await stack.daemonPid(), store));
      const output = await runOk('qemu-io', ['-f', 'raw', stack.uri(name), ...patterns]);
      t.notMatch(output, /verification failed|error/i);
    });

    await t.test(`${name}: the store holds AES-256-XTS ciphertext of it`, async (t) => {
      const data = randomBytes(16 * MIB);
      const source = join(stack.dir, `${name}.in`);
      await writeFile(source, data);
      await runOk('nbdcopy', ['--flush', source, stack.uri(name)]);
      const oracle = await openStore(stack, store);
      for (const offset of [0, 4096, 9 * MIB + 8192, 16 * MIB - 4096]) {
        const plaintext = data.subarray(offset, offset + 4096);
        t.notOk((await oracle.ciphertext(offset, 4096)).equals(plaintext));
        t.ok((await oracle.decrypt(offset, 4096)).equals(plaintext));
      }
    });
  }

  await t.test('disk show says so, and only of those', async (t) => {
    t.match(await stack.ok('disk', 'show', 'd512'), /, direct i\/o$/m);
    t.notMatch(await stack.ok('disk', 'show', 'buffered'), /direct/);
    const { store } = await stack.disk('buffered');
    t.notOk(await isOpenDirect(await stack.daemonPid(), store));
  });

  await t.test('a file system that cannot serve the sectors is refused', async (t) => {
    const store = join('/dev/shm', `keyhold-direct-${process.pid}.img`);
    const refused = await create('refused', '512', store);
    t.not(refused.status, 0);
    t.match(refused.stderr, /sector size is 512, expected a multiple of .* 4096 bytes/);
    t.match(refused.stderr, /ERR_STORE_DIRECT/);
    await t.rejects(stat(store), { code: 'ENOENT' });
    t.not((await stack.cli('disk', 'show', 'refused')).status, 0);
  });
});

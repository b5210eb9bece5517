// SPDX-License-Identifier: Apache-2.0
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { VmRig } from '../support/vm/rig.js';
import { Writer } from '../support/vm/writer.js';

/** Shorter than the 30 s after which a kernel with several connections gives them up. */
const SUSPENDED_MS = 20_000;

void test('ext4 on a disk whose vault is silent for longer than the lease', async (t) => {
  const rig = await VmRig.start(t);
  const { stack, guest } = rig;
  const setArgs = ['--probe-interval', '1s', '--lease', '4s', '--suspend-timeout', '10m'];
  await stack.createDisk({ name: 'db', size: '128M', setArgs });
  await guest.ok(await rig.attach('db', '/dev/nbd0'));
  await guest.ok('mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 /mnt');
  const writer = await Writer.start(guest);

  await t.test('the writer stands still while the disk is suspended', async (t) => {
    await stack.ok('vault', 'trouble', 'drop');
    await rig.untilState('db', 'suspended');
    await delay(1000); // an answer that had left before may still be on its way
    const before = await writer.acknowledged();
    await delay(SUSPENDED_MS);
    t.equal(await writer.acknowledged(), before);
  });

  await t.test('it goes on when the vault answers again', async () => {
    const before = await writer.acknowledged();
    await stack.ok('vault', 'trouble', 'none');
    await rig.untilState('db', 'online');
    await writer.untilAcknowledged(before + 5);
  });

  await t.test('it has seen no error', async (t) => {
    t.strictSame(await writer.stop(), { status: 0, output: '' });
  });

  await t.test('the kernel has seen no error', async (t) => {
    const log = await guest.kernelLog();
    t.notMatch(log, /I\/O error|Other side returned error|EXT4-fs (error|warning)|timed out/);
  });

  await t.test('every file that was written is on the disk', async (t) => {
    await guest.ok('umount /mnt && echo 3 > /proc/sys/vm/drop_caches && mount /dev/nbd0 /mnt');
    const { status, output } = await writer.check();
    t.equal(status, 0, output);
  });

  await t.test('e2fsck finds nothing', async (t) => {
    await guest.ok('umount /mnt');
    const { status, output } = await guest.run('e2fsck -fn /dev/nbd0');
    t.equal(status, 0, output);
  });
});

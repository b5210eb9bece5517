// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { VmRig } from '../support/vm/rig.js';
import { Writer } from '../support/vm/writer.js';

void test('ext4 on a disk whose key is disabled while it is mounted', async (t) => {
  // The connection outlives the revocation, so that the same device works again.
  const rig = await VmRig.start(t, { config: { disks: 'linger = "10m"' } });
  const { stack, guest } = rig;
  await stack.createDisk({ name: 'db', size: '128M', setArgs: ['--probe-interval', '1s'] });
  await guest.ok(await rig.attach('db', '/dev/nbd0'));
  await guest.ok('mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 /mnt');
  const writer = await Writer.start(guest);
  await stack.ok('vault', 'disable', 'db-key');
  await rig.untilState('db', 'offline');

  await t.test('a write that is under way fails with an I/O error', async (t) => {
    const { status, output } = await writer.ended;
    t.equal(status, 1);
    t.match(output, /Input\/output error|Read-only file system/);
  });

  await t.test('the kernel was told ESHUTDOWN, nothing else', async (t) => {
    const log = await guest.kernelLog();
    t.match(log, /nbd0: Other side returned error \(108\)/);
    t.notMatch(log, /Other side returned error \((?!108\))/);
  });

  await t.test('the first commit of the journal that fails ends all writing', async (t) => {
    const { status, output } = await guest.run('touch /mnt/late; sync; touch /mnt/later');
    t.not(status, 0);
    t.match(output, /Read-only file system|Input\/output error/);
    t.match(await guest.kernelLog(), /Aborting journal on device nbd0/);
  });

  await t.test('umount returns', async () => {
    await guest.ok('umount /mnt');
  });

  await t.test('a read of the device fails: no zeros, no noise', async (t) => {
    const { status, output } = await guest.run('dd if=/dev/nbd0 bs=4k skip=1 count=1 iflag=direct');
    t.not(status, 0);
    t.match(output, /Input\/output error/);
  });

  await stack.ok('vault', 'enable', 'db-key');
  await rig.untilState('db', 'online');

  await t.test('when the key is back, the same device mounts', async () => {
    await guest.ok('mount /dev/nbd0 /mnt');
  });

  await t.test('every file whose fsync was acknowledged is there', async (t) => {
    const { status, output } = await writer.check();
    t.equal(status, 0, output);
    t.ok((await writer.acknowledged()) >= 5);
  });

  await t.test('e2fsck finds nothing', async (t) => {
    await guest.ok('umount /mnt');
    const { status, output } = await guest.run('e2fsck -fn /dev/nbd0');
    t.equal(status, 0, output);
  });
});

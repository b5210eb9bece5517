// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { eventually } from '../support/process.js';
import { VmRig } from '../support/vm/rig.js';
import { Writer } from '../support/vm/writer.js';

/**
 * Several readers that go on past the end of the linger time, whatever the answer: nearly always, a
 * request is on its way.
 */
const ASK_ON = `
end=$(($(date +%s) + 12))
ask() {
  while [ $(date +%s) -lt $end ]; do
    dd if=/dev/nbd0 of=/dev/null bs=4k count=200 iflag=direct conv=noerror 2> /tmp/asked$1
  done
}
for reader in 1 2 3 4 5 6; do ask $reader & done
wait
grep -m 1 error /tmp/asked1
`;

void test('xfs on a disk whose key is disabled while it is mounted', async (t) => {
  // The connection is cut some time after the revocation, so that the client has to connect anew.
  const rig = await VmRig.start(t, { config: { disks: 'linger = "4s"' } });
  const { stack, guest } = rig;
  await stack.createDisk({ name: 'db', size: '512M', setArgs: ['--probe-interval', '1s'] });
  await guest.ok(await rig.attach('db', '/dev/nbd0'));
  await guest.ok('mkfs.xfs -q /dev/nbd0 && mount /dev/nbd0 /mnt');
  const writer = await Writer.start(guest);
  const busy = guest.run(ASK_ON);
  await stack.ok('vault', 'disable', 'db-key');
  await rig.untilState('db', 'offline');

  await t.test('a write that is under way fails with an I/O error', async (t) => {
    const { status, output } = await writer.ended;
    t.equal(status, 1);
    t.match(output, /Input\/output error/);
  });

  await t.test('the first write to the log that fails shuts the file system down', async (t) => {
    const { status, output } = await guest.run('touch /mnt/late; sync; touch /mnt/later');
    t.not(status, 0);
    t.match(output, /Input\/output error/);
    t.match(await guest.kernelLog(), /XFS \(nbd0\): log I\/O error/);
  });

  await t.test('who asks on is not left waiting when the linger time is over', async (t) => {
    const { status, output } = await busy;
    t.equal(status, 0, output);
    t.match(output, /Input\/output error/);
  });

  await t.test('the connection is cut when nobody asks any more', async () => {
    const cut = async (): Promise<boolean> => (await stack.disk('db')).clients === 0;
    await eventually('no client is left', cut, 60_000);
  });

  await t.test('umount returns', async () => {
    await guest.ok('umount /mnt');
  });

  await t.test('a new connection is refused with the reason', async (t) => {
    const { status, output } = await guest.run(await rig.attach('db', '/dev/nbd1'));
    t.not(status, 0);
    t.match(output, /key-disabled/);
  });

  await stack.ok('vault', 'enable', 'db-key');
  await rig.untilState('db', 'online');

  await t.test('when the key is back, a new connection mounts', async () => {
    await guest.ok('nbd-client -d /dev/nbd0');
    await guest.ok(await rig.attach('db', '/dev/nbd0'));
    await guest.ok('mount /dev/nbd0 /mnt');
  });

  await t.test('every file whose fsync was acknowledged is there', async (t) => {
    const { status, output } = await writer.check();
    t.equal(status, 0, output);
    t.ok((await writer.acknowledged()) >= 5);
  });

  await t.test('xfs_repair finds nothing', async (t) => {
    await guest.ok('umount /mnt');
    const { status, output } = await guest.run('xfs_repair -n /dev/nbd0');
    t.equal(status, 0, output);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { createDisk, createSet } from '../support/keys.js';
import { eventually } from '../support/process.js';
import { VmRig } from '../support/vm/rig.js';
import { Writer } from '../support/vm/writer.js';

const STATE_MS_MAX = 60_000;
const XFS_BYTES = 512 * 1024 * 1024;

/** Below the ports that the kernel gives to whoever asks for none in particular. */
const PORT_MIN = 20_000;
const PORTS = 12_000;

void test('a daemon that starts again, and a key that is revoked in restart mode', async (t) => {
  const port = PORT_MIN + (process.pid % PORTS);
  const rig = await VmRig.start(t, { port, config: { disks: 'grace = "0s"' } });
  const { stack, guest } = rig;
  await createSet(stack, 'now');
  await createSet(stack, 'later', { mode: 'restart' });
  await createDisk(stack, 'db', { set: 'now', sizeBytes: 64 * 1024 * 1024 });
  await createDisk(stack, 'files', { set: 'later', sizeBytes: XFS_BYTES });
  const attachDb = await rig.attach('db', '/dev/nbd0', '-persist');

  await guest.ok(await rig.attach('db', '/dev/nbd1', '-persist -nonetlink'));
  await guest.ok(attachDb);
  await guest.ok('mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 /mnt');
  const writer = await Writer.start(guest);
  await stack.stopDev();

  // A request that was sent but not answered when the connection ended would wait for ever.
  await t.test('nbd-client -d ends a write that waits for a daemon that is gone', async (t) => {
    await guest.ok('nbd-client -d /dev/nbd0');
    const { status, output } = await writer.ended;
    t.equal(status, 1);
    t.match(output, /Input\/output error|Read-only file system/);
  });

  await t.test('-persist does not outlast it: the client has ended', async () => {
    await guest.ok('while nbd-client -c /dev/nbd1; do sleep 0.1; done');
    await guest.ok('! ps -o args | grep -q "^nbd-client"');
  });

  // As systemd/keyhold-attach@.service does it; the daemon is not there yet.
  await guest.ok('umount /mnt');
  const again = guest.run(`until ${attachDb}; do sleep 1; done`);
  await stack.startDev();

  await t.test('a client that tries until it gets the disk gets it', async (t) => {
    const { status, output } = await again;
    t.equal(status, 0, output);
  });

  await t.test('every file whose fsync was acknowledged is there', async (t) => {
    await guest.ok('mount /dev/nbd0 /mnt');
    const { status, output } = await writer.check();
    t.equal(status, 0, output);
    t.ok((await writer.acknowledged()) >= 5);
  });

  await t.test('e2fsck finds nothing', async (t) => {
    await guest.ok('umount /mnt');
    const { status, output } = await guest.run('e2fsck -fn /dev/nbd0');
    t.equal(status, 0, output);
  });

  await rig.untilState('files', 'online');
  await guest.ok(await rig.attach('files', '/dev/nbd2'));
  await guest.ok('mkfs.xfs -q /dev/nbd2 && mkdir /files && mount /dev/nbd2 /files');
  const second = await Writer.start(guest, '/files');
  await stack.vault.disableKey('later-key');
  await eventually('revoked', async () => (await stack.disk('files')).revoked, STATE_MS_MAX);

  await t.test('in restart mode a mounted file system goes on after the revocation', async (t) => {
    await second.untilAcknowledged((await second.acknowledged()) + 5);
    t.strictSame(await second.stop(), { status: 0, output: '' });
    t.equal((await stack.disk('files')).state, 'online');
  });

  await t.test('and what it wrote since is read back after a new mount', async (t) => {
    await guest.ok('umount /files && echo 3 > /proc/sys/vm/drop_caches');
    await guest.ok('mount /dev/nbd2 /files');
    const { status, output } = await second.check();
    t.equal(status, 0, output);
    await guest.ok('umount /files');
  });

  await t.test('who disconnects does not get it again, and is told why', async (t) => {
    await guest.ok('nbd-client -d /dev/nbd2');
    await rig.untilState('files', 'offline');
    const { status, output } = await guest.run(await rig.attach('files', '/dev/nbd2'));
    t.not(status, 0);
    t.match(output, /key-disabled/);
  });

  await t.test('when the key is back, a new connection has every file', async (t) => {
    await stack.vault.enableKey('later-key');
    await stack.admin.attachDisk('files');
    await guest.ok(await rig.attach('files', '/dev/nbd3'));
    await guest.ok('xfs_repair -n /dev/nbd3 && mount /dev/nbd3 /files');
    const { status, output } = await second.check();
    t.equal(status, 0, output);
  });
});

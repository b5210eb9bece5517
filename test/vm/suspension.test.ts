// SPDX-License-Identifier: Apache-2.0
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { VmRig } from '../support/vm/rig.js';
import { Writer } from '../support/vm/writer.js';

const SUSPENDED_MS = 20_000;

/** Of a client that has less patience than that, and of one that has more. */
const TIMEOUT_S = { short: 5, long: 900 };

/** Longer than the suspension, whatever the machine is busy with. */
const READ_MS_MAX = 240_000;

/** One block, from the disk and not from the page cache. */
function readOf(device: string): string {
  return `dd if=${device} of=/dev/null bs=4k count=1 skip=9 iflag=direct`;
}

void test('ext4 and xfs on disks whose vault is silent for longer than the lease', async (t) => {
  const rig = await VmRig.start(t);
  const { stack, guest } = rig;
  const setArgs = ['--probe-interval', '1s', '--lease', '4s', '--suspend-timeout', '10m'];
  await stack.createDisk({ name: 'db', size: '128M', setArgs });
  await guest.ok(await rig.attach('db', '/dev/nbd0'));
  await guest.ok('mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 /mnt');
  await stack.ok('disk', 'create', 'files', '--set', 'db-set', '--size', '512M', '--attach');
  await guest.ok(await rig.attach('files', '/dev/nbd4'));
  await guest.ok('mkfs.xfs -q /dev/nbd4 && mkdir /files && mount /dev/nbd4 /files');
  const writers = [await Writer.start(guest), await Writer.start(guest, '/files')];
  const acknowledged = (): Promise<number[]> =>
    Promise.all(writers.map((writer) => writer.acknowledged()));
  await stack.ok('disk', 'create', 'raw', '--set', 'db-set', '--size', '8M', '--attach');
  await guest.ok(await rig.attach('raw', '/dev/nbd1', `-C 4 -t ${TIMEOUT_S.long}`));
  await guest.ok(await rig.attach('raw', '/dev/nbd2', `-t ${TIMEOUT_S.short}`));
  await guest.ok(await rig.attach('raw', '/dev/nbd3'));
  await stack.ok('vault', 'trouble', 'drop');
  await rig.untilState('db', 'suspended');
  await rig.untilState('raw', 'suspended');
  await rig.untilState('files', 'suspended');
  const patient = guest.run(readOf('/dev/nbd1'), { timeoutMs: READ_MS_MAX });
  const impatient = guest.run(readOf('/dev/nbd2'), { timeoutMs: READ_MS_MAX });
  await delay(1000); // an answer that had left before may still be on its way

  await t.test('the writers stand still while their disks are suspended', async (t) => {
    const before = await acknowledged();
    await delay(SUSPENDED_MS);
    t.strictSame(await acknowledged(), before);
    t.equal((await stack.disk('db')).state, 'suspended');
    t.equal((await stack.disk('files')).state, 'suspended');
  });

  await t.test('a client with a shorter timeout gets an I/O error', async (t) => {
    const { status, output } = await impatient;
    t.not(status, 0);
    t.match(output, /Input\/output error/);
  });

  await t.test('nbd-client -d ends what waits, with an I/O error', async (t) => {
    const waiting = guest.run(readOf('/dev/nbd3'), { timeoutMs: READ_MS_MAX });
    await guest.ok('until grep -q "^ *[1-9]" /sys/block/nbd3/inflight; do sleep 0.1; done');
    await guest.ok('nbd-client -d /dev/nbd3');
    const { status, output } = await waiting;
    t.not(status, 0);
    t.match(output, /Input\/output error/);
  });

  await t.test('they go on when the vault answers again', async () => {
    const before = await acknowledged();
    await stack.ok('vault', 'trouble', 'none');
    await rig.untilState('db', 'online');
    await rig.untilState('files', 'online');
    for (const [index, writer] of writers.entries()) {
      await writer.untilAcknowledged((before[index] ?? 0) + 5);
    }
  });

  await t.test('a client with four connections and a longer timeout has waited too', async (t) => {
    const { status, output } = await patient;
    t.equal(status, 0, output);
  });

  await t.test('the writers have seen no error', async (t) => {
    for (const writer of writers) t.strictSame(await writer.stop(), { status: 0, output: '' });
  });

  await t.test('the kernel has seen none on the devices of the file systems', async (t) => {
    const log = await guest.kernelLog();
    t.notMatch(log, /dev nbd[04]|nbd[04]: (Other side|Receive|Connection|Dead)/);
    t.notMatch(log, /EXT4-fs (error|warning)|XFS \(nbd4\): .*(error|shut)/i);
  });

  await t.test('every file that was written is on its disk', async (t) => {
    await guest.ok('umount /mnt /files && echo 3 > /proc/sys/vm/drop_caches');
    await guest.ok('mount /dev/nbd0 /mnt && mount /dev/nbd4 /files');
    for (const writer of writers) {
      const { status, output } = await writer.check();
      t.equal(status, 0, output);
    }
  });

  await t.test('e2fsck and xfs_repair find nothing', async (t) => {
    await guest.ok('umount /mnt /files');
    for (const check of ['e2fsck -fn /dev/nbd0', 'xfs_repair -n /dev/nbd4']) {
      const { status, output } = await guest.run(check);
      t.equal(status, 0, output);
    }
  });
});

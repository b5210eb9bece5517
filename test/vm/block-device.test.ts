// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { eventually } from '../support/process.js';
import { VmRig } from '../support/vm/rig.js';

const MIB = 1024 * 1024;
/** What the file system of the store may keep of its own map of a file that became sparse. */
const STORE_MAP_BYTES_MAX = 64 * 1024;

/** Block size of the kernel's device, and sector size of the disk below it. */
const SIZES = [
  ['/dev/nbd0', 512, 512],
  ['/dev/nbd1', 4096, 4096],
  ['/dev/nbd2', 512, 4096], // the disk reads, changes and writes its sectors
] as const;

/** Four files of 2 MiB under /mnt, written at the same time; their sums in /tmp/sums. */
const WRITE_IN_PARALLEL = `
for i in 1 2 3 4; do
  dd if=/dev/urandom of=/mnt/file$i bs=64k count=32 conv=fsync 2> /tmp/dd$i || touch /tmp/failed &
done
wait
cat /tmp/dd*
[ ! -e /tmp/failed ] && md5sum /mnt/file? > /tmp/sums
`;

void test('the block device that the kernel makes of a disk', async (t) => {
  const rig = await VmRig.start(t);
  const { stack, guest } = rig;
  await stack.createDisk({ name: 'main', size: '32M' });

  for (const [device, blockBytes, sectorBytes] of SIZES) {
    const name = `b${blockBytes}s${sectorBytes}`;
    const claim = `blocks of ${blockBytes} on sectors of ${sectorBytes}, 4 connections`;
    await t.test(`${claim}: files are read back as they were written`, async (t) => {
      const diskArgs = ['--set', 'main-set', '--size', '32M', '--attach'];
      await stack.ok('disk', 'create', name, ...diskArgs, '--sector-size', String(sectorBytes));
      await guest.ok(await rig.attach(name, device, `-b ${blockBytes} -C 4`));
      await eventually('4 clients', async () => (await stack.disk(name)).clients === 4);
      const queue = `/sys/block/${device.slice(5)}/queue`;
      t.equal((await guest.ok(`cat ${queue}/logical_block_size`)).trim(), String(blockBytes));
      await guest.ok(`mkfs.ext4 -q ${device} && mount ${device} /mnt`);
      await guest.ok(WRITE_IN_PARALLEL);
      await guest.ok(`umount /mnt && echo 3 > /proc/sys/vm/drop_caches && mount ${device} /mnt`);
      const { status, output } = await guest.run('md5sum -c -s /tmp/sums');
      t.equal(status, 0, output);
      await guest.ok(`umount /mnt && e2fsck -fn ${device}`);
    });
  }

  await t.test('fstrim gives the space of a deleted file back to the store', async (t) => {
    await guest.ok('mount /dev/nbd0 /mnt');
    const before = await rig.allocatedBytes('b512s512');
    await guest.ok('rm /mnt/file? && sync && fstrim /mnt && umount /mnt');
    const freed = before - (await rig.allocatedBytes('b512s512'));
    t.ok(freed >= 7 * MIB, `${freed} bytes of ${before}`);
  });

  await t.test('blkdiscard leaves a disk as empty as a new one', async (t) => {
    await guest.ok('blkdiscard /dev/nbd1');
    const [left, empty] = [
      await rig.allocatedBytes('b4096s4096'),
      await rig.allocatedBytes('main'),
    ];
    t.ok(left <= empty + STORE_MAP_BYTES_MAX, `${left} bytes, ${empty} of a new one`);
  });

  await t.test('what was discarded reads as zeros', async (t) => {
    const found = await guest.ok(
      'dd if=/dev/nbd1 bs=1M iflag=direct 2> /dev/null | tr -d "\\0" | wc -c',
    );
    t.equal(found.trim(), '0');
  });

  await t.test('an unknown disk is refused, with its name', async (t) => {
    const { status, output } = await guest.run(await rig.attach('nobody', '/dev/nbd3'));
    t.not(status, 0);
    t.match(output, /nobody/);
  });

  await t.test('a read-only disk cannot be written', async (t) => {
    const args = ['--set', 'main-set', '--size', '8M', '--read-only', '--attach'];
    await stack.ok('disk', 'create', 'fixed', ...args);
    await guest.ok(await rig.attach('fixed', '/dev/nbd4'));
    const { status, output } = await guest.run('dd if=/dev/urandom of=/dev/nbd4 bs=4k count=1');
    t.not(status, 0);
    t.match(output, /not permitted|Read-only/);
  });

  await t.test('a script that does not end is told from the shell, which goes on', async (t) => {
    await t.rejects(guest.run('sleep 1000', { timeoutMs: 500 }), { message: /sleep 1000/ });
    t.equal(await guest.ok('echo here'), 'here\n');
  });

  await t.test('a script that fails gives its status and its output', async (t) => {
    t.strictSame(await guest.run('echo why >&2; exit 7'), { status: 7, output: 'why\n' });
    await t.rejects(guest.ok('echo why >&2; exit 7'), { message: /7: why/ });
  });
});

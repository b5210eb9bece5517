// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { createDisk, createSet } from '../support/keys.js';
import type { Guest } from '../support/vm/guest.js';
import { VmRig } from '../support/vm/rig.js';

const SIZE_BYTES = 32 * 1024 * 1024;
const FOLDER = '/mnt/files';
/** Files of many sizes, by fsync and without, and one that is mostly a hole. */
const WRITE_FILES = `
mkdir ${FOLDER} && cd ${FOLDER}
for size in 0 1 511 512 513 4095 4096 100000; do head -c $size /dev/urandom > file$size; done
dd if=/dev/urandom of=synced bs=64k count=32 conv=fsync 2> /dev/null
echo end | dd of=sparse bs=1M seek=9 conv=fsync 2> /dev/null
md5sum * > /tmp/sums
cd / && umount /mnt
`;

/** No udev in the machine, which cryptsetup would wait for. */
const open = (key: string, device: string, name: string): string =>
  'mkdir -p /run/cryptsetup; DM_DISABLE_UDEV=1 cryptsetup open --type luks2 -s 512 ' +
  `--volume-key-file ${key} ${device} ${name}`;

/** Gives a file of this machine to the guest. */
async function send(guest: Guest, from: string, to: string): Promise<void> {
  await guest.ok(`echo ${(await readFile(from)).toString('base64')} | base64 -d > ${to}`);
}

void test('a store that the kernel opens with the exported key, without Keyhold', async (t) => {
  const rig = await VmRig.start(t, {
    modules: ['dm_crypt', 'xts'],
    programs: ['cryptsetup'],
    prepare: async (stack) => {
      await createSet(stack, 'set');
      await createDisk(stack, 'crypt', { set: 'set', dmCrypt: true, sizeBytes: SIZE_BYTES });
      const large = { dmCrypt: true, sectorSizeBytes: 4096 } as const;
      await createDisk(stack, 'large', { set: 'set', sizeBytes: SIZE_BYTES, ...large });
      await createDisk(stack, 'thin', { set: 'set', sizeBytes: SIZE_BYTES });
      const disks = await Promise.all(['crypt', 'large', 'thin'].map((name) => stack.disk(name)));
      return { drives: disks.map(({ store }) => store) };
    },
  });
  const { stack, guest } = rig;
  const devices = { crypt: '/dev/vda', large: '/dev/vdb', thin: '/dev/vdc' } as const;

  for (const disk of ['crypt', 'large'] as const) {
    await guest.ok(await rig.attach(disk, '/dev/nbd0', disk === 'large' ? '-b 4096' : ''));
    await guest.ok('mkfs.ext4 -q /dev/nbd0 && mount /dev/nbd0 /mnt');
    await guest.ok(WRITE_FILES);
    await guest.ok(`nbd-client -d /dev/nbd0 && mv /tmp/sums /tmp/sums-${disk}`);
  }
  for (const disk of ['crypt', 'large', 'thin'] as const) {
    const file = join(stack.dir, `${disk}.key`);
    await stack.ok('disk', 'export-key', disk, '--file', file, '--confirm', disk);
    await send(guest, file, `/tmp/${disk}.key`);
    await stack.admin.detachDisk(disk);
  }
  await guest.ok('echo 3 > /proc/sys/vm/drop_caches'); // what was read of the stores at boot

  await t.test('the key of another disk is refused', async (t) => {
    const { status, output } = await guest.run(open('/tmp/large.key', '/dev/vda', 'wrong'));
    t.not(status, 0);
    t.match(output, /Volume key does not match the volume/);
  });

  await t.test('a disk that was not made for dm-crypt is refused, with its own key', async (t) => {
    const { status, output } = await guest.run(open('/tmp/thin.key', '/dev/vdc', 'thin'));
    t.not(status, 0);
    t.match(output, /Unmet LUKS2 requirements detected/);
  });

  for (const disk of ['crypt', 'large'] as const) {
    const sectors = disk === 'large' ? 4096 : 512;
    await t.test(`sectors of ${sectors}: the files are those written over NBD`, async (t) => {
      await guest.ok(open(`/tmp/${disk}.key`, devices[disk], disk));
      await guest.ok(`mount /dev/mapper/${disk} /mnt`);
      const { status, output } = await guest.run(`cd ${FOLDER} && md5sum -c -s /tmp/sums-${disk}`);
      t.equal(status, 0, output);
      t.equal((await guest.ok(`wc -l < /tmp/sums-${disk}`)).trim(), '10');
    });

    await t.test(`sectors of ${sectors}: what dm-crypt writes is there over NBD`, async (t) => {
      await guest.ok(`
        echo written by dm-crypt > /mnt/answer && umount /mnt
        DM_DISABLE_UDEV=1 cryptsetup close ${disk}
        blockdev --flushbufs ${devices[disk]}
      `);
      await stack.admin.attachDisk(disk);
      await guest.ok(await rig.attach(disk, '/dev/nbd1'));
      await guest.ok('e2fsck -fn /dev/nbd1 && mount -o ro /dev/nbd1 /mnt');
      t.equal(await guest.ok('cat /mnt/answer'), 'written by dm-crypt\n');
      await guest.ok('umount /mnt && nbd-client -d /dev/nbd1');
    });
  }
});

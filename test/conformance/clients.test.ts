// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { t as file, test } from 'tap';
import { MIB, Rig, temporaryDirectory } from '../dataplane/rig.js';
import { NbdClient } from '../support/nbd-client.js';
import { endProcess, eventually, run, runOk } from '../support/process.js';

/* Clients that others wrote, each at what it is strict about. */

const rig = await Rig.start(file);
const place = rig.listen() as { path: string };
const uriOf = (name: string): string => `nbd+unix:///${name}?socket=${place.path}`;
const SIZE = 8 * MIB;

async function disk(name: string, sectorSizeBytes: 512 | 4096 = 512): Promise<string> {
  await rig.serve(name, { sizeBytes: SIZE, sectorSizeBytes });
  return uriOf(name);
}

/** A file of data, a hole, and data. */
async function image(t: Test): Promise<string> {
  const path = join(await temporaryDirectory(t), 'image');
  await writeFile(path, Buffer.concat([randomBytes(MIB), Buffer.alloc(MIB), randomBytes(MIB)]));
  await truncate(path, SIZE);
  return path;
}

interface MapEntry {
  readonly offset: number;
  readonly length: number;
  readonly type: number;
}

for (const sectorSize of [512, 4096] as const) {
  void test(`nbdinfo --map shows data and holes, sectors of ${sectorSize}`, async (t) => {
    const uri = await disk(`map-${sectorSize}`, sectorSize);
    await runOk('qemu-io', ['-f', 'raw', uri, '-c', 'write 1M 64k', '-c', 'write 3M 1M']);
    const map = JSON.parse(await runOk('nbdinfo', ['--map', '--json', uri])) as MapEntry[];
    t.strictSame(
      map.map(({ offset, length, type }) => [offset, length, type]),
      [
        [0, MIB, 3],
        [MIB, 65_536, 0],
        [MIB + 65_536, 2 * MIB - 65_536, 3],
        [3 * MIB, MIB, 0],
        [4 * MIB, 4 * MIB, 3],
      ],
    );
  });
}

void test('nbdcopy with four connections brings back what it wrote', async (t) => {
  const uri = await disk('copy');
  const source = await image(t);
  const back = `${source}.back`;
  await runOk('nbdcopy', ['-C', '4', '-R', '16', '--flush', source, uri]);
  await runOk('nbdcopy', ['-C', '4', '-R', '16', uri, back]);
  t.ok((await readFile(source)).equals(await readFile(back)));
});

/** Each line of output is one errno's name, or `ok`. */
const REFUSALS = `
import errno
h.set_strict_mode(0)
def attempt(call):
    try:
        call()
        print('ok')
    except nbd.Error as error:
        print(error.errno)
size = h.get_size()
attempt(lambda: h.pread(1, size))
attempt(lambda: h.pwrite(b'x', size))
attempt(lambda: h.zero(2, size - 1))
attempt(lambda: h.trim(2, size - 1))
attempt(lambda: h.pread(3, 1))
attempt(lambda: h.pwrite(b'xyz', 511))
attempt(lambda: h.pread(512, 0, 0x4000))
attempt(lambda: h.pwrite(b'x' * 512, 0, nbd.CMD_FLAG_DF))
attempt(lambda: h.zero(512, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA))
attempt(lambda: h.flush())
`;

void test('nbdsh without its own checks gets the errors of the protocol', async (t) => {
  const uri = await disk('strict');
  const output = await runOk('nbdsh', ['-u', uri, '-c', REFUSALS], {
    env: { PATH: '/usr/bin:/bin' }, // the distribution's Python has libnbd's module
  });
  t.strictSame(output.trim().split('\n'), [
    'EINVAL',
    'ENOSPC',
    'ENOSPC',
    'EINVAL',
    'ok',
    'ok',
    'EINVAL',
    'EINVAL',
    'ok',
    'ok',
  ]);
});

void test('qemu-img converts to a disk, compares with it and maps it', async (t) => {
  const uri = await disk('qemu');
  const source = await image(t);
  await runOk('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, uri]);
  const same = await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', source, uri]);
  t.match(same.stdout, 'identical');
  const map = JSON.parse(await runOk('qemu-img', ['map', '-f', 'raw', '--output=json', uri])) as {
    start: number;
    length: number;
    zero: boolean;
  }[];
  const isZero = (offset: number): boolean | undefined =>
    map.find(({ start, length }) => offset >= start && offset < start + length)?.zero;
  t.strictSame([0, MIB, 2 * MIB, 3 * MIB].map(isZero), [false, true, false, true]);
});

void test('qemu-io writes, discards and zeroes at odd offsets', async (t) => {
  const uri = await disk('io');
  const commands = [
    'write -P 0xaa 1 70000',
    'write -z -u 3000 5000',
    'write -z 20001 333',
    'discard 65536 65536',
    'flush',
    'read -P 0xaa 1 2999',
    'read -P 0 3000 5000',
    'read -P 0xaa 8000 12001',
    'read -P 0 20001 333',
    'read -P 0xaa 20334 45000',
  ];
  const args = commands.flatMap((command) => ['-c', command]);
  const output = await runOk('qemu-io', ['-f', 'raw', '-d', 'unmap', uri, ...args]);
  t.notMatch(output, /failed|error/i);
});

/** nbdkit as our client and another client's server. */
async function proxy(t: Test, uri: string, filters: string[], options: string[]): Promise<string> {
  const path = join(await temporaryDirectory(t), 'proxy.sock');
  const args = filters.map((filter) => `--filter=${filter}`);
  const server = spawn(
    'nbdkit',
    ['--foreground', '--unix', path, ...args, 'nbd', `uri=${uri}`, ...options],
    { stdio: 'ignore' },
  );
  t.teardown(() => endProcess(server, 'SIGKILL'));
  await eventually('nbdkit listens', async () => {
    try {
      (await NbdClient.connect({ path })).destroy();
      return true;
    } catch {
      return false;
    }
  });
  return `nbd+unix:///?socket=${path}`;
}

void test('nbdkit checkwrite: a disk holds what was written to it, hole for hole', async (t) => {
  const uri = await disk('checkwrite');
  const source = await image(t);
  await runOk('nbdcopy', ['--flush', source, uri]);
  const checked = await proxy(t, uri, ['checkwrite'], []);
  await t.resolves(runOk('nbdcopy', [source, checked]));
});

void test('nbdkit checkwrite: another content is noticed', async (t) => {
  const uri = await disk('checkwrite-other');
  const checked = await proxy(t, uri, ['checkwrite'], []);
  t.not((await run('nbdcopy', [await image(t), checked])).status, 0);
});

void test('nbdkit blocksize-policy: the advertised sizes serve a strict client', async (t) => {
  const uri = await disk('policy', 4096);
  const strict = await proxy(t, uri, ['blocksize-policy'], ['blocksize-error-policy=error']);
  const source = await image(t);
  await runOk('nbdcopy', [source, strict]);
  await runOk('nbdcopy', [strict, `${source}.back`]);
  t.ok((await readFile(source)).equals(await readFile(`${source}.back`)));
});

void test('nbdkit delay, error and retry over our server lose nothing', async (t) => {
  const uri = await disk('faults');
  const faulty = await proxy(
    t,
    uri,
    ['retry-request', 'error', 'delay'],
    ['error-rate=5%', 'rdelay=1ms', 'retry-request-delay=1', 'retry-request-retries=50'],
  );
  const source = await image(t);
  await runOk('nbdcopy', [source, faulty]);
  await runOk('nbdcopy', [uri, `${source}.back`]);
  t.ok((await readFile(source)).equals(await readFile(`${source}.back`)));
});

/** In a mount namespace of its own, so that nothing stays mounted whatever happens. */
const FILESYSTEM = `
set -e
mkdir fuse mounted
nbdfuse fuse/disk "$1" & client=$!
end() {
  umount mounted 2>/dev/null
  [ -n "$loop" ] && losetup -d "$loop"
  umount -l fuse
  wait $client
}
trap end EXIT
for _ in $(seq 200); do [ -e fuse/disk ] && break; sleep 0.05; done
loop=$(losetup --find --show fuse/disk)
mkfs.ext4 -q "$loop"
mount "$loop" mounted
head -c 1000000 /dev/zero | tr '\\0' 'k' > mounted/file
sync
umount mounted
e2fsck -fn "$loop"
mount "$loop" mounted
md5sum < mounted/file
`;

void test('nbdfuse, a loop device and ext4: a file comes back after a remount', async (t) => {
  const uri = await disk('filesystem');
  const cwd = await temporaryDirectory(t);
  const { status, stdout, stderr } = await run(
    'unshare',
    ['--mount', '--propagation', 'private', 'bash', '-c', FILESYSTEM, 'bash', uri],
    { cwd, timeoutMs: 100_000 },
  );
  t.equal(status, 0, stderr);
  t.match(stdout, 'e231a53bc5c4dfef52b34d0edc7d9756', 'MD5 of a million letters k');
});

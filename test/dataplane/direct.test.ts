// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, readlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { eventually, runOk } from '../support/process.js';
import { MIB, Rig } from './rig.js';

const O_DIRECT = 0o40000;

/** Flags of this process's descriptor on `path`, which must be open. */
async function openFlags(path: string): Promise<number> {
  for (const fd of await readdir('/proc/self/fd')) {
    if ((await readlink(`/proc/self/fd/${fd}`).catch(() => '')) !== path) continue;
    const info = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8');
    return Number.parseInt(/^flags:\s+(\d+)$/m.exec(info)?.[1] ?? '', 8);
  }
  throw new Error(`${path} is not open`);
}

/** Loop devices need root and a kernel that has them; in CI both are there, or the tests fail. */
const skip =
  process.env['CI'] !== undefined || (process.getuid?.() === 0 && existsSync('/dev/loop-control'))
    ? false
    : 'needs root and loop devices';

/** A block device on a new file of `sizeBytes`. */
async function loopDevice(
  t: Test,
  dir: string,
  options: { sizeBytes: number; sectorBytes: number },
): Promise<string> {
  const path = join(dir, 'loop.img');
  await writeFile(path, '');
  await truncate(path, options.sizeBytes);
  const sector = String(options.sectorBytes);
  const shown = await runOk('losetup', ['--find', '--show', '--sector-size', sector, path]);
  const device = shown.trim();
  t.teardown(() => runOk('losetup', ['--detach', device]));
  return device;
}

void test('a block device is direct without being asked', { skip }, async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const storePath = await loopDevice(t, rig.dir, { sizeBytes: 4 * MIB, sectorBytes: 512 });
  const { events, disk } = await rig.serve('d', { storePath });
  const client = await rig.client(rig.listen(), 'd');
  const data = randomBytes(9000);
  t.equal((await client.write(1000, data)).errno, 0);
  t.ok((await client.read(1000, 9000)).data.equals(data));
  t.equal((await openFlags(storePath)) & O_DIRECT, O_DIRECT);
  t.same(
    events.filter(({ kind }) => kind === 'store-buffered'),
    [],
  );
  client.destroy();
  await disk.goOffline();
  await disk.disconnectClients();
  await disk.close();
});

void test('a block device of larger sectors is buffered, with a notice', { skip }, async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const storePath = await loopDevice(t, rig.dir, { sizeBytes: 4 * MIB, sectorBytes: 4096 });
  const { events, disk } = await rig.serve('d', { storePath, sectorSizeBytes: 512 });
  await eventually('the notice', () => events.some(({ kind }) => kind === 'store-buffered'));
  t.match(
    events.find(({ kind }) => kind === 'store-buffered'),
    { message: /sector size is 512, expected a multiple of the store's alignment, 4096 bytes/ },
  );
  t.equal((await openFlags(storePath)) & O_DIRECT, 0);
  const client = await rig.client(rig.listen(), 'd');
  const data = randomBytes(512);
  t.equal((await client.write(512, data)).errno, 0);
  t.ok((await client.read(512, 512)).data.equals(data));
  client.destroy();
  await disk.goOffline();
  await disk.disconnectClients();
  await disk.close();
});

void test('the same device is refused to a disk that must be direct', { skip }, async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const storePath = await loopDevice(t, rig.dir, { sizeBytes: 4 * MIB, sectorBytes: 4096 });
  const spec = { ...(await rig.spec('d')), storePath, direct: true };
  await t.rejects(
    rig.plane.openDisk(spec, () => undefined),
    { code: 'ERR_STORE_DIRECT', message: /sector size is 512, .* 4096 bytes/ },
  );
  t.throws(() => rig.plane.checkDirect(spec), { code: 'ERR_STORE_DIRECT' });
  t.doesNotThrow(() => rig.plane.checkDirect({ ...spec, sectorSizeBytes: 4096 }));
});

void test('a store that is not there cannot be checked either', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const spec = { ...(await rig.spec('d')), storePath: join(rig.dir, 'missing') };
  t.throws(() => rig.plane.checkDirect(spec), {
    code: 'ERR_STORE_OPEN',
    fields: { errno: 'ENOENT' },
  });
});

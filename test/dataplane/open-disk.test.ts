// SPDX-License-Identifier: Apache-2.0
import { mkdir, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import type { DiskSpec } from '../../src/disks/ports.js';
import { NbdClient } from '../support/nbd-client.js';
import { outputOf } from './child.js';
import { custody, MIB, Rig } from './rig.js';

const ignore = (): void => undefined;

/** A rig with a good spec, of which a test spoils one part. */
async function prepared(t: Parameters<typeof Rig.start>[0]) {
  const rig = await Rig.start(t, { shards: 1 });
  const spec = await rig.spec('d');
  const open = (change: Partial<DiskSpec>) => rig.plane.openDisk({ ...spec, ...change }, ignore);
  return { rig, spec, open };
}

void test('a store that does not exist is refused with path and errno', async (t) => {
  const { rig, open } = await prepared(t);
  const storePath = join(rig.dir, 'missing');
  await t.rejects(open({ storePath }), {
    code: 'ERR_STORE_OPEN',
    message: new RegExp(`opening store ${storePath} of disk d: `),
    fields: { errno: 'ENOENT' },
  });
});

for (const readOnly of [false, true]) {
  void test(`a directory as ${readOnly ? 'read-only ' : ''}store is refused`, async (t) => {
    const { rig, open } = await prepared(t);
    const storePath = join(rig.dir, 'directory');
    await mkdir(storePath);
    await t.rejects(open({ storePath, readOnly }), { code: 'ERR_STORE_OPEN' });
  });
}

void test('a character device as store is refused', async (t) => {
  const { open } = await prepared(t);
  await t.rejects(open({ storePath: '/dev/zero' }), {
    code: 'ERR_STORE_OPEN',
    message: /neither a regular file nor a block device/,
  });
});

void test('a store that another disk has open is refused', async (t) => {
  const { open } = await prepared(t);
  await open({});
  await t.rejects(open({ name: 'other' }), {
    code: 'ERR_STORE_OPEN',
    message: /served by another process or disk already/,
  });
});

void test('a store that another disk has open is refused to readers too', async (t) => {
  const { open } = await prepared(t);
  await open({});
  await t.rejects(open({ name: 'other', readOnly: true }), { code: 'ERR_STORE_OPEN' });
});

void test('a store that another process has open is refused', async (t) => {
  const { spec, open } = await prepared(t);
  await open({});
  const output = await outputOf(`
    const store = ${JSON.stringify(spec.storePath)};
    console.log(thrownBy(() => createPlane().openDisk(diskOptions(store), addon.createLease())));
  `);
  t.match(output, /served by another process or disk already/);
});

void test('two read-only disks share a store', async (t) => {
  const { open } = await prepared(t);
  await open({ readOnly: true });
  await t.resolves(open({ name: 'other', readOnly: true }));
});

void test('a store shorter than its disk is refused with both sizes', async (t) => {
  const { spec, open } = await prepared(t);
  await truncate(spec.storePath, 3 * MIB);
  await t.rejects(open({ dataOffsetBytes: 8192 }), {
    code: 'ERR_STORE_SIZE',
    message: new RegExp(`it has ${3 * MIB} bytes, the disk needs ${4 * MIB + 8192}`),
  });
});

void test('a store one byte short is refused', async (t) => {
  const { spec, open } = await prepared(t);
  await truncate(spec.storePath, 4 * MIB - 1);
  await t.rejects(open({}), { code: 'ERR_STORE_SIZE' });
});

void test('a store that was refused opens once it is mended', async (t) => {
  const { spec, open } = await prepared(t);
  await truncate(spec.storePath, MIB);
  await t.rejects(open({}), { code: 'ERR_STORE_SIZE' });
  await truncate(spec.storePath, 4 * MIB);
  await t.resolves(open({}));
});

for (const [what, change] of [
  ['a size that is no multiple of the sector', { sizeBytes: MIB + 100 }],
  ['a size of nothing', { sizeBytes: 0 }],
  ['a data offset within a sector', { sizeBytes: MIB, dataOffsetBytes: 100 }],
] as const) {
  void test(`${what} is refused and leaves the store free`, async (t) => {
    const { open } = await prepared(t);
    await t.rejects(open(change), { code: 'ERR_STORE_OPEN', message: /do not fit together/ });
    await t.resolves(open({}));
  });
}

void test('a disk whose opening failed is not known', async (t) => {
  const { rig, open } = await prepared(t);
  await t.rejects(open({ storePath: join(rig.dir, 'missing') }));
  t.equal(rig.plane.disk('d'), undefined);
});

void test('a lease of another custody is refused', async (t) => {
  const { open } = await prepared(t);
  const lease = { ...custody.createLease(), renew: ignore, end: ignore, deadlineBootMs: () => 9e9 };
  await t.rejects(open({ lease }), { code: 'ERR_NATIVE_INVALID', message: /another custody/ });
});

void test('a read-only disk refuses writes', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  await rig.serve('d', { readOnly: true });
  const client = await rig.client(rig.listen(), 'd');
  t.equal((await client.write(0, Buffer.alloc(512))).errno, 1);
  client.destroy();
});

void test('closing a disk with clients is refused with their number', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk } = await rig.serve('d', { locked: true });
  const client = await rig.client(rig.listen(), 'd');
  await t.rejects(disk.close(), { code: 'ERR_DISK_STATE', message: /1 connections, 0/ });
  client.destroy();
});

void test('closing a disk that serves is refused and it serves on', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk } = await rig.serve('d');
  await t.rejects(disk.close(), { code: 'ERR_DISK_STATE' });
  const client = await rig.client(rig.listen(), 'd');
  t.equal((await client.read(0, 512)).errno, 0);
  client.destroy();
});

void test('a closed disk can be opened again', async (t) => {
  const { rig, open } = await prepared(t);
  const disk = await open({});
  await disk.close();
  t.equal(rig.plane.disk('d'), undefined);
  await t.resolves(open({}));
});

void test('a closed disk refuses every call', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk, unlock } = await rig.serve('d', { locked: true });
  await disk.close();
  t.throws(unlock, { code: 'ERR_NATIVE_CLOSED' });
  await t.rejects(disk.suspend(), { code: 'ERR_NATIVE_CLOSED' });
  await t.rejects(disk.goOffline(), { code: 'ERR_NATIVE_CLOSED' });
  await t.rejects(disk.disconnectClients(), { code: 'ERR_NATIVE_CLOSED' });
  await t.rejects(disk.close(), { code: 'ERR_NATIVE_CLOSED' });
});

void test('GO to a disk that was closed meanwhile ends the connection', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const { disk } = await rig.serve('d', { locked: true });
  await disk.close();
  const client = await NbdClient.handshake(rig.listen());
  await client.go('d').catch(ignore);
  t.equal((await client.stream.readToEnd()).length, 0);
  client.destroy();
});

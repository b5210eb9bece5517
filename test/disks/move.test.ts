// SPDX-License-Identifier: Apache-2.0
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { DiskRecord } from '../../src/disks/record.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

const OTHER = 'https://other.example/keys/o/v1';

async function withSets(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.withDisk();
  world.platform = new FakePlatformKey();
  t.teardown(() => world.destroy());
  await world.createSet({ name: 'other', keyUrl: OTHER, ...options });
  return world;
}

function recordPath(world: World): string {
  return join(world.stateDir, 'disks', 'd.json');
}

async function recordOf(world: World): Promise<DiskRecord> {
  return JSON.parse(await readFile(recordPath(world), 'utf8')) as DiskRecord;
}

void test('a disk moves to another set online, with its DEK and its clients', async (t) => {
  const world = await withSets(t);
  const disk = world.planeDisk();
  const { dek } = disk;
  disk.connect();
  await world.during(world.disks.move('d', 'other'));
  t.equal(world.state(), 'online');
  t.equal(world.planeDisk(), disk);
  t.ok(disk.dek?.equals(dek ?? Buffer.of()));
  t.equal(disk.connected.size, 1);
  t.equal(world.disks.view('d').set, 'other');
});

void test('a moved disk follows the verdicts of its new set', async (t) => {
  const world = await withSets(t);
  await world.during(world.disks.move('d', 'other'));
  world.vault.behave(OTHER, DISABLED);
  await world.pass(12_000);
  t.equal(world.state(), 'offline(key-disabled)');
});

void test('a moved disk no longer follows those of the old one', async (t) => {
  const world = await withSets(t);
  await world.during(world.disks.move('d', 'other'));
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(12_000);
  t.equal(world.state(), 'online');
  t.ok(world.planeDisk().dek);
});

void test('a moved disk loses its key with the lease of its new set', async (t) => {
  const world = await withSets(t, { leaseMs: 60_000 });
  await world.during(world.disks.move('d', 'other'));
  world.vault.behave(OTHER, SILENT);
  await world.pass(61_000);
  t.equal(world.state(), 'suspended');
  t.equal(world.planeDisk().dek, undefined);
});

void test('a moved disk resumes with the DEK as it is sealed now', async (t) => {
  const world = await withSets(t, { leaseMs: 60_000 });
  await world.during(world.disks.move('d', 'other'));
  const dek = Buffer.from(world.planeDisk().dek ?? []);
  world.vault.behave(OTHER, SILENT);
  await world.pass(61_000);
  world.vault.behave(OTHER, { kind: 'proof' });
  await world.pass(20_000);
  t.equal(world.state(), 'online');
  t.ok(world.planeDisk().dek?.equals(dek));
});

void test('a moved disk attaches after a restart with the old set gone', async (t) => {
  const world = await withSets(t);
  await world.during(world.disks.move('d', 'other'));
  await world.sets.delete('s');
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(1000);
  t.equal(reborn.state(), 'online');
});

void test('a detached disk moves too', async (t) => {
  const world = await withSets(t);
  await world.during(world.disks.detach('d'));
  await world.during(world.disks.move('d', 'other'));
  await world.during(world.disks.attach('d'));
  t.equal(world.state(), 'online');
});

void test('a move is refused while the old set is denied, and nothing has changed', async (t) => {
  const world = await withSets(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  await t.rejects(world.during(world.disks.move('d', 'other')), { code: 'ERR_SET_DENIED' });
  t.match(await recordOf(world), { set: { name: 's' }, movingTo: null });
});

void test('a move is refused while the new set is denied, and nothing has changed', async (t) => {
  const world = await withSets(t);
  world.vault.behave(OTHER, DISABLED);
  await world.during(world.sets.check('other'));
  await t.rejects(world.during(world.disks.move('d', 'other')), { code: 'ERR_SET_DENIED' });
  t.equal(world.state(), 'online');
  t.match(await recordOf(world), { set: { name: 's' }, movingTo: null });
});

void test('a move to a set that does not exist is refused', async (t) => {
  const world = await withSets(t);
  await t.rejects(world.disks.move('d', 'none'), { code: 'ERR_SET_NOT_FOUND' });
});

void test('a disk cannot move to a set with another number of layers', async (t) => {
  const world = await withSets(t, { double: true });
  await t.rejects(world.during(world.disks.move('d', 'other')), {
    code: 'ERR_DISK_LAYERS',
    message: /encrypts double, expected single/,
  });
});

void test('moving to the set that it is in changes nothing', async (t) => {
  const world = await withSets(t);
  await world.during(world.disks.move('d', 's'));
  t.strictSame(world.events('moved'), []);
});

void test('a crash before the header: the disk is in the old set', async (t) => {
  const world = await withSets(t);
  const record = await recordOf(world);
  const movingTo = world.sets.get('other').ref;
  const reborn = await rebornWith(t, world, { ...record, movingTo });
  t.match(reborn.disks.view('d'), { set: 's', state: 'online' });
  t.equal((await recordOf(reborn)).movingTo, null);
});

void test('a crash between header and record: the disk is in the new set', async (t) => {
  const world = await withSets(t);
  const record = await recordOf(world);
  await world.during(world.disks.move('d', 'other'));
  const movingTo = world.sets.get('other').ref;
  const reborn = await rebornWith(t, world, { ...record, movingTo });
  t.match(reborn.disks.view('d'), { set: 'other', state: 'online' });
  t.match(await recordOf(reborn), { set: { name: 'other' }, movingTo: null });
});

async function rebornWith(t: Test, world: World, record: DiskRecord): Promise<World> {
  const reborn = await world.reborn({ crash: true, load: false });
  t.teardown(() => reborn.destroy());
  await writeFile(recordPath(world), JSON.stringify(record));
  await reborn.load();
  await reborn.pass(1000);
  return reborn;
}

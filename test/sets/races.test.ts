// SPDX-License-Identifier: Apache-2.0
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { DiskRecord } from '../../src/disks/record.js';
import type { SetRecord } from '../../src/sets/record.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, PROOF, SILENT } from '../support/fake-vault.js';
import { World } from '../support/world.js';

/*
 * Two things at once that meet in a set's record, a disk's header, or a lease.
 */

const URL = 'https://vault.example/keys/k';
const V1 = `${URL}/v1`;
const V2 = `${URL}/v2`;
const OTHER_URL = 'https://other.example/keys/o';
const OTHER = `${OTHER_URL}/v1`;

async function withDisk(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  t.teardown(() => world.destroy());
  await world.createSet({ keyUrl: URL, leaseMs: 60_000, ...options });
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  return world;
}

async function withOther(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await withDisk(t);
  await world.createSet({ name: 'other', keyUrl: OTHER_URL, leaseMs: 60_000, ...options });
  return world;
}

/** A set on the platform key with a disk that is online. */
async function onPlatform(t: Test): Promise<World> {
  const world = await withDisk(t);
  await world.during(world.sets.assign('s', 'platform'));
  return world;
}

async function readJson<T>(world: World, ...path: string[]): Promise<T> {
  return JSON.parse(await readFile(join(world.stateDir, ...path), 'utf8')) as T;
}

async function headerKids(world: World, disk = 'd'): Promise<readonly string[] | null | undefined> {
  const reports = await world.disks.ofSets.headers(world.sets.get(world.disks.view(disk).set).id);
  return reports.find((report) => report.disk === disk)?.kids;
}

function setKids(world: World, set = 's'): string[] {
  return world.sets.get(set).record.keys.map(({ kid }) => kid);
}

void test('a purge waits for an assignment, and judges by what came of it', async (t) => {
  const world = await onPlatform(t);
  world.vault.latencyMs = 300;
  const assigned = world.sets.assign('s', { url: OTHER, slot: 1 });
  await world.clock.settle();
  await t.rejects(world.during(world.sets.purge('s', 's')), { code: 'ERR_SET_NOT_DENIED' });
  await world.during(assigned);
  t.match(await readJson<SetRecord>(world, 'sets', 's.json'), {
    keys: [{ kid: OTHER }],
    purge: null,
  });
  t.equal(world.state(), 'online');
});

void test('a rotation that a purge has overtaken brings no key back', async (t) => {
  const world = await onPlatform(t);
  const purged = world.sets.purge('s', 's');
  const assigned = world.sets.assign('s', { url: OTHER, slot: 1 });
  await t.rejects(world.during(assigned), { code: 'ERR_SET_PURGED' });
  await world.during(purged);
  t.strictSame((await readJson<SetRecord>(world, 'sets', 's.json')).keys, []);
});

void test('a set that is deleted during a rotation stays deleted', async (t) => {
  const world = await World.create();
  await world.createSet({ keyUrl: URL });
  world.vault.rotate(URL, 'v2');
  world.vault.latencyMs = 300;
  const rotated = world.sets.rotate('s').catch(() => undefined);
  await world.clock.settle();
  await world.during(world.sets.delete('s'));
  await world.during(rotated);
  world.vault.probes.length = 0;
  await world.pass(60_000);
  t.equal(world.vault.probes.length, 0, 'nothing is probed any more');
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  t.strictSame(reborn.sets.list(), []);
});

void test('a disk that is made during a rotation names a version that the set keeps', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(
    Promise.all([
      world.disks.create({ name: 'e', set: 's', sizeBytes: 1 << 20 }),
      world.sets.rotate('s'),
    ]),
  );
  t.strictSame(await headerKids(world, 'e'), setKids(world));
});

void test('a disk that is made during a purge is erased, or not made', async (t) => {
  const world = await onPlatform(t);
  const made = world.disks.create({ name: 'e', set: 's', sizeBytes: 1 << 20 });
  const [creation] = await world.during(Promise.allSettled([made, world.sets.purge('s', 's')]));
  if (creation.status === 'fulfilled') t.equal(world.state('e'), 'offline(erased)');
  else t.match(creation.reason, { code: 'ERR_SET_PURGED' });
});

void test('a rotation writes nothing into the header of a disk that moved away', async (t) => {
  const world = await withOther(t);
  world.vault.rotate(URL, 'v2');
  await world.during(Promise.all([world.disks.move('d', 'other'), world.sets.rotate('s')]));
  t.strictSame(await headerKids(world), [OTHER]);
});

void test('a move that fails leaves the disk to its old set', async (t) => {
  const world = await withOther(t);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(1000);
  reborn.vault.behave(OTHER, SILENT);
  await t.rejects(reborn.during(reborn.disks.move('d', 'other')));
  t.match(await readJson<DiskRecord>(reborn, 'disks', 'd.json'), {
    set: { name: 's' },
    movingTo: null,
  });
  reborn.vault.behave(OTHER, PROOF);
  reborn.vault.rotate(OTHER_URL, 'v2');
  await reborn.during(reborn.sets.rotate('other'));
  t.strictSame(await headerKids(reborn), [V1]);
});

void test('a purge erases no disk that was only about to move into the set', async (t) => {
  const world = await withOther(t);
  const record = await readJson<DiskRecord>(world, 'disks', 'd.json');
  const movingTo = world.sets.get('other').ref;
  const store = join(world.stateDir, 'stores', 'd.img');
  const reborn = await world.reborn({ crash: true, load: false });
  t.teardown(() => reborn.destroy());
  await writeFile(
    join(world.stateDir, 'disks', 'd.json'),
    JSON.stringify({ ...record, movingTo, store: { ...record.store, path: `${store}.not` } }),
  );
  await reborn.load();
  await writeFile(`${store}.not`, await readFile(store));
  reborn.vault.behave(OTHER, DISABLED);
  await reborn.during(reborn.sets.purge('other', 'other'));
  t.strictSame(await headerKids(reborn), [V1]);
});

void test('an interrupted move is settled when the store is back', async (t) => {
  const world = await withOther(t);
  const record = await readJson<DiskRecord>(world, 'disks', 'd.json');
  await world.during(world.disks.move('d', 'other'));
  const movingTo = world.sets.get('other').ref;
  const store = join(world.stateDir, 'stores', 'd.img');
  const reborn = await world.reborn({ crash: true, load: false });
  t.teardown(() => reborn.destroy());
  await writeFile(
    join(world.stateDir, 'disks', 'd.json'),
    JSON.stringify({ ...record, movingTo, store: { ...record.store, path: `${store}.not` } }),
  );
  await reborn.load();
  await writeFile(`${store}.not`, await readFile(store));
  await reborn.pass(1000);
  await reborn.during(reborn.disks.attach('d'));
  t.match(reborn.disks.view('d'), { set: 'other', state: 'online' });
});

void test('a set is not deleted while a disk moves into it', async (t) => {
  const world = await withOther(t);
  await world.during(
    Promise.allSettled([world.disks.move('d', 'other'), world.sets.delete('other')]),
  );
  const { set } = world.disks.view('d');
  t.doesNotThrow(() => world.sets.get(set));
  await world.during(world.disks.restart('d'));
  t.equal(world.state(), 'online');
});

void test('a disk whose new set is denied during the move goes offline', async (t) => {
  const world = await withOther(t);
  const { custody } = world;
  const reseal = custody.resealDek.bind(custody);
  custody.resealDek = (request) => {
    world.vault.behave(OTHER, DISABLED);
    world.sets.check('other').catch(() => undefined);
    void world.clock.advance(10);
    return reseal(request);
  };
  const disk = world.planeDisk();
  await world.during(world.disks.move('d', 'other')).catch(() => undefined);
  await world.rest();
  if (world.disks.view('d').set === 'other') {
    t.equal(world.state(), 'offline(key-disabled)');
    t.equal(disk.dek, undefined);
  } else {
    t.equal(world.state(), 'online');
  }
});

void test('an erased disk does not keep a rotation from its end', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.detach('d'));
  await world.during(world.disks.erase('d', 'd'));
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.match(world.sets.get('s').record, { spreading: false, keys: [{ kid: V2 }] });
});

void test('a purge that a crash interrupted grants nothing before it goes on', async (t) => {
  const world = await withDisk(t);
  const record = await readJson<SetRecord>(world, 'sets', 's.json');
  const reborn = await world.reborn({ crash: true, load: false });
  t.teardown(() => reborn.destroy());
  const purge = { startedAt: record.createdAt, finishedAt: null, kids: [], availabilityKey: false };
  await writeFile(join(world.stateDir, 'sets', 's.json'), JSON.stringify({ ...record, purge }));
  await reborn.load();
  await reborn.pass(2000);
  t.strictSame(reborn.setEvents('granted'), []);
  t.equal(reborn.state(), 'offline(erased)');
});

void test('a purge that fails in the middle grants nothing, and goes on by itself', async (t) => {
  const world = await withDisk(t);
  const obstacle = join(world.stateDir, 'sets', 's.json.shred');
  await mkdir(obstacle);
  world.vault.behave(V1, DISABLED);
  await t.rejects(world.during(world.sets.purge('s', 's')));
  world.vault.behave(V1, PROOF);
  await world.pass(30_000);
  t.not(world.sets.get('s').access.kind, 'granted');
  await rmdir(obstacle);
  await world.pass(61_000);
  t.equal(world.state(), 'offline(erased)');
});

void test('a version that came back into use is not safe to disable', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await world.createSet({ keyUrl: URL });
  for (const version of ['v2', 'v1']) {
    world.vault.rotate(URL, version);
    await world.during(world.sets.rotate('s'));
  }
  const { keys, retired } = await world.sets.show('s');
  t.match(keys, [{ id: V1 }]);
  t.strictSame(
    retired.map(({ id }) => id),
    [V2],
  );
});

void test('immediate mode, told to a denied set in restart mode, takes the keys away', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  world.vault.behave(V1, DISABLED);
  await world.during(world.sets.check('s'));
  t.equal(world.state(), 'online revoked');
  const disk = world.planeDisk();
  await world.during(world.sets.update('s', { mode: 'immediate' }));
  t.equal(disk.dek, undefined);
  t.equal(world.state(), 'offline(key-disabled)');
});

void test('immediate mode, told to a lapsed set in restart mode, suspends its disks', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  world.vault.behave(V1, SILENT);
  await world.pass(90_000);
  t.equal(world.state(), 'online');
  await world.during(world.sets.update('s', { mode: 'immediate' }));
  t.equal(world.planeDisk().dek, undefined);
  t.equal(world.state(), 'suspended');
  world.vault.behave(V1, PROOF);
  await world.pass(20_000);
  t.equal(world.state(), 'online');
});

void test('from the platform key to a key that falls silent no DEK outlives the lease', async (t) => {
  const world = await onPlatform(t);
  world.vault.behave(OTHER, PROOF, PROOF, SILENT);
  await world.during(world.sets.assign('s', { url: OTHER, slot: 1 }));
  await world.rest();
  t.equal(world.planeDisk().dek, undefined);
  t.equal(world.state(), 'suspended');
  world.vault.behave(OTHER, PROOF);
  await world.pass(20_000);
  t.equal(world.state(), 'online');
});

void test('disks that are suspended go on when their set is put on the platform key', async (t) => {
  const world = await withDisk(t);
  world.vault.behave(V1, SILENT);
  await world.pass(90_000);
  t.equal(world.state(), 'suspended');
  world.vault.behave(V1, PROOF);
  await world.during(world.sets.assign('s', 'platform'));
  await world.rest();
  t.equal(world.state(), 'online');
  t.strictSame(world.events('open-failed'), []);
});

void test('another interval starts no second probe beside the one in flight', async (t) => {
  const world = await withDisk(t);
  world.vault.latencyMs = 700;
  const checked = world.sets.check('s');
  await world.clock.advance(100);
  await world.during(world.sets.update('s', { probeIntervalMs: 5000 }));
  await world.during(checked);
  t.equal(world.vault.probesInFlightMax, 1);
});

// SPDX-License-Identifier: Apache-2.0
import { readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { SetRecord } from '../../src/sets/record.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, PROOF, SILENT } from '../support/fake-vault.js';
import { World } from '../support/world.js';

/** Without a version: it follows rotation. */
const URL = 'https://vault.example/keys/k';
const V1 = `${URL}/v1`;
const V2 = `${URL}/v2`;
const OTHER = 'https://other.example/keys/k2/w1';

async function withDisk(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.withDisk({ keyUrl: URL, ...options });
  t.teardown(() => world.destroy());
  return world;
}

async function recordOf(world: World): Promise<SetRecord> {
  const text = await readFile(join(world.stateDir, 'sets', 's.json'), 'utf8');
  return JSON.parse(text) as SetRecord;
}

async function headerKids(world: World): Promise<readonly string[] | null> {
  const [report] = await world.disks.ofSets.headers(world.sets.get('s').id);
  return report?.kids ?? null;
}

function kids(world: World): string[] {
  return world.sets.get('s').record.keys.map(({ kid, role }) => `${role} ${kid}`);
}

void test('a newer version is noticed within a rotation interval', async (t) => {
  const world = await withDisk(t, { rotationIntervalMs: 60_000 });
  world.vault.rotate(URL, 'v2');
  await world.pass(61_000);
  t.strictSame(kids(world), [`current ${V2}`]);
});

void test('a newer version is taken at once by a command', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.strictSame(kids(world), [`current ${V2}`]);
});

void test('the header of every disk names the new version, and only that', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.strictSame(await headerKids(world), [V2]);
});

void test('a rewrap keeps the disk online, its DEK and its clients', async (t) => {
  const world = await withDisk(t);
  const disk = world.planeDisk();
  const { dek } = disk;
  disk.connect();
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.equal(world.state(), 'online');
  t.equal(world.planeDisk(), disk);
  t.ok(disk.dek?.equals(dek ?? Buffer.of()));
  t.equal(disk.connected.size, 1);
});

void test('a rewrapped disk attaches after a restart, with the old version gone', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  world.vault.behave(V1, DISABLED);
  const reborn = await world.reborn();
  await reborn.pass(1000);
  t.equal(reborn.state(), 'online');
  await reborn.during(reborn.disks.close());
  reborn.sets.close();
});

void test('the new wrapped key is unwrapped by the vault before anything is written', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  world.custody.wrapOther = true;
  await t.rejects(world.during(world.sets.rotate('s')), { code: 'ERR_SET_KEY_VERIFY' });
  t.strictSame(kids(world), [`current ${V1}`]);
  t.strictSame(await headerKids(world), [V1]);
});

void test('a new version whose canary is denied is not taken', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  world.vault.behave(V2, PROOF, DISABLED);
  await t.rejects(world.during(world.sets.rotate('s')), { code: 'ERR_SET_PROBE' });
  t.strictSame(kids(world), [`current ${V1}`]);
});

void test('a failing rotation is shown with code, time and attempts', async (t) => {
  const world = await withDisk(t, { rotationIntervalMs: 60_000 });
  world.vault.rotate(URL, 'v2');
  world.vault.behave(V2, SILENT);
  await world.pass(70_000);
  t.match(world.sets.view('s').rotationTrouble, {
    code: 'ERR_KEY_UNWRAP_NO_ANSWER',
    attempts: Number,
    since: String,
  });
});

void test('a failing rotation is tried again sooner than the interval', async (t) => {
  const world = await withDisk(t, { rotationIntervalMs: 3_600_000 });
  world.vault.rotate(URL, 'v2');
  world.vault.behave(V2, SILENT);
  await t.rejects(world.during(world.sets.rotate('s')));
  world.vault.behave(V2, PROOF);
  await world.pass(3_600_000);
  const { attempts } = world.sets.view('s').rotationTrouble ?? { attempts: 0 };
  t.equal(attempts, 0);
  t.strictSame(kids(world), [`current ${V2}`]);
});

void test('a failing rotation leaves the disk online', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  world.vault.behave(V2, DISABLED);
  await t.rejects(world.during(world.sets.rotate('s')));
  t.equal(world.state(), 'online');
});

void test('while the vault denies the key nothing is looked for', async (t) => {
  const world = await withDisk(t, { rotationIntervalMs: 60_000 });
  world.vault.behave(V1, DISABLED);
  await world.during(world.sets.check('s'));
  world.vault.rotate(URL, 'v2');
  await world.pass(300_000);
  t.strictSame(kids(world), [`current ${V1}`]);
  t.equal(world.sets.view('s').rotationTrouble, null);
});

void test('a header that cannot be written keeps the old version in the record', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.detach('d'));
  await rm(join(world.stateDir, 'stores', 'd.img'));
  world.vault.rotate(URL, 'v2');
  await t.rejects(world.during(world.sets.rotate('s')), { code: 'ERR_SET_SPREAD' });
  t.strictSame(kids(world), [`current ${V2}`, `retiring ${V1}`]);
});

void test('a disk that cannot be read makes no version safe to disable', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  await world.during(world.disks.detach('d'));
  await rm(join(world.stateDir, 'stores', 'd.img'));
  const view = await world.sets.show('s');
  t.match(view.retired, [{ id: V1, safeToDisable: false }]);
  t.match(view.unreadable, [{ disk: 'd' }]);
});

void test('a rewrap that a crash interrupted goes on soon after the first proof', async (t) => {
  const world = await withDisk(t);
  const store = join(world.stateDir, 'stores', 'd.img');
  world.vault.rotate(URL, 'v2');
  await rename(store, `${store}.away`);
  await world.during(world.sets.rotate('s')).catch(() => undefined);
  await rename(`${store}.away`, store);
  const reborn = await world.reborn({ crash: true });
  t.teardown(() => reborn.destroy());
  await reborn.pass(20_000);
  t.strictSame(kids(reborn), [`current ${V2}`]);
});

void test('an interrupted rewrap does not go on before the disks are known', async (t) => {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  await world.createSet({ keyUrl: URL });
  await world.createDisk();
  const store = join(world.stateDir, 'stores', 'd.img');
  await rename(store, `${store}.away`);
  await world.during(world.sets.assign('s', 'platform')).catch(() => undefined);
  await rename(`${store}.away`, store);
  const reborn = await world.reborn({ crash: true, load: false });
  t.teardown(() => reborn.destroy());
  await reborn.sets.load();
  await reborn.pass(1000); // reading the records of many disks takes its time
  t.equal(reborn.sets.get('s').record.spreading, true);
  await reborn.disks.load();
  reborn.sets.resume();
  await reborn.pass(1000);
  t.strictSame(await headerKids(reborn), [`platform:${world.platform.id}`]);
});

void test('a disk that was erased does not hold up a rewrap', async (t) => {
  const world = await withDisk(t);
  await world.createDisk({ name: 'e' });
  await world.during(world.disks.erase('e', 'e'));
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.strictSame(kids(world), [`current ${V2}`]);
  t.equal(world.sets.view('s').rotationTrouble, null);
});

void test('the old version is safe to disable when no header names it', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  const view = await world.sets.show('s');
  t.match(view.retired, [{ id: V1, dependents: [], safeToDisable: true }]);
});

void test('the version in use is never safe to disable', async (t) => {
  const world = await withDisk(t);
  const view = await world.sets.show('s');
  t.match(view.keys, [{ id: V1, dependents: ['d'], safeToDisable: false }]);
});

void test('both versions are probed while a header depends on the old one', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.detach('d'));
  await rm(join(world.stateDir, 'stores', 'd.img'));
  world.vault.rotate(URL, 'v2');
  await t.rejects(world.during(world.sets.rotate('s')));
  world.vault.probes.length = 0;
  await world.pass(11_000);
  t.strictSame([...new Set(world.vault.probes.map(({ kid }) => kid))].sort(), [V1, V2]);
});

void test('the old version is probed no more once none depends on it', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  world.vault.probes.length = 0;
  await world.pass(30_000);
  t.strictSame([...new Set(world.vault.probes.map(({ kid }) => kid))], [V2]);
});

void test('a set on a versioned URL stays on its version', async (t) => {
  const world = await withDisk(t, { keyUrl: V1 });
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.strictSame(kids(world), [`current ${V1}`]);
});

void test('assign-key puts the set on another key, and the old one stops counting', async (t) => {
  const world = await withDisk(t);
  await world.during(world.sets.assign('s', { url: OTHER, slot: 1 }));
  world.vault.behave(V1, DISABLED);
  await world.pass(30_000);
  t.strictSame(kids(world), [`current ${OTHER}`]);
  t.strictSame(await headerKids(world), [OTHER]);
  t.equal(world.state(), 'online');
});

void test('assign-key is refused while the only key is denied', async (t) => {
  const world = await withDisk(t);
  world.vault.behave(V1, DISABLED);
  await world.during(world.sets.check('s'));
  await t.rejects(world.during(world.sets.assign('s', { url: OTHER, slot: 1 })), {
    code: 'ERR_SET_KEY_UNAVAILABLE',
    message: /denied.*no availability key/,
  });
  t.strictSame(kids(world), [`current ${V1}`]);
});

void test('assign-key works over a denied key if a second key can be had', async (t) => {
  const second = 'https://second.example/keys/b/v1';
  const world = await withDisk(t, { key2Url: second });
  world.vault.behave(V1, DISABLED);
  await world.during(world.sets.check('s'));
  t.equal(world.state(), 'offline(key-disabled)');
  await world.during(world.sets.assign('s', { url: OTHER, slot: 1 }));
  await world.pass(1000);
  t.equal(world.state(), 'online');
});

void test('assign-key to the key of the other slot is refused', async (t) => {
  const second = 'https://second.example/keys/b/v1';
  const world = await withDisk(t, { key2Url: second });
  await t.rejects(world.during(world.sets.assign('s', { url: second, slot: 1 })), {
    code: 'ERR_SET_OPTION',
  });
});

void test('the record on disk is what the set uses', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.match(await recordOf(world), { keys: [{ kid: V2, role: 'current' }], spreading: false });
});

void test('a set key that was rewrapped is told with both versions', async (t) => {
  const world = await withDisk(t);
  world.vault.rotate(URL, 'v2');
  await world.during(world.sets.rotate('s'));
  t.match(world.setEvents('rewrapped'), [{ cause: 'rotation', kids: [V2], previous: [V1] }]);
  t.match(world.setEvents('retired'), [{ kids: [V1] }]);
});

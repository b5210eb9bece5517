// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { RecordStore } from '../../src/base/record-store.js';
import { DATA_OFFSET_BYTES } from '../../src/luks2/layout.js';
import type { SetRecord } from '../../src/sets/record.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, PROOF, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

const SECOND = 'https://second.example/keys/b/v1';

async function denied(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  await world.createSet(options);
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  t.teardown(() => world.destroy());
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(20_000);
  return world;
}

function storeOf(world: World): string {
  return join(world.stateDir, 'stores', 'd.img');
}

/** Lets records that look so wait a while before they are written. */
function delaySaving(t: Test, isSlow: (record: Partial<SetRecord>) => boolean): void {
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its object below
  const { save } = RecordStore.prototype;
  RecordStore.prototype.save = async function (record) {
    if (isSlow(record as Partial<SetRecord>)) await delay(50);
    return save.call(this, record);
  };
  t.teardown(() => {
    RecordStore.prototype.save = save;
  });
}

async function head(path: string): Promise<Buffer> {
  return (await readFile(path)).subarray(0, DATA_OFFSET_BYTES);
}

void test('a purge is refused while the customer key gives proof', async (t) => {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  await t.rejects(world.during(world.sets.purge('s', 's')), {
    code: 'ERR_SET_NOT_DENIED',
    message: /expected DENIED of every customer key, got .*: PROOF/,
  });
  t.equal(world.state(), 'online');
});

void test('a purge is refused while one of two keys gives proof', async (t) => {
  const world = await denied(t, { key2Url: SECOND });
  await t.rejects(world.during(world.sets.purge('s', 's')), { code: 'ERR_SET_NOT_DENIED' });
});

void test('a purge is refused while the customer key gives no answer', async (t) => {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  world.vault.behave(KEY_URL, SILENT);
  await t.rejects(world.during(world.sets.purge('s', 's')), { code: 'ERR_SET_NOT_DENIED' });
});

void test('a purge is refused while an older denial stands and the vault is silent', async (t) => {
  const world = await denied(t);
  world.vault.behave(KEY_URL, SILENT);
  await t.rejects(world.during(world.sets.purge('s', 's')), {
    code: 'ERR_SET_NOT_DENIED',
    message: /got .*: NO-ANSWER/,
  });
});

void test('a purge is refused without the name of the set', async (t) => {
  const world = await denied(t);
  await t.rejects(world.sets.purge('s', 'S'), { code: 'ERR_SET_CONFIRMATION' });
  t.equal(world.sets.get('s').record.purge, null);
});

void test('the header and all that lies before the data is zeros afterwards', async (t) => {
  const world = await denied(t);
  await world.during(world.sets.purge('s', 's'));
  const bytes = await head(storeOf(world));
  t.ok(bytes.equals(Buffer.alloc(DATA_OFFSET_BYTES)));
});

void test('the erased range is discarded after it was overwritten', async (t) => {
  const world = await denied(t);
  await world.during(world.sets.purge('s', 's'));
  t.match(world.plane.discarded, [
    { path: storeOf(world), offsetBytes: 0, lengthBytes: DATA_OFFSET_BYTES },
  ]);
});

void test('no wrapped or sealed set key is left in the record, nor beside it', async (t) => {
  const world = await denied(t, { availabilityKey: true });
  const { keys, availability } = world.sets.get('s').record;
  const secrets = [keys[0]?.wrappedSetKey ?? '', availability?.ciphertext ?? ''];
  await world.during(world.sets.purge('s', 's'));
  const directory = join(world.stateDir, 'sets');
  const files = await readdir(directory);
  t.strictSame(files, ['s.json']);
  const text = await readFile(join(directory, 's.json'), 'utf8');
  for (const secret of secrets) t.notMatch(text, secret);
});

void test('the receipt names what was destroyed', async (t) => {
  const world = await denied(t, { availabilityKey: true });
  const receipt = await world.during(world.sets.purge('s', 's'));
  t.match(receipt, {
    kids: [KEY_URL],
    availabilityKey: true,
    erased: ['d'],
    failed: [],
    finishedAt: String,
  });
  t.match(world.setEvents('purged'), [{ receipt }]);
});

void test('the disk says erased, and stays so when the key is enabled again', async (t) => {
  const world = await denied(t);
  await world.during(world.sets.purge('s', 's'));
  world.vault.behave(KEY_URL, PROOF);
  await world.pass(60_000);
  t.equal(world.state(), 'offline(erased)');
  await t.rejects(world.during(world.disks.attach('d')), { code: 'ERR_DISK_UNUSABLE' });
});

void test('a purged set grants nothing, gets no new disk and no new key', async (t) => {
  const world = await denied(t);
  await world.during(world.sets.purge('s', 's'));
  await t.rejects(world.createDisk({ name: 'e' }), { code: 'ERR_SET_PURGED' });
  await t.rejects(world.sets.rotate('s'), { code: 'ERR_SET_PURGED' });
  await t.rejects(world.sets.assign('s', { url: SECOND, slot: 1 }), { code: 'ERR_SET_PURGED' });
});

void test('a revoked disk in restart mode is taken offline first', async (t) => {
  const world = await denied(t, { mode: 'restart' });
  t.equal(world.state(), 'online revoked');
  const disk = world.planeDisk();
  await world.during(world.sets.purge('s', 's'));
  t.equal(disk.dek, undefined);
  t.equal(world.state(), 'offline(erased)');
});

void test('a store that is away is named, and the purge goes on when it is back', async (t) => {
  const world = await denied(t);
  const store = storeOf(world);
  await rename(store, `${store}.away`);
  const receipt = await world.during(world.sets.purge('s', 's'));
  t.match(receipt, { finishedAt: null, failed: [{ disk: 'd', message: /ENOENT/ }] });
  await rename(`${store}.away`, store);
  await world.pass(61_000);
  t.type(world.sets.get('s').record.purge?.finishedAt, 'string');
  t.ok((await head(store)).equals(Buffer.alloc(DATA_OFFSET_BYTES)));
});

void test('a purge that a crash interrupted goes on by itself', async (t) => {
  const world = await denied(t);
  const store = storeOf(world);
  await rename(store, `${store}.away`);
  await world.during(world.sets.purge('s', 's'));
  await rename(`${store}.away`, store);
  const reborn = await world.reborn({ crash: true });
  t.teardown(() => reborn.destroy());
  await reborn.pass(1000);
  t.equal(reborn.state(), 'offline(erased)');
  t.type(reborn.sets.get('s').record.purge?.finishedAt, 'string');
});

void test('an interrupted purge does not go on before the disks are known', async (t) => {
  const world = await denied(t);
  const store = storeOf(world);
  await rename(store, `${store}.away`);
  await world.during(world.sets.purge('s', 's'));
  await rename(`${store}.away`, store);
  const reborn = await world.reborn({ crash: true, load: false });
  t.teardown(() => reborn.destroy());
  await reborn.sets.load();
  await reborn.pass(1000); // reading the records of many disks takes its time
  t.equal(reborn.sets.get('s').record.purge?.finishedAt, null);
  await reborn.disks.load();
  reborn.sets.resume();
  await reborn.pass(1000);
  t.equal(reborn.state(), 'offline(erased)');
});

void test('a denial that is recorded meanwhile does not bring the old record back', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  world.platform = new FakePlatformKey();
  await world.createSet({ availabilityKey: true });
  await world.createDisk();
  delaySaving(t, ({ denied, purge }) => (denied ?? []).length > 0 && purge === null);
  world.vault.behave(KEY_URL, DISABLED); // first seen, confirmed and recorded by the purge itself
  const receipt = await world.during(world.sets.purge('s', 's'));
  await world.pass(1000);
  t.match(receipt, { finishedAt: String, erased: ['d'] });
  const text = await readFile(join(world.stateDir, 'sets', 's.json'), 'utf8');
  const { keys, availability } = JSON.parse(text) as SetRecord;
  t.strictSame([keys, availability], [[], null]);
  t.strictSame(world.sets.get('s').record.keys, []);
});

void test('a set on the platform key needs no denial', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  world.platform = new FakePlatformKey();
  await world.sets.create({ name: 's', identity: 'main', mode: 'immediate' });
  const receipt = await world.during(world.sets.purge('s', 's'));
  t.type(receipt.finishedAt, 'string');
});

void test('erasing one disk leaves the others of its set', async (t) => {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  await world.createDisk({ name: 'e' });
  await world.during(world.disks.attach('e'));
  await world.during(world.disks.detach('d'));
  await world.during(world.disks.erase('d', 'd'));
  t.equal(world.state('d'), 'offline(erased)');
  t.equal(world.state('e'), 'online');
  t.ok((await head(storeOf(world))).equals(Buffer.alloc(DATA_OFFSET_BYTES)));
});

void test('erasing is refused while the disk is online', async (t) => {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  await t.rejects(world.during(world.disks.erase('d', 'd')), { code: 'ERR_DISK_ONLINE' });
  t.equal(world.state(), 'online');
});

void test('erasing is refused without the name of the disk', async (t) => {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  await world.during(world.disks.detach('d'));
  await t.rejects(world.disks.erase('d', 'x'), { code: 'ERR_DISK_CONFIRMATION' });
  t.equal(world.state(), 'offline(detached)');
});

void test('a disk is erased while its key is inaccessible', async (t) => {
  const world = await denied(t);
  await world.during(world.disks.erase('d', 'd'));
  t.equal(world.state(), 'offline(erased)');
});

void test('an erased disk stays erased after a restart', async (t) => {
  const world = await denied(t);
  await world.during(world.disks.erase('d', 'd'));
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  t.equal(reborn.state(), 'offline(erased)');
});

// SPDX-License-Identifier: Apache-2.0
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { LOCAL_PEER } from '../support/fake-plane.js';
import type { CreateDiskOptions } from '../../src/disks/create-disk.js';
import { DISABLED } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

async function withSet(t: Test): Promise<World> {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await world.createSet();
  return world;
}

const OPTIONS: CreateDiskOptions = { name: 'd', set: 's', sizeBytes: 1 << 20 };

function storeOf(world: World, name = 'd'): string {
  return join(world.stateDir, 'stores', `${name}.img`);
}

/** Nothing of a disk that could not be created. */
async function assertNothing(t: Test, world: World): Promise<void> {
  t.strictSame(await readdir(join(world.stateDir, 'disks')), [], 'no record');
  t.strictSame(await readdir(join(world.stateDir, 'stores')).catch(() => []), [], 'no store');
  t.strictSame(world.disks.views(), []);
}

async function create(world: World, options: Partial<CreateDiskOptions>): Promise<unknown> {
  return world.during(world.disks.create({ ...OPTIONS, ...options }));
}

void test('attach and detach are idempotent', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  await world.during(world.disks.attach('d'));
  t.equal(world.state(), 'online');
  await world.during(world.disks.detach('d'));
  await world.during(world.disks.detach('d'));
  t.equal(world.state(), 'offline(detached)');
});

void test('commands on one disk are carried out one after the other', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  const { disks } = world;
  const all = [disks.attach('d'), disks.detach('d'), disks.attach('d'), disks.restart('d')];
  await world.during(Promise.all(all));
  t.equal(world.state(), 'online');
  t.equal(world.plane.open.size, 1);
});

void test('restart of a detached disk is refused', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await t.rejects(world.during(world.disks.restart('d')), { code: 'ERR_DISK_NOT_ATTACHED' });
});

void test('restart closes the store and its connections and reads the header again', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  world.planeDisk().connect();
  await world.during(world.disks.restart('d'));
  t.equal(world.state(), 'online');
  t.equal(world.plane.opened, 2);
  t.equal(world.disks.view('d').clients, 0);
});

void test('a restart that finds its disks as their records say writes no record', async (t) => {
  const before = await World.withDisk();
  const path = join(before.stateDir, 'disks', 'd.json');
  const { ino } = await stat(path); // every write makes a new file
  const world = await before.reborn();
  t.teardown(() => world.destroy());
  await world.pass(1000);
  t.equal(world.disks.view('d').state, 'online');
  t.equal((await stat(path)).ino, ino);
});

void test('a command that changes what a disk is writes its record', async (t) => {
  const before = await World.withDisk();
  t.teardown(() => before.destroy());
  const path = join(before.stateDir, 'disks', 'd.json');
  const { ino } = await stat(path);
  await before.during(before.disks.detach('d'));
  t.not((await stat(path)).ino, ino);
});

void test('any number of disks of a set cost one unwrap when the daemon starts', async (t) => {
  const before = await World.withDisk();
  for (const name of ['e', 'f', 'g']) {
    await before.createDisk({ name });
    await before.during(before.disks.attach(name));
  }
  const unwraps = before.vault.unwraps.length;
  const world = await before.reborn();
  t.teardown(() => world.destroy());
  await world.pass(1000);
  t.same(
    world.disks.views().map(({ state }) => state),
    ['online', 'online', 'online', 'online'],
  );
  t.equal(world.vault.unwraps.length, unwraps + 1);
});

void test('an online disk is not deleted', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  await t.rejects(world.during(world.disks.delete('d', { deleteStore: false })), {
    code: 'ERR_DISK_ONLINE',
    message: 'deleting disk d: it is online, expected offline',
  });
  t.equal(world.state(), 'online');
});

void test('delete keeps the store in the state directory, and nothing takes its place', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.delete('d', { deleteStore: false }));
  t.match(world.events('deleted').at(-1), { disk: { name: 'd' }, storeRemoved: false });
  t.ok((await stat(storeOf(world))).isFile());
  await t.rejects(create(world, {}), { code: 'ERR_STORE_EXISTS' });
  t.ok((await stat(storeOf(world))).size > 0);
});

void test('delete takes the record, and the store if told so', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  await world.during(world.disks.detach('d'));
  await world.during(world.disks.delete('d', { deleteStore: true }));
  await assertNothing(t, world);
  t.match(world.events('deleted').at(-1), { disk: { name: 'd' }, storeRemoved: true });
  t.throws(() => world.disks.view('d'), { code: 'ERR_DISK_NOT_FOUND' });
});

void test('delete keeps a store that the operator named, unless told otherwise', async (t) => {
  const world = await withSet(t);
  const store = join(world.stateDir, 'mine.img');
  await create(world, { store });
  await world.during(world.disks.delete('d', { deleteStore: false }));
  t.ok((await stat(store)).isFile());
  await rm(store);
  await create(world, { store });
  await world.during(world.disks.delete('d', { deleteStore: true }));
  await t.rejects(stat(store), { code: 'ENOENT' });
});

void test('a disk without access to its key, or without its store, can be deleted', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  await world.rest();
  await rm(storeOf(world));
  await world.during(world.disks.delete('d', { deleteStore: true }));
  await assertNothing(t, world);
});

void test('a store that cannot be deleted keeps the disk', async (t) => {
  const world = await withSet(t);
  const store = join(world.stateDir, 'sub', 'mine.img');
  await mkdir(join(world.stateDir, 'sub'));
  await create(world, { store });
  await rm(store);
  await mkdir(store);
  await t.rejects(world.during(world.disks.delete('d', { deleteStore: true })), {
    code: 'ERR_STORE_DELETE',
  });
  t.equal(world.state(), 'offline(never-attached)');
});

void test('a deleted name can be used again', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  const before = world.disks.view('d').uuid;
  await world.during(world.disks.delete('d', { deleteStore: true }));
  await create(world, {});
  t.not(world.disks.view('d').uuid, before);
});

void test('exports: offline is hidden and refused with its reason, unknown is unknown', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  const exports = world.disks.exportsFor(LOCAL_PEER);
  t.strictSame(exports.list(), []);
  t.match(exports.find('d'), { refused: 'offline', text: /never-attached/ });
  t.match(exports.find('nope\u0007'), { refused: 'unknown', text: 'no export "nope\\u0007"' });
  await world.during(world.disks.attach('d'));
  t.match(exports.list(), [{ name: 'd' }]);
  t.match(exports.find('d'), {
    name: 'd',
    sizeBytes: 1 << 20,
    sectorSizeBytes: 512,
    readOnly: false,
  });
});

const OFFLINE = {
  since: '2026-01-01T00:00:00Z',
  keyVersion: null,
  vaultRequestId: null,
  message: null,
};
const damages: Array<[string, (text: string) => string, RegExp]> = [
  ['cut short', (text) => text.slice(0, 50), /JSON/],
  [
    'with a size between sectors',
    (text) => text.replace(/"sizeBytes": \d+/, '"sizeBytes": 1000'),
    /sizeBytes/,
  ],
  [
    'with an unknown reason',
    (text) =>
      text.replace(
        '"offline": null',
        `"offline": ${JSON.stringify({ ...OFFLINE, reason: 'tired' })}`,
      ),
    /offline\.reason/,
  ],
  ['with a relative store', (text) => text.replace(/"path": "\//, '"path": "'), /store\.path/],
];
for (const [what, damage, message] of damages) {
  void test(`a record ${what} breaks that disk alone`, async (t) => {
    const world = await withSet(t);
    await create(world, {});
    await create(world, { name: 'e' });
    const path = join(world.stateDir, 'disks', 'd.json');
    await writeFile(path, damage(await readFile(path, 'utf8')));
    const reborn = await world.reborn();
    t.throws(() => reborn.disks.view('d'), { code: 'ERR_DISK_RECORD', message });
    t.match(reborn.disks.broken(), [{ name: 'd', path }]);
    t.equal(reborn.state('e'), 'offline(never-attached)');
    await t.rejects(reborn.during(reborn.disks.create(OPTIONS)), { code: 'ERR_DISK_EXISTS' });
    await reborn.destroy();
  });
}

void test('a disk whose set cannot be loaded is shown, refused and can be deleted', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  await writeFile(join(world.stateDir, 'sets', 's.json'), 'broken');
  const reborn = await world.reborn();
  t.equal(reborn.state(), 'offline(lease-expired)');
  await t.rejects(reborn.during(reborn.disks.attach('d')), {
    code: 'ERR_DISK_KEY_INACCESSIBLE',
    message: /encryption set of the disk cannot be loaded/,
  });
  await reborn.during(reborn.disks.delete('d', { deleteStore: false }));
  t.strictSame(reborn.disks.views(), []);
  await reborn.destroy();
});

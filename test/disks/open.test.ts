// SPDX-License-Identifier: Apache-2.0
import { mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { KeyholdError } from '../../src/base/errors.js';
import type { CreateDiskOptions } from '../../src/disks/create-disk.js';
import { HEADER_BYTES } from '../../src/luks2/layout.js';
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

async function create(world: World, options: Partial<CreateDiskOptions>): Promise<unknown> {
  return world.during(world.disks.create({ ...OPTIONS, ...options }));
}

async function overwrite(path: string, offset: number, text: string): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.from(text), 0, text.length, offset);
  await file.close();
}

async function damaged(
  t: Test,
  damage: (store: string) => Promise<unknown>,
  options: Partial<CreateDiskOptions> = {},
): Promise<World> {
  const world = await withSet(t);
  await create(world, options);
  await damage(storeOf(world));
  return world;
}

for (const [copy, offset] of [
  ['primary', 100],
  ['secondary', HEADER_BYTES + 100],
] as const) {
  void test(`a damaged ${copy} header is repaired on attach, and told`, async (t) => {
    const world = await damaged(t, (store) => overwrite(store, offset, 'damage'));
    await world.during(world.disks.attach('d'));
    t.equal(world.state(), 'online');
    t.match(world.events('header-damaged'), [{ copy, repaired: true }]);
    await world.during(world.disks.restart('d'));
    t.equal(world.events('header-damaged').length, 1, 'whole again');
  });
}

void test('a damaged header of a read-only disk is told and left as it is', async (t) => {
  const world = await damaged(t, (store) => overwrite(store, 100, 'damage'), { readOnly: true });
  const before = await readFile(storeOf(world));
  await world.during(world.disks.attach('d'));
  t.equal(world.state(), 'online');
  t.match(world.events('header-damaged'), [{ copy: 'primary', repaired: false }]);
  t.ok(before.equals(await readFile(storeOf(world))));
});

void test('with both headers damaged the disk is offline(integrity)', async (t) => {
  const world = await damaged(t, async (store) => {
    await overwrite(store, 100, 'damage');
    await overwrite(store, HEADER_BYTES + 100, 'damage');
  });
  await t.rejects(world.during(world.disks.attach('d')), { code: 'ERR_LUKS2_DAMAGED' });
  t.equal(world.state(), 'offline(integrity)');
  t.equal(world.disks.view('d').attached, false, 'the intent is what it was');
});

void test('a store that is no Keyhold disk is offline(integrity)', async (t) => {
  const world = await damaged(t, (store) => writeFile(store, 'x'.repeat(1 << 20)));
  await t.rejects(world.during(world.disks.attach('d')), { code: 'ERR_LUKS2_NOT_LUKS' });
  t.equal(world.state(), 'offline(integrity)');
});

void test('the store of another disk in its place is refused, naming both uuids', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await create(world, { name: 'e' });
  await writeFile(storeOf(world), await readFile(storeOf(world, 'e')));
  const both = new RegExp(`${world.disks.view('e').uuid}, expected ${world.disks.view('d').uuid}`);
  await t.rejects(world.during(world.disks.attach('d')), {
    code: 'ERR_HEADER_MISMATCH',
    message: both,
  });
  t.equal(world.state(), 'offline(integrity)');
});

void test('a missing store is offline(store-error), and attach tries again', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  const bytes = await readFile(storeOf(world));
  await rm(storeOf(world));
  await t.rejects(world.during(world.disks.attach('d')), {
    code: 'ERR_STORE_READ',
    message: /d\.img: ENOENT/,
  });
  t.equal(world.state(), 'offline(store-error)');
  await writeFile(storeOf(world), bytes);
  await world.during(world.disks.attach('d'));
  t.equal(world.state(), 'online');
});

void test('a store that the data plane cannot open is offline(store-error)', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  world.plane.failOpen = new KeyholdError('ERR_STORE_OPEN', 'no such luck');
  await t.rejects(world.during(world.disks.attach('d')), { code: 'ERR_STORE_OPEN' });
  t.match(world.disks.view('d'), { reason: 'store-error', message: 'no such luck' });
});

void test('a seal that does not open is offline(integrity) and closes the store', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  for (const key of world.custody.liveKeys) key.bytes.fill(7);
  await t.rejects(world.during(world.disks.attach('d')), { code: 'ERR_DEK_UNSEAL' });
  t.equal(world.state(), 'offline(integrity)');
  t.equal(world.plane.open.size, 0);
});

interface Written {
  readonly inode: number;
  readonly record: { readonly attached: boolean; readonly offline: { reason: string } | null };
}

/** The record file of disk d; each write of it is a new inode. */
async function written(world: World): Promise<Written> {
  const path = join(world.stateDir, 'disks', 'd.json');
  const record = JSON.parse(await readFile(path, 'utf8')) as Written['record'];
  return { inode: (await stat(path)).ino, record };
}

/** What the record file holds when the store is about to be opened. */
function seenAtOpen(world: World): { written?: Written } {
  const seen: { written?: Written } = {};
  const openDisk = world.plane.openDisk.bind(world.plane);
  world.plane.openDisk = async (...args) => {
    seen.written = await written(world);
    return openDisk(...args);
  };
  return seen;
}

void test('the intent is on record before the store is opened', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  const seen = seenAtOpen(world);
  await world.during(world.disks.attach('d'));
  t.strictSame(seen.written?.record.attached, true);
});

void test('an attach writes the record once', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  const seen = seenAtOpen(world);
  await world.during(world.disks.attach('d'));
  t.strictSame(await written(world), seen.written);
  t.equal(seen.written?.record.offline, null);
});

void test('an attach that failed leaves the old intent and the reason on record', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  world.plane.failOpen = new KeyholdError('ERR_STORE_OPEN', 'no such luck');
  await t.rejects(world.during(world.disks.attach('d')), { code: 'ERR_STORE_OPEN' });
  const { record } = await written(world);
  t.match(record, { attached: false, offline: { reason: 'store-error' } });
});

void test('a disk whose attach a crash cut short is opened at the next start', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  const seen = seenAtOpen(world);
  await world.during(world.disks.attach('d'));
  await world.during(world.disks.detach('d'));
  const record = JSON.stringify(seen.written?.record);
  await writeFile(join(world.stateDir, 'disks', 'd.json'), record);
  const next = await world.reborn({ crash: true });
  t.teardown(() => next.destroy());
  await next.during(next.sets.check('s'));
  t.equal(next.state(), 'online');
});

void test('an intent that cannot be recorded attaches nothing', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await mkdir(join(world.stateDir, 'disks', 'd.json.tmp'));
  await t.rejects(world.during(world.disks.attach('d')), { code: 'EISDIR' });
  t.equal(world.state(), 'offline(never-attached)');
  t.equal(world.plane.open.size, 0);
});

void test('an intent that cannot be recorded detaches nothing', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  await mkdir(join(world.stateDir, 'disks', 'd.json.tmp'));
  await t.rejects(world.during(world.disks.detach('d')), { code: 'EISDIR' });
  t.equal(world.state(), 'online');
});

void test('a record that cannot be written does not stop a revocation', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  await mkdir(join(world.stateDir, 'disks', 'd.json.tmp'));
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  await world.rest();
  t.equal(world.state(), 'offline(key-disabled)');
  t.equal(world.events('record-error').length, 1);
});

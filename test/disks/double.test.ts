// SPDX-License-Identifier: Apache-2.0
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { CreateDiskOptions } from '../../src/disks/create-disk.js';
import { decodeOuterHeaderPair } from '../../src/luks2/header-pair.js';
import { DATA_OFFSET_BYTES, HEADER_BYTES } from '../../src/luks2/layout.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { runOk } from '../support/process.js';
import { World } from '../support/world.js';

const SIZE_BYTES = 1 << 20;

/** A set whose disks are encrypted twice, on a host with a platform key. */
async function withDoubleSet(t: Test): Promise<World> {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await world.createSet();
  world.platform = new FakePlatformKey();
  Object.assign(world.sets.get('s').record, { double: true });
  return world;
}

async function withDoubleDisk(t: Test, options: Partial<CreateDiskOptions> = {}): Promise<World> {
  const world = await withDoubleSet(t);
  await world.createDisk({ sizeBytes: SIZE_BYTES, ...options });
  return world;
}

function storeOf(world: World): string {
  return join(world.stateDir, 'stores', 'd.img');
}

async function overwrite(world: World, offset: number): Promise<void> {
  const file = await open(storeOf(world), 'r+');
  await file.write(Buffer.from('damage'), 0, 6, offset);
  await file.close();
}

async function attach(world: World): Promise<unknown> {
  return world.during(world.disks.attach('d'));
}

void test('the store has room for two header areas before the data', async (t) => {
  const world = await withDoubleDisk(t);
  t.equal((await stat(storeOf(world))).size, 2 * DATA_OFFSET_BYTES + SIZE_BYTES);
});

void test('data begins after both header areas', async (t) => {
  const world = await withDoubleDisk(t);
  await attach(world);
  t.equal(world.planeDisk().spec.dataOffsetBytes, 2 * DATA_OFFSET_BYTES);
});

for (const sectorSizeBytes of [512, 4096] as const) {
  void test(`with ${sectorSizeBytes}-byte sectors it comes online with two DEKs`, async (t) => {
    const world = await withDoubleDisk(t, { sectorSizeBytes });
    await attach(world);
    t.equal(world.state(), 'online');
    t.equal(world.planeDisk().outerDek?.length, 64);
  });
}

void test('it comes back after a restart of the daemon', async (t) => {
  const world = await withDoubleDisk(t);
  await attach(world);
  const next = await world.reborn();
  await next.pass(1000);
  t.equal(next.state(), 'online');
  t.equal(next.planeDisk().outerDek?.length, 64);
  await next.during(next.disks.close());
  next.sets.close();
});

void test('the outer header names disk and platform key, but no set', async (t) => {
  const world = await withDoubleDisk(t);
  const store = await readFile(storeOf(world));
  const { metadata } = decodeOuterHeaderPair(
    store.subarray(0, HEADER_BYTES),
    store.subarray(HEADER_BYTES, 2 * HEADER_BYTES),
  );
  t.equal(metadata.token.platformKeyId, world.platform?.id);
  t.equal(metadata.token.diskUuid, world.disks.view('d').uuid);
  t.notOk(store.subarray(0, 2 * HEADER_BYTES).includes(world.sets.get('s').id));
});

void test('nothing of the inner header can be read in the store', async (t) => {
  const world = await withDoubleDisk(t);
  const inner = (await readFile(storeOf(world))).subarray(DATA_OFFSET_BYTES);
  t.notOk(inner.includes('LUKS'));
  t.notOk(inner.includes(world.sets.get('s').id));
});

void test('cryptsetup shows the outer container with its token and the hole rule', async (t) => {
  const world = await withDoubleDisk(t, { sectorSizeBytes: 4096 });
  const dump = await runOk('cryptsetup', ['luksDump', storeOf(world)]);
  t.match(dump, /offset: 16777216 \[bytes\]/);
  t.match(dump, /sector: 4096 \[bytes\]/);
  t.match(dump, /0: keyhold/);
  t.match(dump, /Requirements:\s+keyhold-holes/);
  t.match(dump, new RegExp(`UUID:\\s+${world.disks.view('d').uuid}`));
});

for (const [container, offset] of [
  ['outer', 0],
  ['inner', DATA_OFFSET_BYTES],
] as const) {
  for (const [copy, copyOffset] of [
    ['primary', 100],
    ['secondary', HEADER_BYTES + 100],
  ] as const) {
    void test(`a damaged ${copy} copy of the ${container} header is repaired`, async (t) => {
      const world = await withDoubleDisk(t);
      await overwrite(world, offset + copyOffset);
      await attach(world);
      t.equal(world.state(), 'online');
      t.match(world.events('header-damaged'), [{ copy, repaired: true }]);
      await world.during(world.disks.restart('d'));
      t.equal(world.events('header-damaged').length, 1, 'whole again');
    });
  }

  void test(`without any copy of the ${container} header it stays offline`, async (t) => {
    const world = await withDoubleDisk(t);
    await overwrite(world, offset + 100);
    await overwrite(world, offset + HEADER_BYTES + 100);
    await t.rejects(attach(world), { code: 'ERR_LUKS2_DAMAGED' });
    t.match(world.state(), /^offline/);
  });
}

void test('without a platform key no such disk is created, and nothing remains', async (t) => {
  const world = await withDoubleSet(t);
  world.platform = undefined;
  await t.rejects(world.createDisk(), { code: 'ERR_PLATFORM_KEY_MISSING' });
  t.strictSame(await readdir(join(world.stateDir, 'disks')), []);
  t.strictSame(await readdir(join(world.stateDir, 'stores')).catch(() => []), []);
});

void test('without a platform key it does not come online', async (t) => {
  const world = await withDoubleDisk(t);
  world.platform = undefined;
  await t.rejects(attach(world), { code: 'ERR_PLATFORM_KEY_MISSING' });
  t.equal(world.state(), 'offline(store-error)', 'tried again when the daemon starts');
});

void test('another platform key is named, with the one that is needed', async (t) => {
  const world = await withDoubleDisk(t);
  const [needed, other] = [world.platform, new FakePlatformKey()];
  world.platform = other;
  await t.rejects(attach(world), {
    code: 'ERR_PLATFORM_KEY_OTHER',
    fields: { expected: needed?.id, actual: other.id },
  });
});

void test('a platform key that pretends to be the right one opens nothing', async (t) => {
  const world = await withDoubleDisk(t);
  const other = new FakePlatformKey();
  Object.assign(other, { id: world.platform?.id });
  world.platform = other;
  await t.rejects(attach(world), { code: 'ERR_DEK_UNSEAL' });
});

void test('a store with one layer in its place is refused', async (t) => {
  const world = await withDoubleDisk(t);
  Object.assign(world.sets.get('s').record, { double: false });
  await world.createDisk({ name: 'e', sizeBytes: SIZE_BYTES });
  const single = await readFile(join(world.stateDir, 'stores', 'e.img'));
  const file = await open(storeOf(world), 'r+');
  await file.write(single.subarray(0, 2 * HEADER_BYTES), 0, 2 * HEADER_BYTES, 0);
  await file.close();
  await t.rejects(attach(world), { code: 'ERR_LUKS2_LAYER' });
});

void test('a disk of a set without double encryption has one layer', async (t) => {
  const world = await withDoubleSet(t);
  Object.assign(world.sets.get('s').record, { double: false });
  world.platform = undefined;
  await world.createDisk({ sizeBytes: SIZE_BYTES });
  await attach(world);
  t.equal(world.planeDisk().outerDek, undefined);
});

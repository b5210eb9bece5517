// SPDX-License-Identifier: Apache-2.0
import { mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { KeyholdError } from '../../src/base/errors.js';
import type { CreateDiskOptions } from '../../src/disks/create-disk.js';
import { DATA_OFFSET_BYTES, HEADER_BYTES } from '../../src/luks2/layout.js';
import { decodeHeaderPair } from '../../src/luks2/header-pair.js';
import { DISABLED, PROOF } from '../support/fake-vault.js';
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

void test('a new disk shows every field, and has never been attached', async (t) => {
  const world = await withSet(t);
  await create(world, { sectorSizeBytes: 4096, readOnly: true, description: 'the first' });
  t.match(world.disks.view('d'), {
    name: 'd',
    uuid: /^[0-9a-f-]{36}$/,
    state: 'offline',
    reason: 'never-attached',
    revoked: false,
    since: /Z$/,
    sizeBytes: 1 << 20,
    sectorSizeBytes: 4096,
    store: storeOf(world),
    set: 's',
    keyVersion: 'v1',
    vaultRequestId: null,
    clients: 0,
    readOnly: true,
    dmCrypt: false,
    description: 'the first',
    attached: false,
    message: null,
  });
  t.ok((world.disks.view('d').leaseSecondsLeft ?? 0) > 800);
});

void test('the store is sparse, private, and 16 MiB longer than the disk', async (t) => {
  const world = await withSet(t);
  await create(world, { sizeBytes: 1 << 30 });
  const stats = await stat(storeOf(world));
  t.equal(stats.size, DATA_OFFSET_BYTES + (1 << 30));
  t.equal(stats.mode & 0o777, 0o600);
  t.ok(stats.blocks * 512 < 1 << 20, 'thin');
});

void test('the header names disk, set, generations, and carries the wrapped set key', async (t) => {
  const world = await withSet(t);
  await create(world, { dmCrypt: true, sectorSizeBytes: 4096 });
  const bytes = await readFile(storeOf(world));
  const header = decodeHeaderPair(
    bytes.subarray(0, HEADER_BYTES),
    bytes.subarray(HEADER_BYTES, 2 * HEADER_BYTES),
  );
  const { uuid } = world.disks.view('d');
  const set = world.sets.get('s');
  t.match(header, { seqid: 1, repair: 'none' });
  t.match(header.metadata, {
    uuid,
    label: 'd',
    sectorSizeBytes: 4096,
    holes: false,
    token: { diskUuid: uuid, diskName: 'd', set: set.ref, setKeyGeneration: 1, dekGeneration: 1 },
  });
  t.strictSame(header.metadata.token.wrappedSetKeys, set.wrappedKeys);
});

void test('a disk attached without a change unlocks the DEK that was sealed at creation', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await world.during(world.disks.attach('d'));
  t.equal(world.planeDisk().mode, 'serving');
  t.match(world.planeDisk().spec, {
    storePath: storeOf(world),
    dataOffsetBytes: DATA_OFFSET_BYTES,
    holes: true,
    leaseEnforced: true,
  });
});

void test('a disk that must be direct has its store checked before anything is written', async (t) => {
  const world = await withSet(t);
  await create(world, { direct: true, sectorSizeBytes: 4096 });
  t.match(world.plane.directChecked, [
    { storePath: storeOf(world), sectorSizeBytes: 4096, dataOffsetBytes: DATA_OFFSET_BYTES },
  ]);
  await world.during(world.disks.attach('d'));
  t.match(world.planeDisk().spec, { direct: true });
  t.match(world.disks.view('d'), { direct: true });
});

void test('a disk is not direct, nor its store checked, unless asked', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  t.strictSame(world.plane.directChecked, []);
  await world.during(world.disks.attach('d'));
  t.match(world.planeDisk().spec, { direct: false });
});

void test('a store that cannot be direct leaves nothing behind', async (t) => {
  const world = await withSet(t);
  world.plane.failDirect = new KeyholdError('ERR_STORE_DIRECT', 'alignment');
  await t.rejects(create(world, { direct: true }), { code: 'ERR_STORE_DIRECT' });
  await assertNothing(t, world);
});

void test('disks and their intent survive a restart', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await create(world, { name: 'e' });
  await world.during(world.disks.attach('d'));
  const reborn = await world.reborn();
  await reborn.pass(1000);
  t.equal(reborn.state('d'), 'online');
  t.equal(reborn.state('e'), 'offline(never-attached)');
  await reborn.destroy();
});

const badOptions: Array<[string, Partial<CreateDiskOptions>, string, RegExp]> = [
  ['a name with a slash', { name: 'a/b' }, 'ERR_NAME', /"a\/b"/],
  ['a name with a control character', { name: 'a\u0007' }, 'ERR_NAME', /\\u0007/],
  ['a size of zero', { sizeBytes: 0 }, 'ERR_DISK_OPTION', /size is 0, expected 1 to/],
  ['a negative size', { sizeBytes: -512 }, 'ERR_DISK_OPTION', /size is -512/],
  [
    'a size between sectors',
    { sizeBytes: 1000 },
    'ERR_DISK_OPTION',
    /size is 1000, expected a multiple of the sector size 512/,
  ],
  [
    'half a 4096-byte sector',
    { sizeBytes: 2048, sectorSizeBytes: 4096 },
    'ERR_DISK_OPTION',
    /sector size 4096/,
  ],
  ['a size beyond 2^53', { sizeBytes: 2 ** 53 }, 'ERR_DISK_OPTION', /size is/],
  [
    'a sector size of 1024',
    { sectorSizeBytes: 1024 },
    'ERR_DISK_OPTION',
    /sector size is 1024, expected 512 or 4096/,
  ],
  ['a relative store', { store: 'd.img' }, 'ERR_DISK_OPTION', /expected an absolute path/],
  ['a store with a zero byte', { store: '/tmp/a\0b' }, 'ERR_DISK_OPTION', /"\/tmp\/a\\u0000b"/],
  ['an unknown set', { set: 'nope' }, 'ERR_SET_NOT_FOUND', /"nope"/],
  [
    'a store in a missing directory',
    { store: '/nonexistent-dir/d.img' },
    'ERR_STORE_CREATE',
    /ENOENT/,
  ],
  ['a store that is a device', { store: '/dev/null' }, 'ERR_STORE_KIND', /no regular file/],
  ['a store that is a directory', { store: '/tmp' }, 'ERR_STORE_KIND', /no regular file/],
];
for (const [what, options, code, message] of badOptions) {
  void test(`${what} is refused and changes nothing`, async (t) => {
    const world = await withSet(t);
    await t.rejects(create(world, options), { code, message });
    await assertNothing(t, world);
  });
}

void test('a name is taken once', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await t.rejects(create(world, {}), { code: 'ERR_DISK_EXISTS' });
});

void test('two commands cannot create one name at once', async (t) => {
  const world = await withSet(t);
  const both = Promise.allSettled([world.disks.create(OPTIONS), world.disks.create(OPTIONS)]);
  const results = await world.during(both);
  t.strictSame(results.map((result) => result.status).sort(), ['fulfilled', 'rejected']);
});

void test('a store that holds something is refused and untouched', async (t) => {
  const world = await withSet(t);
  const store = join(world.stateDir, 'precious.img');
  await writeFile(store, 'precious');
  await t.rejects(create(world, { store }), {
    code: 'ERR_STORE_EXISTS',
    message: /file of 8 bytes/,
  });
  t.equal(await readFile(store, 'utf8'), 'precious');
  await assertNothing(t, world);
});

void test('a description of 256 bytes in UTF-8 is taken, and survives a restart', async (t) => {
  const world = await withSet(t);
  const description = 'é'.repeat(128);
  await create(world, { description });
  const reborn = await world.reborn();
  t.equal(reborn.disks.view('d').description, description);
  await reborn.destroy();
});

for (const [what, description, says] of [
  ['of 257 bytes', 'x'.repeat(257), /257 bytes in UTF-8, expected at most 256/],
  ['of 129 characters of two bytes', 'é'.repeat(129), /258 bytes in UTF-8/],
  ['with a line feed', 'a\nb', /U\+000a at index 1, expected one line/],
  ['with a zero byte', 'a\0', /U\+0000 at index 1/],
  ['with a terminal escape', '\u001b[31m', /"\\u001b\[31m" has U\+001b at index 0/],
  ['with a control of Latin-1', '\u009b1m', /U\+009b at index 0/],
  ['with a bidirectional override', 'a\u202eb', /U\+202e at index 1/],
  ['with a line separator', 'a\u2028b', /U\+2028 at index 1/],
  ['with half a surrogate pair', 'a\ud800', /U\+d800 at index 1/],
] as const) {
  void test(`a description ${what} is refused`, async (t) => {
    const world = await withSet(t);
    const refused = create(world, { description });
    await t.rejects(refused, { code: 'ERR_DISK_OPTION', message: says });
    await assertNothing(t, world);
  });
}

void test('a store that is a link is refused', async (t) => {
  const world = await withSet(t);
  const store = join(world.stateDir, 'link.img');
  await symlink('/nowhere/else', store);
  await t.rejects(create(world, { store }), { code: 'ERR_STORE_KIND' });
});

void test('the store of another disk is refused', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await t.rejects(create(world, { name: 'e', store: storeOf(world) }), {
    code: 'ERR_STORE_EXISTS',
    message: /that of disk d/,
  });
});

void test('an empty file is taken as store', async (t) => {
  const world = await withSet(t);
  const store = join(world.stateDir, 'empty.img');
  await writeFile(store, '');
  await create(world, { store });
  t.equal((await stat(store)).size, DATA_OFFSET_BYTES + (1 << 20));
});

void test('a full file system leaves nothing, and names path and sizes', async (t) => {
  const world = await withSet(t);
  // A file system that can hold no file of this length answers EFBIG, as a full one answers ENOSPC.
  const sizeBytes = 2 ** 53 - 512 - DATA_OFFSET_BYTES;
  const refused = create(world, { sizeBytes });
  await t.rejects(refused, { code: 'ERR_STORE_NO_SPACE', message: /EFBIG: \d+ bytes .* are free/ });
  await refused.catch((error: unknown) => t.match(String(error), storeOf(world)));
  await assertNothing(t, world);
});

void test('an empty file that was there before a failure is empty again', async (t) => {
  const world = await withSet(t);
  const store = join(world.stateDir, 'empty.img');
  await writeFile(store, '');
  await mkdir(join(world.stateDir, 'disks', 'd.json.tmp'));
  await t.rejects(create(world, { store }), { code: 'EISDIR' });
  t.equal((await stat(store)).size, 0);
});

void test('a record that cannot be written leaves no store', async (t) => {
  const world = await withSet(t);
  await mkdir(join(world.stateDir, 'disks', 'd.json.tmp'));
  await t.rejects(create(world, {}), { code: 'EISDIR' });
  t.strictSame(await readdir(join(world.stateDir, 'stores')), []);
});

void test('without access to the key no disk is created', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  await t.rejects(create(world, {}), { code: 'ERR_SET_DENIED' });
  await assertNothing(t, world);
});

void test('a key that was just enabled serves for a new disk', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  world.vault.behave(KEY_URL, PROOF);
  await create(world, {});
  t.equal(world.state(), 'offline(never-attached)');
});

void test('a crash after the store was made leaves a store that the next create names', async (t) => {
  const world = await withSet(t);
  await create(world, {});
  await rm(join(world.stateDir, 'disks', 'd.json'));
  const reborn = await world.reborn();
  await t.rejects(reborn.during(reborn.disks.create(OPTIONS)), {
    code: 'ERR_STORE_EXISTS',
    message: /d\.img/,
  });
  await reborn.destroy();
});

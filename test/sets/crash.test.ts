// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, PROOF } from '../support/fake-vault.js';
import { DyingFiles } from '../support/dying-files.js';
import { KEY_URL, World } from '../support/world.js';

/*
 * Death at every fsync of an operation, one after the other, until one run has none left: then the
 * daemon starts again on what there is.
 */

const URL = 'https://vault.example/keys/k';
const DISKS = ['d', 'e', 'f'];
/** No operation here has so many; a test that never ends is a fault of the test. */
const SYNCS_MAX = 200;

const files = await DyingFiles.install();

async function populated(options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  await world.createSet({ keyUrl: URL, ...options });
  for (const name of DISKS) {
    await world.createDisk({ name });
    await world.during(world.disks.attach(name));
  }
  return world;
}

/** Runs `operation` with a death at each of its syncs, and `judge` after each rebirth. */
async function atEverySync(
  t: Test,
  steps: {
    prepare: () => Promise<World>;
    operate: (world: World) => Promise<unknown>;
    judge: (reborn: World, at: string) => Promise<void>;
  },
): Promise<void> {
  for (let sync = 1; sync <= SYNCS_MAX; sync += 1) {
    const world = await steps.prepare();
    const deks = DISKS.map((name) => Buffer.from(world.planeDisk(name).dek ?? []));
    files.dieAt(sync);
    await world.during(steps.operate(world)).catch(() => undefined);
    const died = files.dead;
    const reborn = await world.reborn({ crash: true, load: false });
    files.revive();
    await reborn.load();
    await reborn.pass(2000);
    await steps.judge(reborn, `sync ${String(sync)}`);
    for (const [index, name] of DISKS.entries()) {
      const { dek } = reborn.plane.open.get(name) ?? {};
      const before = deks[index] ?? Buffer.of();
      if (dek !== undefined && before.length > 0) t.ok(dek.equals(before), `${name}: the same DEK`);
    }
    await reborn.destroy();
    if (!died) {
      t.ok(sync > 3, `${String(sync - 1)} syncs were cut`);
      return;
    }
  }
  t.fail('the operation syncs without end');
}

function allOnline(t: Test, world: World, at: string): void {
  for (const name of DISKS) t.equal(world.state(name), 'online', `${name} after ${at}`);
}

void test('a rewrap that dies at any sync leaves every disk attachable, and goes on', async (t) => {
  await atEverySync(t, {
    prepare: () => populated(),
    operate: (world) => {
      world.vault.rotate(URL, 'v2');
      return world.sets.rotate('s');
    },
    judge: async (reborn, at) => {
      allOnline(t, reborn, at);
      await reborn.pass(6 * 60_000);
      const { keys, spreading } = reborn.sets.get('s').record;
      t.strictSame(
        keys.map(({ kid }) => kid),
        [`${URL}/v2`],
        `only the new version after ${at}`,
      );
      t.equal(spreading, false);
      const headers = await reborn.disks.ofSets.headers(reborn.sets.get('s').id);
      for (const { disk, kids } of headers) t.strictSame(kids, [`${URL}/v2`], `${disk}, ${at}`);
    },
  });
});

void test('turning customer keys off may die at any sync', async (t) => {
  await atEverySync(t, {
    prepare: () => populated(),
    operate: (world) => world.sets.assign('s', 'platform'),
    judge: (reborn, at) => {
      allOnline(t, reborn, at);
      return Promise.resolve();
    },
  });
});

void test('a move may die at any sync: the disk is in one set or the other', async (t) => {
  await atEverySync(t, {
    prepare: async () => {
      const world = await populated();
      await world.createSet({ name: 'other', keyUrl: 'https://other.example/keys/o/v1' });
      return world;
    },
    operate: (world) => world.disks.move('d', 'other'),
    judge: (reborn, at) => {
      allOnline(t, reborn, at);
      t.match(reborn.disks.view('d').set, /^(s|other)$/);
      return Promise.resolve();
    },
  });
});

void test('a purge may die at any sync: it is not begun, or it is finished', async (t) => {
  await atEverySync(t, {
    prepare: async () => {
      const world = await populated({ keyUrl: KEY_URL, availabilityKey: true });
      world.vault.behave(KEY_URL, DISABLED);
      await world.pass(20_000);
      return world;
    },
    operate: (world) => world.sets.purge('s', 's'),
    judge: async (reborn, at) => {
      reborn.vault.behave(KEY_URL, PROOF);
      await reborn.pass(120_000);
      const { purge, keys } = reborn.sets.get('s').record;
      if (purge === null) {
        allOnline(t, reborn, at);
        return;
      }
      t.type(purge.finishedAt, 'string', `finished after ${at}`);
      t.strictSame(keys, []);
      for (const name of DISKS) t.equal(reborn.state(name), 'offline(erased)', `${name}, ${at}`);
    },
  });
});

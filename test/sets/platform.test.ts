// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

async function onPlatform(t: Test): Promise<World> {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  await world.during(world.sets.create({ name: 's', identity: 'main', mode: 'immediate' }));
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  t.teardown(() => world.destroy());
  return world;
}

async function headerKids(world: World): Promise<readonly string[] | null> {
  const [report] = await world.disks.ofSets.headers(world.sets.get('s').id);
  return report?.kids ?? null;
}

void test('a set on the platform key asks no vault', async (t) => {
  const world = await onPlatform(t);
  await world.pass(3_600_000);
  t.equal(world.state(), 'online');
  t.equal(world.vault.probes.length, 0);
  t.equal(world.vault.unwraps.length, 0);
});

void test('its disks attach after a restart', async (t) => {
  const world = await onPlatform(t);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(1000);
  t.equal(reborn.state(), 'online');
});

void test('its headers name the platform key', async (t) => {
  const world = await onPlatform(t);
  t.strictSame(await headerKids(world), [`platform:${world.platform?.id}`]);
});

void test('without the platform key its disks stay offline, and say why', async (t) => {
  const world = await onPlatform(t);
  world.platform = undefined;
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(1000);
  t.match(reborn.disks.view('d'), { state: 'offline', message: /platform key/ });
});

void test('it cannot be made without a platform key', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await t.rejects(world.sets.create({ name: 's', identity: 'main', mode: 'immediate' }), {
    code: 'ERR_PLATFORM_KEY_MISSING',
  });
});

void test('customer keys are turned off online', async (t) => {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  const platform = new FakePlatformKey();
  world.platform = platform;
  await world.during(world.sets.assign('s', 'platform'));
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(3_600_000);
  t.equal(world.state(), 'online');
  t.strictSame(await headerKids(world), [`platform:${platform.id}`]);
});

void test('customer keys are turned on again online, and revoke again', async (t) => {
  const world = await onPlatform(t);
  await world.during(world.sets.assign('s', { url: KEY_URL, slot: 1 }));
  t.equal(world.state(), 'online');
  t.strictSame(await headerKids(world), [KEY_URL]);
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(12_000);
  t.equal(world.state(), 'offline(key-disabled)');
  t.equal(world.planeDisk().dek, undefined);
});

void test('turned on again, an outage longer than the lease suspends', async (t) => {
  const world = await onPlatform(t);
  await world.during(world.sets.assign('s', { url: KEY_URL, slot: 1 }));
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(17 * 60_000);
  t.equal(world.state(), 'suspended');
});

void test('turning customer keys off is refused while the key is denied', async (t) => {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  world.platform = new FakePlatformKey();
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  await t.rejects(world.during(world.sets.assign('s', 'platform')), {
    code: 'ERR_SET_KEY_UNAVAILABLE',
  });
});

// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, NO_ROLE, PROOF, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

const SECOND = 'https://second.example/keys/b/v1';
const LEASE_MS = 60_000;

async function withKey(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  await world.createSet({ availabilityKey: true, leaseMs: LEASE_MS, ...options });
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  t.teardown(() => world.destroy());
  return world;
}

function grantedBy(world: World): string | null {
  return world.sets.view('s').grantedBy;
}

void test('in an outage longer than the lease the availability key keeps disks online', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(10 * LEASE_MS);
  t.equal(world.state(), 'online');
  t.equal(grantedBy(world), 'availability');
});

void test('no disk is suspended in between, not for a moment', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(10 * LEASE_MS);
  t.strictSame(world.events('suspended'), []);
});

void test('nor with the shortest lease, in front of a vault that takes all the time it has', async (t) => {
  // An answer is waited for four times as long as the interval is.
  const world = await withKey(t, { probeIntervalMs: 500, leaseMs: 2600 });
  world.vault.latencyMs = 10;
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(60_000);
  t.equal(world.state(), 'online');
  t.strictSame(world.events('suspended'), []);
});

void test('it is not used while the lease has time', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(LEASE_MS / 3);
  t.equal(grantedBy(world), 'vault');
});

void test('its use is told once, with an alarm', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(5 * LEASE_MS);
  t.match(world.setEvents('availability'), [{ used: true }]);
  t.equal(world.setEvents('availability').length, 1);
  t.equal(world.sets.view('s').alarm, true);
});

void test('its use ends when the vault answers', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(2 * LEASE_MS);
  world.vault.behave(KEY_URL, PROOF);
  await world.pass(LEASE_MS);
  t.equal(grantedBy(world), 'vault');
  t.match(world.setEvents('availability').at(-1), { used: false });
});

void test('a restarted daemon in an outage has the set key from the host', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(20_000);
  t.equal(reborn.state(), 'online');
  t.equal(reborn.vault.unwraps.length, world.vault.unwraps.length, 'the vault was not asked');
});

for (const denial of [DISABLED, NO_ROLE]) {
  const { code } = denial as { code: string };
  void test(`${code} ends its use at once, before it is confirmed`, async (t) => {
    const world = await withKey(t);
    world.vault.behave(KEY_URL, SILENT);
    await world.pass(2 * LEASE_MS);
    world.vault.behave(KEY_URL, denial, SILENT);
    await world.pass(11_000);
    t.not(grantedBy(world), 'availability');
    t.equal(world.planeDisk().dek, undefined);
  });
}

void test('a denial that stands is not overcome by a later outage', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(20_000);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(5 * LEASE_MS);
  t.equal(world.state(), 'offline(key-disabled)');
});

void test('a denial, then an outage, then a restart: still denied', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(20_000);
  world.vault.behave(KEY_URL, SILENT);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(5 * LEASE_MS);
  t.equal(reborn.state(), 'offline(key-disabled)');
  t.equal(reborn.custody.liveKeys.length, 0);
});

void test('a recorded denial is lifted by the next proof', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(20_000);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  reborn.vault.behave(KEY_URL, PROOF);
  await reborn.pass(20_000);
  t.equal(reborn.state(), 'online');
  t.strictSame(reborn.sets.get('s').record.denied, []);
});

void test('one denied key of two forbids it although the other is silent', async (t) => {
  const world = await withKey(t, { key2Url: SECOND, revokeWhen: 'all' });
  world.vault.behave(KEY_URL, DISABLED);
  world.vault.behave(SECOND, SILENT);
  await world.pass(3 * LEASE_MS);
  t.equal(world.state(), 'suspended');
});

void test('two silent keys permit it', async (t) => {
  const world = await withKey(t, { key2Url: SECOND });
  world.vault.behave(KEY_URL, SILENT);
  world.vault.behave(SECOND, SILENT);
  await world.pass(3 * LEASE_MS);
  t.equal(grantedBy(world), 'availability');
});

void test('another platform key does not open it, and is named', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  world.platform = new FakePlatformKey();
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(20_000);
  await t.rejects(
    reborn.sets.get('s').useSetKey(() => undefined),
    { code: 'ERR_PLATFORM_KEY_OTHER' },
  );
  t.not(reborn.state(), 'online');
});

void test('a set with it cannot be made on a host without platform key', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await t.rejects(world.createSet({ availabilityKey: true }), {
    code: 'ERR_PLATFORM_KEY_MISSING',
  });
  t.strictSame(world.sets.views(), []);
});

void test('a set without it is suspended in the same outage', async (t) => {
  const world = await World.withDisk({ leaseMs: LEASE_MS });
  t.teardown(() => world.destroy());
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(2 * LEASE_MS);
  t.equal(world.state(), 'suspended');
});

void test('assign-key works in an outage by the availability key', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(2 * LEASE_MS);
  await world.during(world.sets.assign('s', { url: SECOND, slot: 1 }));
  await world.pass(1000);
  t.equal(grantedBy(world), 'vault');
});

void test('assign-key over a denial is refused although there is an availability key', async (t) => {
  const world = await withKey(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(20_000);
  await t.rejects(world.during(world.sets.assign('s', { url: SECOND, slot: 1 })), {
    code: 'ERR_SET_KEY_UNAVAILABLE',
    message: /availability key: only while every customer key gives no answer/,
  });
});

// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { PROOF, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

const MINUTE_MS = 60_000;

async function withDisk(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.withDisk(options);
  t.teardown(() => world.destroy());
  return world;
}

for (const [scenario, expected] of [
  ['disable', 'offline(key-disabled)'],
  ['delete', 'offline(key-deleted)'],
] as const) {
  void test(`a drill of ${scenario} takes disks ${expected} within the interval`, async (t) => {
    const world = await withDisk(t);
    world.sets.beginDrill('s', { scenario, durationMs: 10 * MINUTE_MS });
    await world.pass(11_000);
    t.equal(world.state(), expected);
    t.equal(world.planeDisk().dek, undefined);
  });
}

void test('a drill of an outage suspends disks when the lease ends', async (t) => {
  const world = await withDisk(t, { leaseMs: MINUTE_MS });
  world.sets.beginDrill('s', { scenario: 'outage', durationMs: 10 * MINUTE_MS });
  await world.pass(MINUTE_MS + 1000);
  t.equal(world.state(), 'suspended');
});

void test('a drill asks no vault', async (t) => {
  const world = await withDisk(t);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: 10 * MINUTE_MS });
  const calls = world.vault.probes.length;
  await world.pass(MINUTE_MS);
  t.equal(world.vault.probes.length, calls);
});

void test('disks come back when a drill is ended', async (t) => {
  const world = await withDisk(t);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: 10 * MINUTE_MS });
  await world.pass(11_000);
  await world.during(world.sets.endDrill('s'));
  await world.pass(1000);
  t.equal(world.state(), 'online');
});

void test('a drill that nobody ends is over after its time', async (t) => {
  const world = await withDisk(t);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: MINUTE_MS });
  await world.pass(MINUTE_MS + 11_000);
  t.equal(world.state(), 'online');
  t.match(world.setEvents('drill'), [{ on: true }, { on: false }]);
});

void test('a restart ends a drill', async (t) => {
  const world = await withDisk(t);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: 10 * MINUTE_MS });
  await world.pass(11_000);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(11_000);
  t.equal(reborn.state(), 'online');
});

void test('a drill is shown', async (t) => {
  const world = await withDisk(t);
  const view = world.sets.beginDrill('s', { scenario: 'outage', durationMs: MINUTE_MS });
  t.match(view.drill, { scenario: 'outage', endsAt: String });
});

void test('a purge is refused while a drill says denied', async (t) => {
  const world = await withDisk(t);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: 10 * MINUTE_MS });
  await world.pass(11_000);
  await t.rejects(world.during(world.sets.purge('s', 's')), { code: 'ERR_SET_DRILL' });
  t.equal(world.sets.get('s').record.purge, null);
});

void test('what a drill said is no denial for a purge when the vault is silent after it', async (t) => {
  const world = await withDisk(t);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: 10 * MINUTE_MS });
  await world.pass(11_000);
  world.vault.behave(KEY_URL, SILENT);
  await world.during(world.sets.endDrill('s'));
  await t.rejects(world.during(world.sets.purge('s', 's')), { code: 'ERR_SET_NOT_DENIED' });
  t.equal(world.sets.get('s').record.purge, null);
});

void test('a second drill of the set is refused', async (t) => {
  const world = await withDisk(t);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: MINUTE_MS });
  t.throws(() => world.sets.beginDrill('s', { scenario: 'outage', durationMs: 1000 }), {
    code: 'ERR_SET_DRILL',
  });
});

void test('a drill of a key that another set uses is refused, and names that set', async (t) => {
  const world = await withDisk(t);
  await world.createSet({ name: 'neighbour', keyUrl: KEY_URL });
  t.throws(() => world.sets.beginDrill('s', { scenario: 'disable', durationMs: 1000 }), {
    code: 'ERR_SET_DRILL',
    message: /neighbour/,
  });
});

void test('ending a drill that is not on is refused', async (t) => {
  const world = await withDisk(t);
  await t.rejects(world.sets.endDrill('s'), { code: 'ERR_SET_DRILL' });
});

void test('a drill touches no other set', async (t) => {
  const world = await withDisk(t);
  const other = 'https://other.example/keys/o/v1';
  await world.createSet({ name: 'other', keyUrl: other });
  world.vault.behave(other, PROOF);
  world.sets.beginDrill('s', { scenario: 'disable', durationMs: MINUTE_MS });
  await world.pass(30_000);
  t.equal(world.sets.get('other').access.kind, 'granted');
});

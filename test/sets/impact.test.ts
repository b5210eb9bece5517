// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import type { Scenario } from '../../src/sets/impact.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { DISABLED, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

const SECOND = 'https://second.example/keys/b/v1';

async function withDisk(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  await world.createSet(options);
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  t.teardown(() => world.destroy());
  return world;
}

function outcome(world: World, scenario: Scenario): string {
  const [disk] = world.sets.impact('s', { scenario }).disks;
  return `${disk?.outcome} ${disk?.withinSeconds}`;
}

const TABLE: ReadonlyArray<[string, Parameters<World['createSet']>[0], Scenario, string]> = [
  ['a disabled key, immediate mode', {}, 'disable', 'goes-offline 11'],
  ['a deleted key, immediate mode', {}, 'delete', 'goes-offline 11'],
  ['a disabled key, restart mode', { mode: 'restart' }, 'disable', 'revoked 11'],
  ['an outage, immediate mode', {}, 'outage', 'suspends 900'],
  ['an outage, restart mode', { mode: 'restart' }, 'outage', 'serves-on null'],
  ['an outage with an availability key', { availabilityKey: true }, 'outage', 'serves-on null'],
  ['an outage of one of two vaults', { key2Url: SECOND }, 'outage', 'suspends 900'],
  ['both keys disabled', { key2Url: SECOND, revokeWhen: 'all' }, 'disable', 'goes-offline 11'],
];

for (const [name, options, scenario, expected] of TABLE) {
  void test(`${name}: ${expected}`, async (t) => {
    const world = await withDisk(t, options);
    t.equal(outcome(world, scenario), expected);
  });
}

void test('one of two keys disabled, both needed for a revocation: serves on', async (t) => {
  const world = await withDisk(t, {
    keyUrl: 'https://first.example/keys/a/v7',
    key2Url: SECOND,
    revokeWhen: 'all',
  });
  const { disks } = world.sets.impact('s', { scenario: 'disable', keyVersion: 'v7' });
  t.match(disks, [{ outcome: 'serves-on' }]);
});

void test('one of two keys disabled, any suffices: goes offline', async (t) => {
  const world = await withDisk(t, {
    keyUrl: 'https://first.example/keys/a/v7',
    key2Url: SECOND,
  });
  const { disks } = world.sets.impact('s', { scenario: 'disable', keyVersion: 'v7' });
  t.match(disks, [{ outcome: 'goes-offline' }]);
});

void test('connected clients are named', async (t) => {
  const world = await withDisk(t);
  world.planeDisk().connect();
  const [disk] = world.sets.impact('s', { scenario: 'disable' }).disks;
  t.match(disk?.clients, [/uid 1000|uid=1000|1000/]);
});

void test('asking calls no vault and changes nothing', async (t) => {
  const world = await withDisk(t);
  const calls = world.vault.probes.length + world.vault.unwraps.length;
  outcome(world, 'disable');
  outcome(world, 'outage');
  t.equal(world.vault.probes.length + world.vault.unwraps.length, calls);
  t.equal(world.state(), 'online');
});

void test('an unknown key version is refused, with those that there are', async (t) => {
  const world = await withDisk(t);
  t.throws(() => world.sets.impact('s', { scenario: 'disable', keyVersion: 'v9' }), {
    code: 'ERR_SET_OPTION',
    message: /expected one of: v1/,
  });
});

void test('a disk that is offline stays so', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.detach('d'));
  t.equal(outcome(world, 'disable'), 'stays-offline null');
});

for (const [scenario, behaviour, waitMs] of [
  ['disable', DISABLED, 11_000],
  ['outage', SILENT, 901_000],
] as const) {
  void test(`what is foretold of ${scenario} comes true`, async (t) => {
    const world = await withDisk(t);
    const [foretold] = world.sets.impact('s', { scenario }).disks;
    world.vault.behave(KEY_URL, behaviour);
    await world.pass(waitMs);
    const { state } = world.disks.view('d');
    t.equal(state, foretold?.outcome === 'suspends' ? 'suspended' : 'offline');
  });
}

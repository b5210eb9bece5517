// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import type { Behaviour } from '../support/fake-vault.js';
import { PROOF, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

const DAY_MS = 24 * 3_600_000;
const IDENTITY_GONE: Behaviour = { kind: 'identity-denied' };
const FIREWALL: Behaviour = { kind: 'network-denied' };

async function withDisk(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.withDisk(options);
  t.teardown(() => world.destroy());
  return world;
}

const TABLE: ReadonlyArray<[string, Behaviour, Parameters<World['createSet']>[0], string]> = [
  ['lost identity, default', IDENTITY_GONE, {}, 'online'],
  [
    'lost identity, offline',
    IDENTITY_GONE,
    { identityDenied: 'offline' },
    'offline(identity-denied)',
  ],
  ['firewall, default', FIREWALL, {}, 'online'],
  ['firewall, offline', FIREWALL, { networkDenied: 'offline' }, 'offline(access-denied)'],
  ['firewall, identity offline', FIREWALL, { identityDenied: 'offline' }, 'online'],
];

for (const [name, behaviour, options, expected] of TABLE) {
  void test(`${name}: ${expected} after a minute`, async (t) => {
    const world = await withDisk(t, options);
    world.vault.behave(KEY_URL, behaviour);
    await world.pass(60_000);
    t.equal(world.state(), expected);
  });
}

void test('a firewall that passes is no denial even where it counts', async (t) => {
  const world = await withDisk(t, { networkDenied: 'offline' });
  world.vault.behave(KEY_URL, FIREWALL, PROOF);
  await world.pass(60_000);
  t.equal(world.state(), 'online');
});

void test('a firewall runs the lease out where it does not count', async (t) => {
  const world = await withDisk(t, { leaseMs: 60_000 });
  world.vault.behave(KEY_URL, FIREWALL);
  await world.pass(90_000);
  t.equal(world.state(), 'suspended');
});

/** The vault goes on unwrapping; only the date tells. */
async function expiring(t: Test, onExpiry: 'ignore' | 'warn' | 'offline'): Promise<World> {
  const world = await World.create();
  t.teardown(() => world.destroy());
  world.vault.expire(KEY_URL, world.clock.nowMs() + DAY_MS);
  await world.createSet({ onExpiry, probeIntervalMs: 60_000, leaseMs: 3_600_000 });
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  return world;
}

void test('an expired key is ignored on request', async (t) => {
  const world = await expiring(t, 'ignore');
  await world.pass(DAY_MS + 120_000);
  t.equal(world.state(), 'online');
  t.strictSame(world.sets.view('s').warnings, []);
});

void test('an expired key is a warning by default', async (t) => {
  const world = await expiring(t, 'warn');
  await world.pass(DAY_MS + 120_000);
  t.equal(world.state(), 'online');
  t.match(world.sets.view('s').warnings, [/expired at/]);
});

void test('a key near its date is a warning too', async (t) => {
  const world = await expiring(t, 'warn');
  t.match(world.sets.view('s').warnings, [/expires at/]);
});

void test('an expired key takes disks offline where the set says so', async (t) => {
  const world = await expiring(t, 'offline');
  await world.pass(DAY_MS - 120_000);
  t.equal(world.state(), 'online');
  await world.pass(240_000);
  t.equal(world.state(), 'offline(key-expired)');
});

void test('a proof does not bring back what has expired', async (t) => {
  const world = await expiring(t, 'offline');
  await world.pass(DAY_MS + 600_000);
  t.equal(world.state(), 'offline(key-expired)');
});

void test('a key that has expired while the daemon was down is denied at the start', async (t) => {
  const world = await expiring(t, 'offline');
  world.vault.behave(KEY_URL, SILENT);
  const reborn = await world.reborn({ load: false });
  t.teardown(() => reborn.destroy());
  await world.clock.advance(2 * DAY_MS);
  await reborn.load();
  await reborn.pass(1000);
  t.equal(reborn.state(), 'offline(key-expired)');
});

void test('a later date, seen by a look at the key, brings it back', async (t) => {
  const world = await expiring(t, 'offline');
  await world.pass(DAY_MS + 120_000);
  world.vault.expire(KEY_URL, world.clock.nowMs() + DAY_MS);
  for (let minute = 0; minute < 10; minute += 1) await world.pass(60_000);
  t.equal(world.state(), 'online');
});

void test('a policy is changed in place, and believed from then on', async (t) => {
  const world = await withDisk(t);
  world.vault.behave(KEY_URL, FIREWALL);
  await world.pass(60_000);
  t.equal(world.state(), 'online');
  await world.during(world.sets.update('s', { networkDenied: 'offline' }));
  await world.pass(60_000);
  t.equal(world.state(), 'offline(access-denied)');
});

void test('a change that does not fit is refused and changes nothing', async (t) => {
  const world = await withDisk(t);
  await t.rejects(world.sets.update('s', { leaseMs: 5000 }), { code: 'ERR_SET_OPTION' });
  t.equal(world.sets.get('s').record.leaseMs, 15 * 60_000);
});

void test('profiles give figures, and a figure that is given goes before', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await world.createSet({ profile: 'strict' });
  await world.createSet({ name: 'azure', profile: 'azure', leaseMs: 7_200_000 });
  t.match(world.sets.get('s').record, { probeIntervalMs: 5000, leaseMs: 60_000 });
  t.match(world.sets.get('azure').record, { probeIntervalMs: 60_000, leaseMs: 7_200_000 });
});

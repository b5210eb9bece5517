// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { DISABLED, PROOF, SILENT } from '../support/fake-vault.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { KEY_URL, World } from '../support/world.js';

/*
 * docs/KEYS.md section 7: leases and probes run on CLOCK_BOOTTIME, expiry on the wall clock, timers
 * stand still while the machine sleeps.
 */

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const LEASE_MS = 60_000;
const INTERVAL_MS = 10_000;

async function withDisk(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.create();
  world.platform = new FakePlatformKey();
  t.teardown(() => world.destroy());
  await world.createSet({ leaseMs: LEASE_MS, probeIntervalMs: INTERVAL_MS, ...options });
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  return world;
}

for (const [direction, jumpMs] of [
  ['forwards', 10 * DAY_MS],
  ['back', -10 * DAY_MS],
] as const) {
  void test(`a wall clock set ${direction} moves no lease`, async (t) => {
    const world = await withDisk(t);
    const set = world.sets.get('s');
    const [deadlineMs, leftMs] = [set.lease.deadlineBootMs(), set.leaseMsLeft];
    world.clock.setWall(world.clock.nowMs() + jumpMs);
    t.equal(set.lease.deadlineBootMs(), deadlineMs);
    t.equal(set.leaseMsLeft, leftMs);
    t.equal(set.access.kind, 'granted');
    await world.pass(3 * LEASE_MS);
    t.equal(world.state(), 'online');
    t.strictSame(world.events('suspended'), []);
  });

  void test(`a wall clock set ${direction} moves no probe`, async (t) => {
    const world = await withDisk(t);
    world.vault.probes.length = 0;
    await world.pass(INTERVAL_MS / 2);
    world.clock.setWall(world.clock.nowMs() + jumpMs);
    await world.pass(6 * INTERVAL_MS);
    const starts = world.vault.probes.map(({ startedBootMs }) => startedBootMs);
    for (const [index, startMs] of starts.slice(1).entries()) {
      t.equal(startMs - (starts[index] ?? 0), INTERVAL_MS);
    }
    t.ok(starts.length >= 6);
  });

  void test(`with the wall clock set ${direction} silence still ends the lease in time`, async (t) => {
    const world = await withDisk(t);
    world.vault.behave(KEY_URL, SILENT);
    world.clock.setWall(world.clock.nowMs() + jumpMs);
    await world.pass(LEASE_MS - INTERVAL_MS - 1000);
    t.equal(world.state(), 'online');
    await world.pass(INTERVAL_MS + 1000);
    t.equal(world.state(), 'suspended');
    t.equal(world.planeDisk().dek, undefined);
  });

  void test(`with the wall clock set ${direction} a denial still takes effect in time`, async (t) => {
    const world = await withDisk(t);
    world.vault.behave(KEY_URL, DISABLED);
    world.clock.setWall(world.clock.nowMs() + jumpMs);
    await world.pass(INTERVAL_MS + 1000);
    t.equal(world.state(), 'offline(key-disabled)');
  });

  void test(`with the wall clock set ${direction} a suspension has its timeout`, async (t) => {
    const world = await withDisk(t, { suspendTimeoutMs: 120_000 });
    world.vault.behave(KEY_URL, SILENT);
    await world.pass(LEASE_MS);
    t.equal(world.state(), 'suspended');
    world.clock.setWall(world.clock.nowMs() + jumpMs);
    await world.pass(100_000);
    t.equal(world.state(), 'suspended');
    await world.pass(21_000);
    t.equal(world.state(), 'offline(lease-expired)');
  });
}

void test('a key expires by the wall clock, at the first probe after it was set forwards', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  world.vault.expire(KEY_URL, world.clock.nowMs() + DAY_MS);
  await world.createSet({ onExpiry: 'offline' });
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  world.clock.setWall(world.clock.nowMs() + 2 * DAY_MS);
  await world.pass(INTERVAL_MS + 1000);
  t.equal(world.state(), 'offline(key-expired)');
});

void test('an expired key is one no more when the wall clock was wrong', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  const wallMs = world.clock.nowMs();
  world.vault.expire(KEY_URL, wallMs + DAY_MS);
  await world.createSet({ onExpiry: 'offline' });
  await world.createDisk();
  await world.during(world.disks.attach('d'));
  world.clock.setWall(wallMs + 2 * DAY_MS);
  await world.pass(INTERVAL_MS + 1000);
  world.clock.setWall(wallMs + 60_000);
  await world.pass(INTERVAL_MS + 1000);
  t.equal(world.state(), 'online');
});

void test('a sleep longer than the lease ends it before anything is asked', async (t) => {
  const world = await withDisk(t);
  const asked = world.vault.probes.length;
  world.clock.suspend(HOUR_MS);
  t.equal(world.sets.get('s').access.kind, 'lapsed', 'noticed by whoever looks first');
  t.equal(world.vault.probes.length, asked);
});

void test('what wakes up after the lease has no set key', async (t) => {
  const world = await withDisk(t);
  world.clock.suspend(HOUR_MS);
  await t.rejects(
    world.sets.get('s').useSetKey(() => 'used'),
    { code: 'ERR_SET_LAPSED' },
  );
  t.equal(world.custody.liveKeys.length, 0);
});

void test('native code, which looks at the clock itself, leaves no DEK after the sleep', async (t) => {
  const world = await withDisk(t);
  const disk = world.planeDisk();
  world.vault.behave(KEY_URL, SILENT);
  world.clock.suspend(HOUR_MS);
  // What a data-plane thread does with the first request after the resume.
  disk.enforceLease();
  t.equal(disk.dek, undefined);
  await world.rest();
  t.equal(world.state(), 'suspended');
});

void test('a sleep within the lease changes nothing', async (t) => {
  const world = await withDisk(t);
  world.clock.suspend(LEASE_MS / 2);
  t.equal(world.sets.get('s').access.kind, 'granted');
  await world.pass(INTERVAL_MS);
  t.equal(world.state(), 'online');
  t.strictSame(world.events('suspended'), []);
});

void test('the time asleep counts for the lease', async (t) => {
  const world = await withDisk(t);
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(1000);
  const leftMs = world.sets.get('s').leaseMsLeft ?? 0;
  world.clock.suspend(20_000);
  t.equal(world.sets.get('s').leaseMsLeft, leftMs - 20_000);
});

void test('after a sleep longer than the lease the first proof brings the disk back', async (t) => {
  const world = await withDisk(t);
  const dek = Buffer.from(world.planeDisk().dek ?? []);
  world.clock.suspend(HOUR_MS);
  world.planeDisk().enforceLease();
  await world.pass(INTERVAL_MS + 1000);
  t.equal(world.state(), 'online');
  t.ok(world.planeDisk().dek?.equals(dek));
});

void test('a key disabled during the sleep takes the disk offline with the first answers', async (t) => {
  const world = await withDisk(t);
  world.vault.behave(KEY_URL, DISABLED);
  world.clock.suspend(HOUR_MS);
  world.planeDisk().enforceLease();
  await world.pass(INTERVAL_MS + 1000);
  t.equal(world.state(), 'offline(key-disabled)');
});

void test('an answer that slept with the machine proves nothing', async (t) => {
  const world = await withDisk(t);
  world.vault.latencyMs = 500;
  const asked = world.vault.probes.length;
  while (world.vault.probes.length === asked) await world.clock.advance(100);
  world.clock.suspend(2 * LEASE_MS);
  world.vault.behave(KEY_URL, PROOF, SILENT);
  await world.pass(600);
  t.not(world.sets.get('s').access.kind, 'granted');
  t.equal(world.custody.liveKeys.length, 0);
});

void test('in restart mode a disk serves on after the sleep, without a set key', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  world.clock.suspend(HOUR_MS);
  t.equal(world.sets.get('s').access.kind, 'lapsed');
  t.equal(world.custody.liveKeys.length, 0);
  t.ok(world.planeDisk().dek);
});

void test('after a sleep in an outage the availability key waits for an answer that is none', async (t) => {
  const world = await withDisk(t, { availabilityKey: true });
  world.vault.behave(KEY_URL, SILENT);
  world.clock.suspend(HOUR_MS);
  t.equal(world.sets.get('s').access.kind, 'lapsed');
  await world.pass(INTERVAL_MS + 1000);
  t.equal(world.sets.view('s').grantedBy, 'availability');
  t.equal(world.state(), 'online');
});

void test('a set on the platform key sleeps as long as it likes', async (t) => {
  const world = await withDisk(t);
  await world.during(world.sets.assign('s', 'platform'));
  world.clock.suspend(10 * DAY_MS);
  await world.pass(1000);
  t.equal(world.state(), 'online');
  t.strictSame(world.events('suspended'), []);
});

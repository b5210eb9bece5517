// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { LOCAL_PEER } from '../support/fake-plane.js';
import { DELETED, DISABLED, PROOF, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

async function withDisk(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.withDisk(options);
  t.teardown(() => world.destroy());
  return world;
}

async function revoke(world: World): Promise<void> {
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  await world.rest();
}

async function grant(world: World): Promise<void> {
  world.vault.behave(KEY_URL, PROOF);
  await world.during(world.sets.check('s'));
  await world.rest();
}

void test('immediate: a disabled key takes the disk offline within one interval and a second', async (t) => {
  const world = await withDisk(t);
  world.vault.latencyMs = 100;
  await world.pass(30_000);
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(11_000);
  t.equal(world.state(), 'offline(key-disabled)');
  t.match(world.disks.view('d'), { keyVersion: 'v1', vaultRequestId: /^request-/, attached: true });
});

void test('immediate: the receipt says when, why and what', async (t) => {
  const world = await withDisk(t);
  world.planeDisk().connect();
  world.planeDisk().connect();
  await revoke(world);
  const [receipt] = world.events('offline-receipt');
  t.match(receipt, {
    disk: { name: 'd' },
    cause: 'access',
    reason: 'key-disabled',
    keyVersion: 'v1',
    vaultRequestId: /^request-/,
    wipedAfterMs: 0,
    receipt: { connections: 2 },
  });
  t.ok((receipt?.verdictStartedBootMs ?? 0) > 0);
  await world.pass(30_000);
  t.match(world.events('clients-disconnected'), [
    { receiptId: receipt?.receiptId, connections: 2 },
  ]);
  t.equal(world.plane.open.size, 0, 'the store is closed after the linger');
});

void test('immediate: the key is wiped though the store hangs, and the disk is hidden', async (t) => {
  const world = await withDisk(t);
  const disk = world.planeDisk();
  disk.drainMs = 60_000;
  world.vault.behave(KEY_URL, DISABLED);
  await world.pass(11_000);
  t.equal(world.state(), 'offline(key-disabled)');
  t.equal(disk.dek, undefined);
  t.strictSame(world.disks.exportsFor(LOCAL_PEER).list(), []);
});

void test('immediate: a proof heals, with the connections that lived on', async (t) => {
  const world = await withDisk(t);
  world.planeDisk().connect();
  await revoke(world);
  await grant(world);
  t.equal(world.state(), 'online');
  t.equal(world.planeDisk().clients().length, 1);
  t.equal(world.plane.opened, 1, 'the store stayed open');
});

void test('immediate: a client that goes on asking is cut off when it rests', async (t) => {
  const world = await withDisk(t);
  const disk = world.planeDisk();
  disk.connect();
  await revoke(world);
  for (let second = 0; second < 60; second += 1) {
    disk.requests += 1;
    await world.pass(1000);
  }
  t.equal(disk.clients().length, 1, 'not within a request');
  await world.pass(2000);
  t.equal(disk.clients().length, 0);
  t.equal(world.plane.open.size, 0);
});

void test('immediate: a client that never rests is cut off all the same', async (t) => {
  const world = await withDisk(t);
  const disk = world.planeDisk();
  disk.connect();
  await revoke(world);
  for (let second = 0; second < 631; second += 1) {
    disk.requests += 1;
    await world.pass(1000);
  }
  t.equal(disk.clients().length, 0);
});

void test('immediate: a proof after the linger opens the store again', async (t) => {
  const world = await withDisk(t);
  await revoke(world);
  await world.pass(31_000);
  await grant(world);
  t.equal(world.state(), 'online');
  t.equal(world.plane.opened, 2);
});

void test('immediate: silence past the lease suspends, a proof resumes with parked requests', async (t) => {
  const world = await withDisk(t, { leaseMs: 60_000 });
  const disk = world.planeDisk();
  disk.connect();
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(70_000);
  t.equal(world.state(), 'suspended');
  t.equal(disk.dek, undefined);
  t.match(
    world.disks.exportsFor(LOCAL_PEER).list(),
    [{ name: 'd' }],
    'clients may still come and wait',
  );
  disk.parked = 3;
  await grant(world);
  t.equal(world.state(), 'online');
  t.equal(disk.refused, 0, 'no client saw an error');
});

void test('immediate: suspended past the timeout goes offline', async (t) => {
  const world = await withDisk(t, { leaseMs: 60_000, suspendTimeoutMs: 120_000 });
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(70_000);
  t.equal(world.state(), 'suspended');
  await world.pass(120_000);
  t.equal(world.state(), 'offline(lease-expired)');
  t.match(world.disks.view('d').message, /no answer in time/);
  await grant(world);
  t.equal(world.state(), 'online');
});

void test('immediate: a denial of a suspended disk takes it offline', async (t) => {
  const world = await withDisk(t, { leaseMs: 60_000 });
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(70_000);
  await revoke(world);
  t.equal(world.state(), 'offline(key-disabled)');
});

void test('immediate: news of an old wipe does not suspend a disk that was unlocked since', async (t) => {
  const world = await withDisk(t);
  world.planeDisk().tell({ kind: 'lease-ended', keyWipedBootMs: world.clock.bootMs() - 100_000 });
  await world.rest();
  t.equal(world.state(), 'online');
});

void test('immediate: news of a wipe that comes while the disk is being resumed is old by its turn', async (t) => {
  const world = await withDisk(t, { leaseMs: 60_000 });
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(70_000);
  const keyWipedBootMs = world.clock.bootMs();
  world.vault.latencyMs = 1000;
  world.vault.behave(KEY_URL, PROOF);
  await world.during(world.sets.check('s'));
  t.equal(world.state(), 'suspended', 'the key is still being unwrapped');
  world.planeDisk().tell({ kind: 'lease-ended', keyWipedBootMs });
  await world.pass(2000);
  t.equal(world.state(), 'online');
  t.strictSame(world.events('open-failed'), []);
});

void test('a deleted key shows key-deleted', async (t) => {
  const world = await withDisk(t);
  world.vault.behave(KEY_URL, DELETED);
  await world.pass(11_000);
  t.equal(world.state(), 'offline(key-deleted)');
});

void test('a set that holds keeps its disk offline until the operator attaches', async (t) => {
  const world = await withDisk(t, { holdOnHeal: true });
  await revoke(world);
  await grant(world);
  t.equal(world.state(), 'offline(key-disabled)');
  await world.during(world.disks.attach('d'));
  t.equal(world.state(), 'online');
});

void test('a detached disk does not heal, and says so once the key is back', async (t) => {
  const world = await withDisk(t);
  await revoke(world);
  await world.during(world.disks.detach('d'));
  t.equal(world.state(), 'offline(key-disabled)');
  await grant(world);
  t.equal(world.state(), 'offline(detached)');
});

void test('attach probes first, so that a key just enabled is seen', async (t) => {
  const world = await withDisk(t);
  await revoke(world);
  await world.during(world.disks.detach('d'));
  world.vault.behave(KEY_URL, PROOF);
  await world.during(world.disks.attach('d'));
  t.equal(world.state(), 'online');
});

void test('attach while the key is disabled is refused with the reason', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.detach('d'));
  await revoke(world);
  await t.rejects(world.during(world.disks.attach('d')), {
    code: 'ERR_DISK_KEY_INACCESSIBLE',
    message: /attaching disk d: key-disabled: KeyDisabled/,
    fields: { reason: 'key-disabled', keyVersion: 'v1' },
  });
  t.equal(world.state(), 'offline(key-disabled)');
  t.equal(world.disks.view('d').attached, false);
});

void test('restart mode: a disabled key marks the disk revoked and it serves on', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  world.planeDisk().connect();
  await revoke(world);
  t.equal(world.state(), 'online revoked');
  t.ok(world.planeDisk().dek);
  await world.pass(600_000);
  t.equal(world.state(), 'online revoked');
  t.ok(world.planeDisk().dek);
});

void test('restart mode: silence past the lease changes nothing but the alarm', async (t) => {
  const world = await withDisk(t, { mode: 'restart', leaseMs: 60_000 });
  world.vault.behave(KEY_URL, SILENT);
  await world.pass(600_000);
  t.equal(world.state(), 'online');
  t.match(world.sets.view('s'), { access: 'lapsed', alarm: true });
});

void test('restart mode: a revoked disk restarted is refused, and heals', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  world.planeDisk().connect();
  await revoke(world);
  await t.rejects(world.during(world.disks.restart('d')), { code: 'ERR_DISK_KEY_INACCESSIBLE' });
  t.equal(world.state(), 'offline(key-disabled)');
  t.equal(world.plane.open.size, 0, 'a restart does not linger');
  await grant(world);
  t.equal(world.state(), 'online');
});

void test('restart mode: the last client gone for the grace time takes it offline', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  const client = world.planeDisk().connect();
  await revoke(world);
  world.planeDisk().leave(client);
  await world.pass(59_000);
  t.equal(world.state(), 'online revoked');
  await world.pass(2000);
  t.equal(world.state(), 'offline(key-disabled)');
});

void test('restart mode: a client that comes back within the grace time keeps it', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  const client = world.planeDisk().connect();
  await revoke(world);
  world.planeDisk().leave(client);
  await world.pass(30_000);
  world.planeDisk().connect();
  await world.pass(120_000);
  t.equal(world.state(), 'online revoked');
});

void test('restart mode: a proof lifts the mark', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  world.planeDisk().connect();
  await revoke(world);
  await grant(world);
  t.equal(world.state(), 'online');
});

void test('restart mode: after a restart of the daemon the disk is refused until the key is back', async (t) => {
  const world = await withDisk(t, { mode: 'restart' });
  world.planeDisk().connect();
  await revoke(world);
  const reborn = await world.reborn();
  await reborn.pass(1000);
  t.equal(reborn.state(), 'offline(key-disabled)');
  await grant(reborn);
  t.equal(reborn.state(), 'online');
  await reborn.destroy();
});

void test('a restart of the daemon brings attached disks back with the first proof', async (t) => {
  const world = await withDisk(t);
  world.vault.latencyMs = 1000;
  const reborn = await world.reborn();
  t.match(reborn.disks.view('d'), { reason: 'lease-expired', message: /waiting for the vault/ });
  await reborn.pass(1100);
  await reborn.pass(1100);
  t.equal(reborn.state(), 'online');
  await reborn.destroy();
});

void test('after kill -9 attached disks come back too', async (t) => {
  const world = await withDisk(t);
  const reborn = await world.reborn({ crash: true });
  await reborn.pass(1000);
  t.equal(reborn.state(), 'online');
  await reborn.destroy();
});

void test('a detached disk stays detached over a restart', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.detach('d'));
  const reborn = await world.reborn();
  await reborn.pass(1000);
  t.equal(reborn.state(), 'offline(detached)');
  await reborn.destroy();
});

void test('a silent vault at the start keeps disks offline, and they come when it speaks', async (t) => {
  const world = await withDisk(t, { holdOnHeal: true });
  world.vault.behave(KEY_URL, SILENT);
  const reborn = await world.reborn();
  await reborn.pass(60_000);
  t.equal(reborn.state(), 'offline(lease-expired)');
  await grant(reborn);
  t.equal(reborn.state(), 'online', 'a hold is about denials, not about starting');
  await reborn.destroy();
});

void test('reasons survive a restart with key version, request id and time first seen', async (t) => {
  const world = await withDisk(t);
  await revoke(world);
  const before = world.disks.view('d');
  world.vault.behave(KEY_URL, SILENT);
  const reborn = await world.reborn();
  t.match(reborn.disks.view('d'), {
    reason: 'key-disabled',
    since: before.since,
    keyVersion: before.keyVersion,
    vaultRequestId: before.vaultRequestId,
  });
  await reborn.destroy();
});

void test('many disks of a set cost one unwrap and one probe', async (t) => {
  const world = await withDisk(t);
  for (let index = 0; index < 16; index += 1) {
    await world.createDisk({ name: `d${String(index)}` });
    await world.during(world.disks.attach(`d${String(index)}`));
  }
  await revoke(world);
  const { unwraps, probes } = world.vault;
  const before = { unwraps: unwraps.length, probes: probes.length };
  world.vault.latencyMs = 200;
  await grant(world);
  await world.pass(1000);
  t.ok(world.disks.views().every((view) => view.state === 'online'));
  t.equal(unwraps.length - before.unwraps, 1);
  t.ok(probes.length - before.probes <= 2);
});

void test('an unwrap that fails while healing is tried again with the next proof', async (t) => {
  const world = await withDisk(t);
  await revoke(world);
  // The probe is answered, the unwrap after it is not, the next probe is.
  world.vault.behave(KEY_URL, PROOF, SILENT, PROOF);
  await world.during(world.sets.check('s'));
  await world.rest();
  t.equal(world.state(), 'offline(lease-expired)');
  await world.pass(11_000);
  t.equal(world.state(), 'online');
});

void test('a store error at runtime is told and changes no state', async (t) => {
  const world = await withDisk(t);
  world.planeDisk().fail('write', 'EIO');
  t.match(world.events('store-error'), [{ operation: 'write', errno: 'EIO' }]);
  t.equal(world.state(), 'online');
});

void test('shutdown takes every disk offline and leaves no key', async (t) => {
  const world = await withDisk(t);
  const disk = world.planeDisk();
  disk.connect();
  await world.during(world.disks.close());
  world.sets.close();
  t.equal(disk.dek, undefined);
  t.equal(world.plane.open.size, 0);
  t.equal(world.custody.liveKeys.length, 0);
  await t.rejects(world.disks.attach('d'), { code: 'ERR_DISK_CLOSED' });
});

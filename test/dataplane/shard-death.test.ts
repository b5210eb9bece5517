// SPDX-License-Identifier: Apache-2.0
import type { NetConnectOpts } from 'node:net';
import { test } from 'tap';
import { NbdClient } from '../support/nbd-client.js';
import { eventually } from '../support/process.js';
import { Rig } from './rig.js';

/** How often a shard is started again (SHARD_RESTARTS_MAX of the pool). */
const RESTARTS_MAX = 10;

/**
 * Two shards, disk `a` with a client on one of them and disk `b` with a client on the other. New
 * connections go to the least loaded shard, so clients spread once both shards run.
 */
async function spread(t: Parameters<typeof Rig.start>[0]) {
  const rig = await Rig.start(t);
  const where = rig.listen();
  const a = await rig.serve('a');
  const b = await rig.serve('b');
  const onA = await rig.client(where, 'a');
  const shardA = rig.shardOf('a');
  let onB = await rig.client(where, 'b');
  await eventually('the clients are on different shards', async () => {
    if (rig.shardOf('b') !== shardA) return true;
    onB.destroy();
    await eventually('the client is gone', () => b.disk.clients().length === 0);
    onB = await rig.client(where, 'b');
    return false;
  });
  t.teardown(() => {
    onA.destroy();
    onB.destroy();
  });
  return { rig, where, a, b, onA, onB, shardA, shardB: 1 - shardA };
}

/** Fails a shard until its death is noticed: one that is just starting gets no mail. */
async function fail(rig: Rig, index: number): Promise<void> {
  const before = rig.deaths.length;
  await eventually(`shard ${index} died`, () => {
    if (rig.deaths.length === before) rig.plane.failShard(index);
    return rig.deaths.length > before;
  });
}

/** A new client of disk `name` can read. */
async function readsAnew(rig: Rig, where: NetConnectOpts, name: string): Promise<number> {
  const client = await rig.client(where, name);
  const { errno } = await client.read(0, 512);
  client.destroy();
  return errno;
}

void test('clients of a dead shard see their connection end', async (t) => {
  const { rig, onA, shardA } = await spread(t);
  await fail(rig, shardA);
  t.equal((await onA.ended()).name, 'ConnectionEnded');
});

void test('a client in negotiation with a dead shard sees its connection end', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const client = await NbdClient.handshake(rig.listen());
  await fail(rig, 0);
  t.equal((await client.stream.readToEnd()).length, 0);
  t.equal(rig.plane.negotiatingCount, 0);
  client.destroy();
});

void test('requests under way on a dead shard end with the connection', async (t) => {
  const { rig, a, onA, shardA } = await spread(t);
  await a.disk.suspend();
  const parked = onA.read(0, 512);
  rig.plane.failShard(shardA);
  await t.rejects(parked, { name: 'ConnectionEnded' });
});

void test('clients of the other shard go on', async (t) => {
  const { rig, onB, shardA } = await spread(t);
  const payload = Buffer.alloc(4096, 7);
  await onB.write(0, payload);
  await fail(rig, shardA);
  t.ok((await onB.read(0, 4096)).data.equals(payload));
});

void test('the death is told with its cause, and that it is not final', async (t) => {
  const { rig, shardA } = await spread(t);
  await fail(rig, shardA);
  t.match(rig.deaths, [{ index: shardA, message: /told to fail/, final: false }]);
});

void test('the death is logged as an error', async (t) => {
  const { rig, shardA } = await spread(t);
  await fail(rig, shardA);
  const died = rig.lines.filter(({ message }) => message === 'shard died');
  t.match(died, [{ level: 'error', fields: { shard: shardA, cause: /told to fail/ } }]);
});

void test('a dead shard is started again and counted', async (t) => {
  const { rig, shardA } = await spread(t);
  await fail(rig, shardA);
  t.match(rig.plane.shards()[shardA], { alive: true, restarts: 1 });
});

void test('its disks take new clients', async (t) => {
  const { rig, where, shardA } = await spread(t);
  await fail(rig, shardA);
  t.equal(await readsAnew(rig, where, 'a'), 0);
});

void test('a shard that was started again serves', async (t) => {
  const { rig, where, onB, shardA } = await spread(t);
  await fail(rig, shardA);
  await eventually('a new client is on the shard', async () => {
    const client = await rig.client(where, 'a');
    const found = rig.shardOf('a') === shardA;
    if (found) t.equal((await client.read(0, 512)).errno, 0);
    client.destroy();
    await eventually('it is gone', () => rig.plane.disk('a')?.clients().length === 0);
    return found;
  });
  t.equal((await onB.read(0, 512)).errno, 0);
});

void test('listening goes on whichever shard dies', async (t) => {
  const rig = await Rig.start(t);
  const where = rig.listen();
  await rig.serve('a');
  for (const index of [0, 1, 0, 1]) {
    await fail(rig, index);
    t.equal(await readsAnew(rig, where, 'a'), 0);
  }
});

void test('the only shard comes back with its listeners', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const where = rig.listen();
  const port = rig.plane.listenTcp('127.0.0.1', 0);
  await rig.serve('a');
  await fail(rig, 0);
  t.equal(await readsAnew(rig, where, 'a'), 0);
  t.equal(await readsAnew(rig, { host: '127.0.0.1', port }, 'a'), 0);
});

void test('a death leaves the keys of the disks where they are', async (t) => {
  const { rig, a, shardA } = await spread(t);
  await fail(rig, shardA);
  t.ok(a.disk.stats().keyPresent);
});

void test('an acknowledged write outlives the shard that wrote it', async (t) => {
  const { rig, where, onA, shardA } = await spread(t);
  const payload = Buffer.alloc(5000, 'acknowledged');
  await onA.write(100, payload);
  await fail(rig, shardA);
  const client = await rig.client(where, 'a');
  t.ok((await client.read(100, payload.length)).data.equals(payload));
  client.destroy();
});

void test('connections of a dead shard are no longer listed', async (t) => {
  const { rig, a, b, shardA } = await spread(t);
  await fail(rig, shardA);
  await eventually('the client is gone', () => a.disk.clients().length === 0);
  t.equal(b.disk.clients().length, 1);
});

void test('the disk hears that its client is gone', async (t) => {
  const { rig, a, shardA } = await spread(t);
  await fail(rig, shardA);
  await eventually('the loss is told', () => a.events.at(-1)?.kind === 'client-disconnected');
  t.match(a.events.at(-1), { clients: 0 });
});

void test('going offline ends although a shard dies at that moment', async (t) => {
  const { rig, a, onA, onB, shardA } = await spread(t);
  void onA.read(0, 512).catch(() => undefined);
  rig.plane.failShard(shardA);
  const receipt = await a.disk.goOffline();
  t.ok(receipt.drainedBootMs >= receipt.keyWipedBootMs);
  t.equal((await onB.read(0, 512)).errno, 0);
});

void test('a shard that dies too often is given up, finally and once', async (t) => {
  const { rig, shardA } = await spread(t);
  for (let death = 0; death <= RESTARTS_MAX; death += 1) await fail(rig, shardA);
  const finals = rig.deaths.map(({ final }) => final);
  t.same(finals, [...new Array<boolean>(RESTARTS_MAX).fill(false), true]);
  t.match(rig.plane.shards()[shardA], { alive: false, restarts: RESTARTS_MAX });
});

void test('when one shard is given up the other still takes new clients', async (t) => {
  const { rig, where, shardA } = await spread(t);
  for (let death = 0; death <= RESTARTS_MAX; death += 1) await fail(rig, shardA);
  t.equal(await readsAnew(rig, where, 'a'), 0);
  t.equal(await readsAnew(rig, where, 'b'), 0);
});

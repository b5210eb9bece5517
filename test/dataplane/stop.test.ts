// SPDX-License-Identifier: Apache-2.0
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'tap';
import { NbdClient } from '../support/nbd-client.js';
import { Rig, temporaryDirectory } from './rig.js';

const STOP_MS_MAX = 1000;

/** A plane with a connection in every stage. */
async function busy(t: Parameters<typeof Rig.start>[0]) {
  const rig = await Rig.start(t);
  const where = rig.listen();
  const served = await rig.serve('d');
  const silent = await NbdClient.connect(where);
  await silent.stream.read(18);
  const negotiating = await NbdClient.handshake(where);
  const idle = await rig.client(where, 'd');
  const working = await rig.client(where, 'd');
  const replies = Array.from({ length: 64 }, (_, n) => working.read(n * 4096, 65_536));
  const settled = Promise.allSettled(replies);
  const clients = [silent, negotiating, idle, working];
  t.teardown(() => clients.forEach((client) => client.destroy()));
  return { rig, where, ...served, silent, negotiating, idle, working, settled };
}

async function stopTimed(rig: Rig): Promise<number> {
  const startMs = performance.now();
  await rig.plane.stop();
  return performance.now() - startMs;
}

void test('stop ends within a second with connections in every stage', async (t) => {
  const { rig } = await busy(t);
  t.ok((await stopTimed(rig)) < STOP_MS_MAX);
});

void test('a client in negotiation is told when the server begins to stop', async (t) => {
  const { rig, where, negotiating, idle } = await busy(t);
  rig.plane.stopNegotiating();
  const refused = { message: /0x80000007: the server is shutting down/ };
  await t.rejects(negotiating.go('d'), refused);
  const late = await NbdClient.handshake(where);
  t.teardown(() => late.destroy());
  await t.rejects(late.go('d'), refused);
  t.equal((await idle.read(0, 512)).errno, 0, 'requests are served on');
});

void test('every client sees its connection end', async (t) => {
  const { rig, silent, negotiating, idle, working, settled } = await busy(t);
  await rig.plane.stop();
  t.equal((await silent.stream.readToEnd()).length, 0);
  t.equal((await negotiating.stream.readToEnd()).length, 0);
  t.equal((await idle.ended()).name, 'ConnectionEnded');
  t.equal((await working.ended()).name, 'ConnectionEnded');
  await settled;
});

void test('stop ends within a second although a disk is suspended with requests', async (t) => {
  const { rig, disk, idle } = await busy(t);
  await disk.suspend();
  const ended = t.rejects(idle.read(0, 512), { name: 'ConnectionEnded' });
  await sleep(50);
  t.ok((await stopTimed(rig)) < STOP_MS_MAX);
  await ended;
});

void test('stop wipes the keys', async (t) => {
  const { rig, disk } = await busy(t);
  await rig.plane.stop();
  t.notOk(disk.stats().keyPresent);
});

void test('stopping a plane whose shards have hardly begun ends', async (t) => {
  const rig = new Rig(await temporaryDirectory(t), { shards: 2 });
  t.ok((await stopTimed(rig)) < 5000);
});

void test('stopping twice is stopping once', async (t) => {
  const { rig } = await busy(t);
  await Promise.all([rig.plane.stop(), rig.plane.stop()]);
  await t.resolves(rig.plane.stop());
});

void test('stop after stopNow waits for the shards', async (t) => {
  const { rig } = await busy(t);
  rig.plane.stopNow();
  await rig.plane.stop();
  t.notOk(rig.plane.shards().some(({ alive }) => alive));
});

void test('a stop is no death of the shards', async (t) => {
  const { rig } = await busy(t);
  await rig.plane.stop();
  t.same(rig.deaths, []);
});

void test('a shard that fails while the plane stops is no death', async (t) => {
  const { rig } = await busy(t);
  rig.plane.failShard(0);
  await rig.plane.stop();
  t.same(rig.deaths, []);
});

void test('connections are refused after stop', async (t) => {
  const { rig, where } = await busy(t);
  await rig.plane.stop();
  await t.rejects(NbdClient.connect(where), { code: /^(ENOENT|ECONNREFUSED)$/ });
});

void test('after stop every call is refused as closed', async (t) => {
  const { rig, disk, unlock, spec } = await busy(t);
  await rig.plane.stop();
  const closed = { code: 'ERR_NATIVE_CLOSED' };
  t.throws(() => rig.listen(), closed);
  t.throws(() => rig.plane.listenTcp('127.0.0.1', 0), closed);
  await t.rejects(
    rig.plane.openDisk(spec, () => undefined),
    closed,
  );
  t.throws(unlock, closed);
  await t.rejects(disk.suspend(), closed);
  await t.rejects(disk.goOffline(), closed);
  await t.rejects(disk.disconnectClients(), closed);
  await t.rejects(disk.close(), closed);
});

void test('a stopped plane lists no connection', async (t) => {
  const { rig, disk } = await busy(t);
  await rig.plane.stop();
  t.same(rig.plane.connections(), []);
  t.same(disk.clients(), []);
});

void test('what is pending when the plane stops rejects', async (t) => {
  const { rig, disk } = await busy(t);
  const offline = disk.goOffline();
  const rejected = t.rejects(offline, { code: 'ERR_NATIVE_CLOSED', message: /it was stopped/ });
  rig.plane.stopNow();
  await rejected;
});

void test('a plane that could not be created leaves no worker behind', (t) => {
  const tasks = readdirSync('/proc/self/task').length;
  t.throws(() => new Rig('/nowhere', { shards: 2, xts: 'rot13' }), {
    code: 'ERR_NATIVE_INVALID',
    message: /creating the data plane: .*"rot13"/,
  });
  t.equal(readdirSync('/proc/self/task').length, tasks);
  t.end();
});

void test('five planes with disks and clients leave no descriptor behind', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const dir = await temporaryDirectory(t);
  const count = (): number => {
    collect();
    return readdirSync('/proc/self/fd').length;
  };
  const live = async (round: number): Promise<void> => {
    const rig = new Rig(dir, { shards: 2 });
    const { disk } = await rig.serve(`d${round}`);
    const client = await rig.client(rig.listen(), `d${round}`);
    await client.read(0, 512);
    client.destroy();
    await disk.goOffline();
    await rig.plane.stop();
  };
  await live(0);
  await sleep(100);
  const before = count();
  for (let round = 1; round <= 5; round += 1) await live(round);
  await sleep(100);
  count();
  await sleep(100);
  t.ok(count() <= before + 3, 'one plane at most waits for its collection');
});

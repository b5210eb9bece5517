// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import type { NetConnectOpts } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { t as file, test } from 'tap';
import { NbdClient } from '../support/nbd-client.js';
import { CMD, ERRNO } from '../support/nbd-wire.js';
import { eventually } from '../support/process.js';
import { addon, Rig } from './rig.js';

const MARKER = Buffer.alloc(4096, 'acknowledged');

/** Reads without a pause, `depth` at a time; gives errno and time of each refusal. */
async function readUntilRefused(client: NbdClient, depth: number) {
  const refusals: { errno: number; atBootMs: number }[] = [];
  const one = async (): Promise<void> => {
    for (;;) {
      const { errno } = await client.read(0, 65_536);
      if (errno === 0) continue;
      refusals.push({ errno, atBootMs: addon.bootTimeMs() });
      return;
    }
  };
  await Promise.all(Array.from({ length: depth }, one));
  return refusals;
}

/** All tests share a plane; each has a disk of its own. */
const rig = await Rig.start(file);
const where: NetConnectOpts = rig.listen();
let disks = 0;

async function serve() {
  disks += 1;
  const name = `d${disks}`;
  const connect = (): Promise<NbdClient> => rig.client(where, name);
  return { name, connect, ...(await rig.serve(name)) };
}

void test('the times of a receipt are in order', async (t) => {
  const { connect, disk } = await serve();
  const clients = [await connect(), await connect()];
  const reading = clients.map((client) => readUntilRefused(client, 8));
  await sleep(50);
  const before = addon.bootTimeMs();
  const receipt = await disk.goOffline();
  const { requestedBootMs, keyWipedBootMs, drainedBootMs, flushedBootMs = 0 } = receipt;
  const times = [before, requestedBootMs, keyWipedBootMs, drainedBootMs, flushedBootMs];
  t.same(
    times,
    [...times].sort((a, b) => a - b),
  );
  t.ok(flushedBootMs <= addon.bootTimeMs());
  await Promise.all(reading);
  for (const client of clients) client.destroy();
});

void test('a receipt counts the connections that the disk had', async (t) => {
  const { connect, disk } = await serve();
  const clients = [];
  for (let n = 0; n < 5; n += 1) clients.push(await connect());
  t.equal((await disk.goOffline()).connections, 5);
  for (const client of clients) client.destroy();
});

void test('the key is wiped before a client sees the first ESHUTDOWN', async (t) => {
  const { connect, disk } = await serve();
  const clients = [await connect(), await connect()];
  const reading = clients.map((client) => readUntilRefused(client, 8));
  await sleep(50);
  const { keyWipedBootMs } = await disk.goOffline();
  const refusals = (await Promise.all(reading)).flat();
  t.ok(refusals.every(({ errno }) => errno === ERRNO.ESHUTDOWN));
  t.ok(refusals.every(({ atBootMs }) => atBootMs >= keyWipedBootMs));
  for (const client of clients) client.destroy();
});

for (const [what, command, length] of [
  ['READ', CMD.READ, 512],
  ['WRITE', CMD.WRITE, 512],
  ['FLUSH', CMD.FLUSH, 0],
  ['TRIM', CMD.TRIM, 4096],
  ['WRITE_ZEROES', CMD.WRITE_ZEROES, 4096],
] as const) {
  void test(`${what} to an offline disk is answered with ESHUTDOWN`, async (t) => {
    const { connect, disk } = await serve();
    const client = await connect();
    await disk.goOffline();
    const payload = command === CMD.WRITE ? { payload: Buffer.alloc(length) } : { length };
    t.equal((await client.request({ command, offset: 0, ...payload })).errno, ERRNO.ESHUTDOWN);
    client.destroy();
  });
}

void test('no key is left after going offline', async (t) => {
  const { disk } = await serve();
  await disk.goOffline();
  t.notOk(disk.stats().keyPresent);
});

void test('an acknowledged write lies encrypted in the store when the receipt comes', async (t) => {
  const { connect, disk, spec, unlock } = await serve();
  const client = await connect();
  await client.write(0, MARKER);
  const { flushedBootMs } = await disk.goOffline();
  t.type(flushedBootMs, 'number');
  t.notOk((await readFile(spec.storePath)).includes('acknowledged'));
  unlock();
  t.ok((await client.read(0, MARKER.length)).data.equals(MARKER));
  client.destroy();
});

void test('going offline twice at once gives the same time of the wipe', async (t) => {
  const { disk } = await serve();
  const [one, two] = await Promise.all([disk.goOffline(), disk.goOffline()]);
  t.equal(one.keyWipedBootMs, two.keyWipedBootMs);
});

void test('a disk that is offline can be taken offline', async (t) => {
  const { disk } = await serve();
  await disk.goOffline();
  await t.resolves(disk.goOffline());
});

void test('other disks serve on while one goes offline', async (t) => {
  const [{ disk }, other] = [await serve(), await serve()];
  const client = await other.connect();
  await disk.goOffline();
  t.equal((await client.read(0, 512)).errno, 0);
  client.destroy();
});

void test('a suspended disk parks requests', async (t) => {
  const { connect, disk } = await serve();
  const client = await connect();
  await disk.suspend();
  const reply = client.read(0, 512).then(() => 'answered');
  t.equal(await Promise.race([reply, sleep(200, 'parked')]), 'parked');
  client.destroy();
  await reply.catch(() => undefined);
});

void test('unlocking a suspended disk answers what it parked, without an error', async (t) => {
  const { connect, disk, unlock } = await serve();
  const clients = [await connect(), await connect()];
  await clients[0]?.write(0, MARKER);
  await disk.suspend();
  const replies = clients.flatMap((client) => [
    client.read(0, MARKER.length),
    client.read(512, 512),
  ]);
  await sleep(100);
  unlock();
  t.same(
    (await Promise.all(replies)).map(({ errno }) => errno),
    [0, 0, 0, 0],
  );
  for (const client of clients) client.destroy();
});

void test('a write that was parked is written after unlocking', async (t) => {
  const { connect, disk, unlock } = await serve();
  const client = await connect();
  await disk.suspend();
  const written = client.write(100, MARKER);
  await sleep(50);
  unlock();
  t.equal((await written).errno, 0);
  t.ok((await client.read(100, MARKER.length)).data.equals(MARKER));
  client.destroy();
});

void test('going offline while suspended answers what is parked with ESHUTDOWN', async (t) => {
  const { connect, disk } = await serve();
  const client = await connect();
  await disk.suspend();
  const reply = client.read(0, 512);
  await sleep(50);
  await disk.goOffline();
  t.equal((await reply).errno, ERRNO.ESHUTDOWN);
  client.destroy();
});

void test('suspending a suspended disk gives the time of the first wipe', async (t) => {
  const { disk } = await serve();
  const first = await disk.suspend();
  t.equal((await disk.suspend()).keyWipedBootMs, first.keyWipedBootMs);
});

void test('a locked disk cannot be suspended', async (t) => {
  const { disk } = await serve();
  await disk.goOffline();
  await t.rejects(disk.suspend(), { code: 'ERR_DISK_STATE', message: /suspending disk d\d+: / });
});

void test('a disk that serves cannot be unlocked', async (t) => {
  const { unlock } = await serve();
  t.throws(unlock, { code: 'ERR_DISK_STATE' });
});

void test('disconnecting clients gives their number', async (t) => {
  const { connect, disk } = await serve();
  const clients = [];
  for (let n = 0; n < 3; n += 1) clients.push(await connect());
  t.equal(await disk.disconnectClients(), 3);
  await Promise.all(clients.map((client) => client.ended()));
  for (const client of clients) client.destroy();
});

void test('disconnecting without clients gives 0', async (t) => {
  const { disk } = await serve();
  t.equal(await disk.disconnectClients(), 0);
});

void test('clients of other disks are not disconnected', async (t) => {
  const [one, two] = [await serve(), await serve()];
  const [mine, other] = [await one.connect(), await two.connect()];
  await one.disk.disconnectClients();
  await mine.ended();
  t.equal((await other.read(0, 512)).errno, 0);
  mine.destroy();
  other.destroy();
});

void test('a disk whose clients were disconnected takes new ones', async (t) => {
  const { connect, disk } = await serve();
  const old = await connect();
  await disk.disconnectClients();
  await old.ended();
  const client = await connect();
  t.equal((await client.read(0, 512)).errno, 0);
  old.destroy();
  client.destroy();
});

void test('a client on a unix socket is known by its credentials', async (t) => {
  const { connect, disk } = await serve();
  const client = await connect();
  const { pid, getuid, getgid } = process;
  t.same(disk.clients()[0]?.peer, {
    address: { kind: 'unix', pid, uid: getuid?.(), gid: getgid?.() },
    tls: null,
  });
  client.destroy();
});

void test('a client on TCP is known by its address and port', async (t) => {
  const { name, disk } = await serve();
  const port = rig.plane.listenTcp('127.0.0.1', 0);
  const client = await rig.client({ host: '127.0.0.1', port }, name);
  const { localPort } = client.socket;
  t.same(disk.clients()[0]?.peer.address, { kind: 'tcp', address: '127.0.0.1', port: localPort });
  client.destroy();
});

void test('a connection is listed with its peer as the kernel names it', async (t) => {
  const { connect, name } = await serve();
  const client = await connect();
  const diskId = rig.plane.disk(name)?.native.id;
  const found = rig.plane.connections().find((connection) => connection.diskId === diskId);
  const { pid, getuid, getgid } = process;
  t.same(found?.peer, { kind: 'unix', pid, uid: getuid?.(), gid: getgid?.() });
  client.destroy();
});

void test('a connection is listed with what passed over it', async (t) => {
  const { connect, name } = await serve();
  const client = await connect();
  const diskId = rig.plane.disk(name)?.native.id;
  const find = () => rig.plane.connections().find((connection) => connection.diskId === diskId);
  const before = find();
  await client.write(0, Buffer.alloc(512));
  const after = find();
  t.equal((after?.requests ?? 0) - (before?.requests ?? 0), 1);
  t.equal((after?.bytesIn ?? 0) - (before?.bytesIn ?? 0), 28 + 512);
  t.ok((after?.bytesOut ?? 0) > 0);
  client.destroy();
});

void test('a client is listed with the time at which it came', async (t) => {
  const { connect, disk } = await serve();
  const before = addon.bootTimeMs();
  const client = await connect();
  const at = disk.clients()[0]?.connectedAtBootMs ?? 0;
  t.ok(before <= at && at <= addon.bootTimeMs());
  client.destroy();
});

void test('a connection in negotiation is no client of a disk', async (t) => {
  const { disk } = await serve();
  const client = await NbdClient.handshake(where);
  t.same(disk.clients(), []);
  t.equal(rig.plane.negotiatingCount, 1);
  client.destroy();
});

void test('coming and going of clients is told with their number', async (t) => {
  const { connect, events } = await serve();
  const [one, two] = [await connect(), await connect()];
  await one.disconnect();
  await eventually('one is told', () => events.length >= 3);
  await two.disconnect();
  await eventually('both are told', () => events.length >= 4);
  t.same(events.at(-1), { kind: 'client-disconnected', clients: 0 });
  t.same(
    events.map(({ kind }) => kind),
    ['client-connected', 'client-connected', 'client-disconnected', 'client-disconnected'],
  );
});

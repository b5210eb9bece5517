// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import { access, readFile, stat, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { test } from 'tap';
import { FakeClock } from '../support/fake-clock.js';
import { NEGOTIATING_CONNECTIONS_PER_PEER_MAX } from '../../src/dataplane/negotiation-slots.js';
import { NbdClient } from '../support/nbd-client.js';
import {
  encodeClientFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  OPT,
  REP,
} from '../support/nbd-wire.js';
import { eventually } from '../support/process.js';
import { inChild } from './child.js';
import { MIB, Rig, temporaryDirectory } from './rig.js';

/** A socket file whose server was killed. */
async function leaveStaleSocket(path: string): Promise<void> {
  await inChild(`
    require('node:net').createServer().listen(${JSON.stringify(path)}, () =>
      process.kill(process.pid, 'SIGKILL'));
    await sleep(5000);`);
}

async function living(server: Server, path: string): Promise<void> {
  server.listen(path);
  await once(server, 'listening');
}

for (const kind of ['unix', 'tcp'] as const) {
  const listen = (rig: Rig) =>
    kind === 'unix'
      ? rig.listen()
      : { host: '127.0.0.1', port: rig.plane.listenTcp('127.0.0.1', 0) };

  void test(`${kind}: LIST names every disk`, async (t) => {
    const rig = await Rig.start(t);
    await rig.serve('one');
    await rig.serve('two');
    const client = await NbdClient.handshake(listen(rig));
    t.same((await client.list()).map(({ name }) => name).sort(), ['one', 'two']);
    client.destroy();
  });

  void test(`${kind}: INFO tells size and block sizes`, async (t) => {
    const rig = await Rig.start(t);
    await rig.serve('d', { sizeBytes: 3 * MIB, sectorSizeBytes: 4096 });
    const client = await NbdClient.handshake(listen(rig));
    const { sizeBytes, blockSize } = await client.info('d');
    t.same([sizeBytes, blockSize?.preferred], [BigInt(3 * MIB), 4096]);
    client.destroy();
  });

  void test(`${kind}: what one client writes another reads`, async (t) => {
    const rig = await Rig.start(t);
    await rig.serve('d');
    const where = listen(rig);
    const [writer, reader] = [await rig.client(where, 'd'), await rig.client(where, 'd')];
    const payload = Buffer.alloc(100_000, 'keyhold');
    await writer.write(777, payload);
    t.ok((await reader.read(777, payload.length)).data.equals(payload));
    writer.destroy();
    reader.destroy();
  });

  void test(`${kind}: an unknown export is refused and the connection stays`, async (t) => {
    const rig = await Rig.start(t);
    await rig.serve('d');
    const client = await NbdClient.handshake(listen(rig));
    await t.rejects(client.go('other'), { name: 'Error', type: REP.ERR_UNKNOWN });
    await t.resolves(client.go('d'));
    client.destroy();
  });
}

void test('requests that come in one packet with GO are answered', async (t) => {
  const rig = await Rig.start(t);
  await rig.serve('d');
  const client = await NbdClient.handshake(rig.listen());
  const request = encodeRequest({ command: 0, cookie: 9n, offset: 0n, length: 16 });
  client.send(Buffer.concat([encodeOption(OPT.GO, encodeInfoData('d')), request]));
  while ((await client.receiveOptionReply(OPT.GO)).type !== 1);
  const reply = await client.stream.read(32);
  t.equal(reply.readBigUInt64BE(8), 9n);
  client.destroy();
});

for (const mode of [0o600, 0o660, 0o666]) {
  void test(`a socket gets mode ${mode.toString(8)}, whatever the umask`, async (t) => {
    const rig = await Rig.start(t, { shards: 1 });
    const path = join(rig.dir, 'mode.sock');
    rig.plane.listenUnix(path, mode);
    t.equal((await stat(path)).mode & 0o777, mode);
  });
}

void test('a socket that a dead server left is replaced', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  await rig.serve('d');
  const path = join(rig.dir, 'stale.sock');
  await leaveStaleSocket(path);
  await t.resolves(access(path));
  rig.plane.listenUnix(path, 0o600);
  const client = await rig.client({ path }, 'd');
  client.destroy();
});

void test('a socket on which a server lives is refused and left to it', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const path = join(rig.dir, 'living.sock');
  const server = createServer((socket) => {
    socket.on('error', () => undefined); // whoever only looks whether the server lives
    socket.end('mine');
  });
  await living(server, path);
  t.teardown(() => void server.close());
  t.throws(() => rig.plane.listenUnix(path, 0o600), {
    code: 'ERR_NBD_LISTEN',
    message: /another server answers there/,
  });
  const [data] = (await once(connect(path), 'data')) as [Buffer];
  t.equal(data.toString(), 'mine');
});

void test('listening twice on one path is refused', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const path = join(rig.dir, 'twice.sock');
  rig.plane.listenUnix(path, 0o600);
  t.throws(() => rig.plane.listenUnix(path, 0o600), { code: 'ERR_NBD_LISTEN' });
});

void test('a file in the place of the socket is refused and left as it was', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const path = join(rig.dir, 'file');
  await writeFile(path, 'precious');
  t.throws(() => rig.plane.listenUnix(path, 0o600), {
    code: 'ERR_NBD_LISTEN',
    message: /no socket/,
  });
  t.equal(await readFile(path, 'utf8'), 'precious');
});

void test('a socket in a directory that does not exist is refused with the errno', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  t.throws(() => rig.plane.listenUnix(join(rig.dir, 'no', 'such.sock'), 0o600), {
    code: 'ERR_NBD_LISTEN',
    fields: { errno: 'ENOENT' },
  });
});

void test('a TCP port that is taken is refused with the errno', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const port = rig.plane.listenTcp('127.0.0.1', 0);
  t.throws(() => rig.plane.listenTcp('127.0.0.1', port), {
    code: 'ERR_NBD_LISTEN',
    message: new RegExp(`listening on 127\\.0\\.0\\.1:${port}`),
    fields: { errno: 'EADDRINUSE' },
  });
});

void test('a TCP host that needs a name server is refused', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  t.throws(() => rig.plane.listenTcp('example.org', 0), { code: 'ERR_NBD_LISTEN' });
});

void test('stop takes the socket file away', async (t) => {
  const rig = new Rig(await temporaryDirectory(t), { shards: 1 });
  const path = join(rig.dir, 'gone.sock');
  rig.plane.listenUnix(path, 0o600);
  await rig.plane.stop();
  await t.rejects(access(path), { code: 'ENOENT' });
});

void test('a client that says nothing is cut off after the handshake time', async (t) => {
  const clock = new FakeClock();
  const rig = await Rig.start(t, { shards: 1, clock });
  const client = await NbdClient.connect(rig.listen());
  await client.stream.read(18);
  t.equal(rig.plane.negotiatingCount, 1);
  await clock.advance(10_000);
  t.equal((await client.stream.readToEnd()).length, 0);
  t.equal(rig.plane.negotiatingCount, 0);
  client.destroy();
});

void test('the client past the limit of its user is closed, and the others go on', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  await rig.serve('d');
  const where = rig.listen();
  const silent = await Promise.all(
    Array.from({ length: NEGOTIATING_CONNECTIONS_PER_PEER_MAX }, async () => {
      const client = await NbdClient.connect(where);
      await client.stream.read(18);
      return client;
    }),
  );
  const late = await NbdClient.connect(where);
  t.equal((await late.stream.readToEnd()).length, 0, 'not even a hello');
  const [first] = silent;
  if (first === undefined) throw new Error('there is no first client');
  first.send(encodeClientFlags(3));
  await t.resolves(first.go('d'));
  for (const client of [...silent, late]) client.destroy();
});

void test('a client that leaves in the middle of an option is forgotten', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const client = await NbdClient.handshake(rig.listen());
  client.send(Buffer.from('IHAVEOPT'));
  client.destroy();
  await eventually('no handshake is left', () => rig.plane.negotiatingCount === 0);
  t.same(rig.plane.connections(), []);
});

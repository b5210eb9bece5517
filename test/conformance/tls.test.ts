// SPDX-License-Identifier: Apache-2.0
import { createServer } from 'node:net';
import type { NetConnectOpts, Socket } from 'node:net';
import { connect as dial } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { t as file, test } from 'tap';
import {
  NEGOTIATING_CONNECTIONS_MAX,
  NEGOTIATING_CONNECTIONS_PER_PEER_MAX,
} from '../../src/dataplane/negotiation-slots.js';
import { NbdClient } from '../support/nbd-client.js';
import {
  CMD,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  ERRNO,
  OPT,
  REP,
} from '../support/nbd-wire.js';
import { eventually } from '../support/process.js';
import { enter, keyholdWithTls } from './targets.js';

/* The rows of the conformance and the attack list that are about TLS; mode `require`. */

const target = await keyholdWithTls(file);
const { rig } = target;
const { where, tls = {} } = target.writable;

async function serves(): Promise<boolean> {
  const { client } = await enter(file, target.writable, 'simple');
  const { errno } = await client.read(0, 512);
  await client.disconnect();
  return errno === 0;
}

for (const replies of ['simple', 'structured', 'extended'] as const) {
  void test(`1.14 #3: a refused WRITE is drained through TLS, ${replies}`, async (t) => {
    const { client } = await enter(t, target.readOnly, replies);
    const refused = client.write(0, Buffer.alloc(1_000_000, 0x25));
    const next = client.read(0, 512);
    t.equal((await refused).errno, ERRNO.EPERM);
    t.equal((await next).errno, 0);
    await client.disconnect();
  });
}

void test('1.14 #9, CVE-2021-3716: what was negotiated before STARTTLS does not survive', async (t) => {
  const place = { path: join(rig.dir, 'allow.sock') };
  rig.plane.listenUnix(place.path, 0o600, 'allow');
  const client = await NbdClient.handshake(place);
  t.teardown(() => client.destroy());
  await client.option(OPT.STRUCTURED_REPLY);
  await client.setMetaContext('disk');
  await client.option(OPT.EXTENDED_HEADERS);
  client.sendOption(4242, Buffer.alloc(7));
  await client.receiveOptionReply(4242);
  await client.startTls(tls);
  await t.rejects(client.setMetaContext('disk'), { message: /0x80000003/ });
  await client.go('disk');
  t.match(await client.read(0, 512), { errno: 0, kind: 'simple' });
  t.equal((await client.request({ command: CMD.BLOCK_STATUS, length: 512 })).errno, ERRNO.EINVAL);
  await client.disconnect();
});

void test('CVE-2021-3716: options injected before the handshake end the connection', async (t) => {
  const client = await NbdClient.handshake(where);
  t.teardown(() => client.destroy());
  client.send(Buffer.concat([encodeOption(OPT.STARTTLS), encodeOption(OPT.STRUCTURED_REPLY)]));
  await t.rejects(
    (async () => {
      await client.receiveOptionReply(OPT.STARTTLS);
      await client.shakeHands(tls);
    })(),
  );
  t.ok(await serves());
});

void test('1.14 #10: options before TLS are read whole, then refused', async (t) => {
  const client = await NbdClient.handshake(where);
  t.teardown(() => client.destroy());
  const asked: [number, Buffer][] = [
    [OPT.LIST, Buffer.alloc(0)],
    [OPT.INFO, encodeInfoData('disk')],
    [OPT.GO, encodeInfoData('disk')],
    [OPT.STRUCTURED_REPLY, Buffer.alloc(0)],
    [OPT.SET_META_CONTEXT, Buffer.alloc(5000)],
    [OPT.EXTENDED_HEADERS, Buffer.alloc(0)],
    [4242, Buffer.alloc(3000)],
  ];
  for (const [option, data] of asked) {
    client.sendOption(option, data);
    t.equal((await client.receiveOptionReply(option)).type, REP.ERR_TLS_REQD, `option ${option}`);
  }
  await client.startTls(tls);
  await client.go('disk');
  await client.disconnect();
});

void test('EXPORT_NAME before TLS closes', async (t) => {
  const client = await NbdClient.handshake(where);
  client.sendOption(OPT.EXPORT_NAME, Buffer.from('disk'));
  t.equal((await client.stream.readToEnd()).length, 0);
  client.destroy();
});

void test('a second STARTTLS is refused', async (t) => {
  const client = await NbdClient.handshake(where);
  await client.startTls(tls);
  await t.rejects(client.option(OPT.STARTTLS), { message: /0x80000003/ });
  await client.go('disk');
  await client.disconnect();
});

/** Between client and server; keeps what the server says. */
async function wiretap(t: Test): Promise<{ where: NetConnectOpts; heard: Buffer[] }> {
  const heard: Buffer[] = [];
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = dial({ ...where, allowHalfOpen: true });
    sockets.push(near, far);
    far.on('data', (bytes: Buffer) => heard.push(bytes));
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) socket.on('error', () => socket.destroy());
  });
  const path = join(rig.dir, `tap-${Math.random()}.sock`);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { where: { path }, heard };
}

/** Types of the TLS records in a stream. */
function recordTypes(bytes: Buffer): number[] {
  const types: number[] = [];
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) {
    types.push(bytes.readUInt8(at));
  }
  return types;
}

void test('1.14 #14: the server says close_notify before it closes', async (t) => {
  const { where: tapped, heard } = await wiretap(t);
  // TLS 1.2 shows the type of a record in clear.
  const old = { ...tls, maxVersion: 'TLSv1.2' } as const;
  const { client } = await enter(t, { where: tapped, export: 'disk', tls: old }, 'structured');
  t.equal((await client.read(0, 512)).errno, 0);
  await client.disconnect();
  const all = Buffer.concat(heard);
  const types = recordTypes(all.subarray(all.indexOf(Buffer.from([22, 3, 3]))));
  t.equal(types.at(-1), 21, `record types ${types.join(' ')}`);
});

void test('a WRITE longer than a payload may be ends the connection under TLS', async (t) => {
  const { client } = await enter(t, target.writable, 'structured');
  client.send(encodeRequest({ command: CMD.WRITE, cookie: 9n, offset: 0n, length: 2 ** 25 + 1 }));
  client.send(Buffer.alloc(100_000));
  t.equal((await client.ended()).name, 'ConnectionEnded');
  t.ok(await serves());
});

void test('renegotiation is refused and harms nobody', async (t) => {
  const client = await NbdClient.handshake(where);
  t.teardown(() => client.destroy());
  const secure = await client.startTls({ ...tls, maxVersion: 'TLSv1.2' });
  secure.on('error', () => undefined);
  let renegotiated = false;
  secure.renegotiate({ rejectUnauthorized: true }, (error) => {
    renegotiated = error === null;
  });
  // The server may ignore it or close; a refusal has no answer that could be waited for.
  await sleep(300);
  t.notOk(renegotiated);
  t.ok(await serves());
});

/** The first bytes that a TLS client says. */
async function clientHello(t: Test): Promise<Buffer> {
  const path = join(rig.dir, 'hello.sock');
  const first = new Promise<Buffer>((resolve) => {
    const server = createServer((socket) => {
      socket.once('data', (bytes: Buffer) => {
        resolve(bytes);
        socket.destroy();
      });
      socket.on('error', () => undefined);
    }).listen(path);
    t.teardown(() => void server.close());
  });
  await eventually('the trap listens', async () => {
    const client = await NbdClient.connect({ path }).catch(() => undefined);
    client?.shakeHands({}).catch(() => undefined);
    return client !== undefined;
  });
  return first;
}

void test('a client may leave after every byte of its ClientHello', async (t) => {
  const hello = await clientHello(t);
  t.equal(hello.readUInt8(0), 22);
  for (let length = 0; length < hello.length; length += 1) {
    const client = await NbdClient.handshake(where);
    client.sendOption(OPT.STARTTLS);
    await client.receiveOptionReply(OPT.STARTTLS);
    client.send(hello.subarray(0, length));
    if (length % 2 === 0) {
      client.socket.end();
      await client.stream.readToEnd();
    }
    client.destroy();
  }
  await eventually('no connection is left', () => rig.plane.connections().length === 0);
  t.ok(await serves());
});

void test('junk in place of a ClientHello ends the connection', async (t) => {
  for (const junk of [
    Buffer.alloc(100_000),
    Buffer.alloc(70_000, 0xff),
    Buffer.from('GET /\r\n'),
  ]) {
    const client = await NbdClient.handshake(where);
    client.sendOption(OPT.STARTTLS);
    await client.receiveOptionReply(OPT.STARTTLS);
    client.send(junk);
    client.socket.end();
    const answer = await client.stream.readToEnd();
    t.ok(answer.length < 100, `${answer.length} bytes of answer`);
    client.destroy();
  }
  t.ok(await serves());
});

void test('handshakes that never end keep out nobody at another address', async (t) => {
  const port = rig.plane.listenTcp('127.0.0.1', 0, 'require');
  const from = (localAddress: string): NetConnectOpts => ({
    host: '127.0.0.1',
    port,
    localAddress,
  });
  const begin = async (localAddress: string): Promise<NbdClient> => {
    const client = await NbdClient.handshake(from(localAddress));
    client.sendOption(OPT.STARTTLS);
    await client.receiveOptionReply(OPT.STARTTLS);
    return client;
  };
  const flood = await Promise.all(
    Array.from({ length: NEGOTIATING_CONNECTIONS_PER_PEER_MAX }, () => begin('127.0.0.2')),
  );
  t.teardown(() => flood.forEach((client) => client.destroy()));
  await t.rejects(begin('127.0.0.2'), 'the address has all that it may have');
  const other = { where: from('127.0.0.1'), export: 'disk', tls };
  const { client } = await enter(t, other, 'structured');
  t.equal((await client.read(0, 512)).errno, 0, 'a client at another address is served');

  const rest = NEGOTIATING_CONNECTIONS_MAX - flood.length;
  flood.push(...(await Promise.all(Array.from({ length: rest }, () => begin('127.0.0.3')))));
  await t.rejects(begin('127.0.0.1'), 'nobody new gets in while all places are taken');
  t.equal((await client.read(0, 512)).errno, 0, 'who is in is served on');
  for (const one of flood) one.destroy();
  await eventually('a place is free', () =>
    begin('127.0.0.1').then(
      (one) => (one.destroy(), true),
      () => false,
    ),
  );
  await client.disconnect();
  await eventually('no connection is left', () => rig.plane.connections().length === 0);
  t.ok(await serves());
});

void test('nothing above was an error of ours', (t) => {
  t.strictSame(rig.deaths, []);
  t.strictSame(
    rig.lines.filter(({ level }) => level === 'error'),
    [],
  );
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { NetConnectOpts, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { test } from 'tap';
import { NbdClient, OptionRefused } from '../support/nbd-client.js';
import {
  CMD,
  CMD_FLAG,
  encodeUint32,
  ERRNO,
  OPT,
  ProtocolViolation,
  REP,
} from '../support/nbd-wire.js';

/*
 * Calibrates the raw client that later tests rely on: nbdkit must pass, made-up violations must
 * not.
 */

async function socketPath(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-nbd-'));
  t.teardown(() => rm(directory, { recursive: true }));
  return join(directory, 'nbd.sock');
}

async function nbdkit(t: Test, ...plugin: string[]): Promise<NetConnectOpts> {
  const path = await socketPath(t);
  const server = spawn('nbdkit', ['--foreground', '--unix', path, ...plugin], { stdio: 'inherit' });
  const gone = new Promise((resolve) => server.once('exit', resolve));
  t.teardown(async () => {
    server.kill();
    await gone;
  });
  for (let attempt = 0; attempt < 200; attempt += 1) {
    try {
      (await NbdClient.connect({ path })).destroy();
      return { path };
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
  throw new Error('nbdkit did not listen within 5 s');
}

async function ready(t: Test, where: NetConnectOpts): Promise<NbdClient> {
  const client = await NbdClient.handshake(where);
  t.teardown(() => client.destroy());
  return client;
}

void test('nbdkit: options, information, and a refused option', async (t) => {
  const client = await ready(t, await nbdkit(t, 'memory', '1M'));
  t.strictSame(await client.list(), [{ name: '', description: '' }]);
  t.match(await client.info(''), { sizeBytes: 1_048_576n });
  await t.rejects(client.option(4242), new OptionRefused(4242, REP.ERR_UNSUP, ''));
  t.match(await client.go(''), { sizeBytes: 1_048_576n });
  await client.disconnect();
});

for (const structured of [true, false]) {
  const kind = structured ? 'structured' : 'simple';
  void test(`nbdkit: data comes back through ${kind} replies`, async (t) => {
    const client = await ready(t, await nbdkit(t, 'memory', '1M'));
    if (structured) await client.option(OPT.STRUCTURED_REPLY);
    await client.go('');
    const payload = randomBytes(70_001);
    t.equal((await client.write(511, payload, CMD_FLAG.FUA)).errno, 0);
    t.equal((await client.flush()).errno, 0);
    const back = await client.read(511, payload.length);
    t.equal(back.kind, kind);
    t.ok(back.data.equals(payload));
    const zero = { command: CMD.WRITE_ZEROES, offset: 511, length: 1000 };
    t.equal((await client.request(zero)).errno, 0);
    t.ok((await client.read(511, 1000)).data.equals(Buffer.alloc(1000)));
    await client.disconnect();
  });

  void test(`nbdkit: errors come back through ${kind} replies and the session goes on`, async (t) => {
    const client = await ready(t, await nbdkit(t, 'memory', '1M'));
    if (structured) await client.option(OPT.STRUCTURED_REPLY);
    await client.go('');
    t.equal((await client.read(1_048_576, 1)).errno, ERRNO.EINVAL);
    t.equal((await client.write(1_048_575, Buffer.alloc(2))).errno, ERRNO.ENOSPC);
    t.equal((await client.request({ command: 99 })).errno, ERRNO.EINVAL);
    t.equal((await client.read(0, 512)).errno, 0);
    await client.disconnect();
  });
}

void test('nbdkit: a read-only export refuses writes', async (t) => {
  const client = await ready(t, await nbdkit(t, '--readonly', 'memory', '1M'));
  const { flags } = await client.go('');
  t.equal(flags & 2, 2);
  t.equal((await client.write(0, Buffer.alloc(512))).errno, ERRNO.EPERM);
  await client.disconnect();
});

void test('nbdkit: a hundred requests in flight each get their own reply', async (t) => {
  const where = await nbdkit(t, '--filter=delay', 'memory', '1M', 'rdelay=5ms');
  const client = await ready(t, where);
  await client.option(OPT.STRUCTURED_REPLY);
  await client.go('');
  const blocks = Array.from({ length: 100 }, (_, index) => Buffer.alloc(512, index + 1));
  await Promise.all(blocks.map((block, index) => client.write(index * 512, block)));
  const replies = await Promise.all(blocks.map((_, index) => client.read(index * 512, 512)));
  t.ok(replies.every((reply, index) => reply.data.equals(blocks[index] ?? Buffer.alloc(0))));
  await client.disconnect();
});

for (const clientFlags of [1, 3]) {
  void test(`nbdkit: EXPORT_NAME with client flags ${clientFlags}`, async (t) => {
    const client = await NbdClient.handshake(await nbdkit(t, 'memory', '1M'), clientFlags);
    t.match(await client.exportName(''), { sizeBytes: 1_048_576n });
    t.equal((await client.read(0, 512)).errno, 0);
    await client.disconnect();
  });
}

void test('nbdkit: a closed connection is told apart from an answer', async (t) => {
  const client = await NbdClient.handshake(await nbdkit(t, 'memory', '1M'), 0x80000000);
  t.teardown(() => client.destroy());
  client.sendOption(OPT.LIST);
  await t.rejects(client.receiveOptionReply(OPT.LIST), { name: 'ConnectionEnded' });
});

/** A server that says the hello, takes GO, and then answers the first request with given bytes. */
async function liar(t: Test, answer: (cookie: Buffer) => Buffer): Promise<NbdClient> {
  const path = await socketPath(t);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.write(Buffer.from('NBDMAGICIHAVEOPT\0\x03', 'latin1'));
    const received: Buffer[] = [];
    let answered = false;
    socket.on('data', (chunk: Buffer) => {
      received.push(chunk);
      const request = Buffer.concat(received).subarray(4);
      if (answered || request.length < 28) return;
      answered = true;
      socket.write(answer(request.subarray(8, 16)));
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const client = await NbdClient.handshake({ path });
  t.teardown(() => {
    client.destroy();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return client;
}

function chunk(flags: number, type: number, cookie: Buffer, payload: Buffer): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32BE(0x668e33ef, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(type, 6);
  head.set(cookie, 8);
  head.writeUInt32BE(payload.length, 16);
  return Buffer.concat([head, payload]);
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function data(offset: number, length: number): Buffer {
  return Buffer.concat([u64(offset), Buffer.alloc(length)]);
}

function error(errno: number, message: string, ...tail: Buffer[]): Buffer {
  const head = Buffer.alloc(6);
  head.writeUInt32BE(errno, 0);
  head.writeUInt16BE(message.length, 4);
  return Buffer.concat([head, Buffer.from(message), ...tail]);
}

function simple(errno: number, cookie: Buffer): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(0x67446698, 0);
  head.writeUInt32BE(errno, 4);
  return Buffer.concat([head, cookie]);
}

/** Each answers READ of 512 bytes at 1024; all but the last few under structured replies. */
const violations: [string, boolean, (cookie: Buffer) => Buffer, RegExp][] = [
  ['another magic', true, () => Buffer.alloc(32), /reply magic is 0x0/],
  ['an unknown cookie', true, () => chunk(1, 0, u64(77), Buffer.alloc(0)), /cookie 77/],
  ['a simple reply', true, (cookie) => simple(22, cookie), /simple reply to READ despite/],
  ['success without data', true, (cookie) => chunk(1, 0, cookie, Buffer.alloc(0)), /0 of 512/],
  ['half of the data', true, (cookie) => chunk(1, 1, cookie, data(1024, 256)), /256 of 512/],
  [
    'data before the range',
    true,
    (cookie) => chunk(1, 1, cookie, data(1023, 512)),
    /begins before/,
  ],
  ['data past the range', true, (cookie) => chunk(1, 1, cookie, data(1025, 512)), /ends 513/],
  ['empty data', true, (cookie) => chunk(1, 1, cookie, data(1024, 0)), /OFFSET_DATA has 8/],
  [
    'overlapping data',
    true,
    (cookie) =>
      Buffer.concat([
        chunk(0, 1, cookie, data(1024, 300)),
        chunk(1, 1, cookie, data(1024 + 299, 213)),
      ]),
    /overlaps/,
  ],
  ['an empty hole', true, (cookie) => chunk(1, 2, cookie, data(1024, 4)), /hole of 0 bytes/],
  [
    'an unknown chunk flag',
    true,
    (cookie) => chunk(3, 1, cookie, data(1024, 512)),
    /flags are 0x3/,
  ],
  ['an unknown chunk type', true, (cookie) => chunk(1, 9, cookie, Buffer.alloc(0)), /type is 0x9/],
  ['NONE without DONE', true, (cookie) => chunk(0, 0, cookie, Buffer.alloc(0)), /without DONE/],
  ['an error of 0', true, (cookie) => chunk(1, 0x8001, cookie, error(0, '')), /errno 0/],
  ['an errno of Linux', true, (cookie) => chunk(1, 0x8001, cookie, error(30, 'ro')), /errno 30/],
  [
    'an error offset outside',
    true,
    (cookie) => chunk(1, 0x8002, cookie, error(5, 'x', u64(1536))),
    /error offset 1536/,
  ],
  [
    'a message longer than the chunk',
    true,
    (cookie) => chunk(1, 0x8001, cookie, error(5, 'ab').subarray(0, 7)),
    /does not add up/,
  ],
  [
    'a structured reply that was not negotiated',
    false,
    (cookie) => chunk(1, 1, cookie, data(1024, 512)),
    /without negotiation/,
  ],
  ['a simple errno of Linux', false, (cookie) => simple(30, cookie), /errno 30/],
];

for (const [what, structured, answer, message] of violations) {
  void test(`a reply with ${what} is a protocol violation`, async (t) => {
    const client = await liar(t, answer);
    // The liar takes no options: transmission begins at once, as if both sides had agreed.
    client.startTransmission({ replies: structured ? 'structured' : 'simple' });
    await t.rejects(client.read(1024, 512), { message });
    t.type(await client.ended(), ProtocolViolation);
  });
}

function extended(cookie: Buffer, type: number, payload: Buffer, offset = 1024): Buffer {
  const head = Buffer.alloc(32);
  head.writeUInt32BE(0x6e8a278c, 0);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(type, 6);
  head.set(cookie, 8);
  head.writeBigUInt64BE(BigInt(offset), 16);
  head.writeBigUInt64BE(BigInt(payload.length), 24);
  return Buffer.concat([head, payload]);
}

/** Words of 4 bytes, as in a BLOCK_STATUS chunk. */
function words(...values: number[]): Buffer {
  return Buffer.concat(values.map(encodeUint32));
}

/** Each answers BLOCK_STATUS of 512 bytes at 1024, for which context 9 is selected. */
const statusViolations: [string, boolean, number, (cookie: Buffer) => Buffer, RegExp][] = [
  ['of no extent', false, 0, (cookie) => chunk(1, 5, cookie, words(9)), /has no extent/],
  [
    'of an unselected context',
    false,
    0,
    (cookie) => chunk(1, 5, cookie, words(8, 512, 0)),
    /not sel/,
  ],
  ['that does not add up', false, 0, (cookie) => chunk(1, 5, cookie, words(9, 512)), /has 8 bytes/],
  ['with an extent of 0', false, 0, (cookie) => chunk(1, 5, cookie, words(9, 0, 0)), /of 0 bytes/],
  [
    'with an extent too many',
    false,
    0,
    (cookie) => chunk(1, 5, cookie, words(9, 512, 0, 512, 3)),
    /after the end/,
  ],
  [
    'of two extents for REQ_ONE',
    false,
    CMD_FLAG.REQ_ONE,
    (cookie) => chunk(1, 5, cookie, words(9, 256, 0, 256, 3)),
    /2 extents/,
  ],
  [
    'longer than REQ_ONE asked for',
    false,
    CMD_FLAG.REQ_ONE,
    (cookie) => chunk(1, 5, cookie, words(9, 513, 0)),
    /513 bytes/,
  ],
  [
    'twice',
    false,
    0,
    (cookie) =>
      Buffer.concat([chunk(0, 5, cookie, words(9, 512, 0)), chunk(1, 5, cookie, words(9, 512, 0))]),
    /second status/,
  ],
  ['that never comes', false, 0, (cookie) => chunk(1, 0, cookie, words()), /nothing of context 9/],
  [
    'of the compact kind',
    true,
    0,
    (cookie) => extended(cookie, 5, words(9, 512, 0)),
    /type is 0x5/,
  ],
  [
    'with a wrong count',
    true,
    0,
    (cookie) => extended(cookie, 6, words(9, 2, 0, 512, 0, 0)),
    /says 2 extents and has 1/,
  ],
  [
    'that echoes another offset',
    true,
    0,
    (cookie) => extended(cookie, 6, words(9, 1, 0, 512, 0, 0), 0),
    /echoes offset 0/,
  ],
  ['in a simple reply', true, 0, (cookie) => simple(22, cookie), /simple reply after extended/],
  [
    'in a compact chunk',
    true,
    0,
    (cookie) => chunk(1, 0, cookie, words()),
    /structured reply with/,
  ],
];

for (const [what, isExtended, flags, answer, message] of statusViolations) {
  void test(`a status ${what} is a protocol violation`, async (t) => {
    const client = await liar(t, answer);
    client.startTransmission({ replies: isExtended ? 'extended' : 'structured', contexts: [9] });
    const request = { command: CMD.BLOCK_STATUS, flags, offset: 1024, length: 512 };
    await t.rejects(client.request(request), { message });
    t.type(await client.ended(), ProtocolViolation);
  });
}

void test('an extended status is understood', async (t) => {
  const client = await liar(t, (cookie) => extended(cookie, 6, words(9, 1, 1, 0, 0, 3)));
  client.startTransmission({ replies: 'extended', contexts: [9] });
  const reply = await client.request({
    command: CMD.BLOCK_STATUS,
    offset: 1024,
    length: 2n ** 40n,
  });
  t.strictSame(reply.status.get(9), [{ length: 2n ** 32n, flags: 3n }]);
});

void test('nbdkit: BLOCK_STATUS tells holes', async (t) => {
  const client = await ready(t, await nbdkit(t, 'memory', '1M'));
  await client.option(OPT.STRUCTURED_REPLY);
  const [context] = await client.setMetaContext('');
  t.match(context, { name: 'base:allocation' });
  await client.go('');
  const { status } = await client.request({ command: CMD.BLOCK_STATUS, length: 1_048_576 });
  t.strictSame(status.get(context?.id ?? -1), [{ length: 1_048_576n, flags: 3n }]);
  await client.disconnect();
});

void test('chunks in any order, holes and an error with text are understood', async (t) => {
  const client = await liar(t, (cookie) =>
    Buffer.concat([
      chunk(0, 1, cookie, Buffer.concat([u64(1280), Buffer.alloc(256, 7)])),
      chunk(0, 2, cookie, Buffer.concat([u64(1024), Buffer.from([0, 0, 0, 128])])),
      chunk(1, 0x8002, cookie, error(5, 'medium', u64(1152))),
    ]),
  );
  client.startTransmission({ replies: 'structured' });
  const reply = await client.read(1024, 512);
  t.match(reply, { errno: 5, message: 'medium', errorOffset: 1152n, chunks: [1, 2, 0x8002] });
  t.ok(reply.data.subarray(256).equals(Buffer.alloc(256, 7)));
});

// SPDX-License-Identifier: Apache-2.0
import { createServer, connect as dial } from 'node:net';
import type { NetConnectOpts, Socket } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import { t as file, test } from 'tap';
import type { ReplyKind } from '../support/nbd-chunk-rules.js';
import { encodeClientFlags, encodeInfoData, encodeOption, OPT } from '../support/nbd-wire.js';
import {
  CMD,
  CMD_FLAG,
  encodeExtendedRequest,
  encodeMetaContextData,
  encodeRequest,
} from '../support/nbd-wire.js';
import { NbdClient } from '../support/nbd-client.js';
import { eventually } from '../support/process.js';
import { enter, keyhold, keyholdWithTls, negotiate } from './targets.js';

/*
 * A client that leaves after any byte of what it can say, every option and every command (mistakes
 * of nbd-server, and of nbdkit 1.34 and 1.36): the server forgets it and serves on. The client goes
 * politely, by half-closing and reading to the end, and rudely. tls.test.ts has the ClientHello.
 */

const clear = await keyhold(file);
const secure = await keyholdWithTls(file);
const { where } = clear.writable;

async function nothingIsLeft({ rig }: typeof clear): Promise<void> {
  await eventually('no connection is left', () => rig.plane.connections().length === 0);
}

/** Runs `leave` for every number of bytes of `message`, several at a time. */
async function afterEveryByte(
  message: Buffer,
  leave: (part: Buffer, politely: boolean) => Promise<void>,
): Promise<void> {
  const lengths = Array.from({ length: message.length + 1 }, (_, index) => index);
  const worker = async (): Promise<void> => {
    for (let length = lengths.pop(); length !== undefined; length = lengths.pop()) {
      await leave(message.subarray(0, length), true);
      await leave(message.subarray(0, length), false);
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

async function sayAndLeave(client: NbdClient, part: Buffer, politely: boolean): Promise<void> {
  client.send(part);
  if (politely) {
    client.socket.end();
    await client.stream.readToEnd();
  }
  client.destroy();
}

const NOTHING = Buffer.alloc(0);
const CONTEXTS = encodeMetaContextData('disk', ['base:allocation']);

/** Every option; of those that end negotiation ABORT stands alone. */
const OPTIONS: readonly (readonly [number, Buffer])[] = [
  [OPT.STRUCTURED_REPLY, NOTHING],
  [OPT.PEEK_EXPORT, NOTHING],
  [OPT.STARTTLS, NOTHING], // refused here, both in clear and inside TLS
  [OPT.LIST, NOTHING],
  [OPT.INFO, encodeInfoData('disk', [1, 2, 3])],
  [OPT.LIST_META_CONTEXT, CONTEXTS],
  [OPT.SET_META_CONTEXT, CONTEXTS],
  [OPT.EXTENDED_HEADERS, NOTHING],
  [4242, Buffer.alloc(3)],
];
const options = (): Buffer =>
  Buffer.concat(OPTIONS.map(([option, data]) => encodeOption(option, data)));

for (const target of [clear, secure]) {
  const { name, writable } = target;
  const inClear = writable.tls === undefined;

  void test(`${name}, CVE-2011-1925, CVE-2013-7441: leaving after every byte of the options`, async (t) => {
    const handshake = Buffer.concat([
      inClear ? encodeClientFlags(3) : NOTHING, // these come before TLS
      options(),
      encodeOption(OPT.GO, encodeInfoData('disk', [3])),
      encodeExtendedRequest({ command: CMD.READ, cookie: 1n, offset: 0n, length: 512 }),
    ]);
    await afterEveryByte(handshake, async (part, politely) => {
      const client = inClear ? await NbdClient.connect(where) : await negotiate(writable);
      await sayAndLeave(client, part, politely);
    });
    await nothingIsLeft(target);
    t.strictSame(
      target.rig.lines.filter(({ level }) => level === 'error'),
      [],
    );
    t.equal((await (await enter(t, writable, 'structured')).client.read(0, 512)).errno, 0);
  });

  void test(`${name}: leaving after every byte of an ABORT`, async () => {
    await afterEveryByte(encodeOption(OPT.ABORT), async (part, politely) => {
      await sayAndLeave(await negotiate(writable), part, politely);
    });
    await nothingIsLeft(target);
  });

  // Inside TLS the bytes are the same; one kind of them shows that their ends are.
  const kinds = inClear ? (['simple', 'structured', 'extended'] as const) : (['extended'] as const);
  for (const replies of kinds) {
    void test(`${name}, ${replies}: leaving after every byte of the requests`, async (t) => {
      const stream = messages(replies);
      await afterEveryByte(stream, async (part, politely) => {
        const client = await negotiate(writable);
        if (replies === 'structured') await client.option(OPT.STRUCTURED_REPLY);
        if (replies === 'extended') await client.option(OPT.EXTENDED_HEADERS);
        if (replies !== 'simple') await client.setMetaContext('disk');
        await client.option(OPT.GO, encodeInfoData('disk'));
        await sayAndLeave(client, part, politely);
      });
      await nothingIsLeft(target);
      const { client } = await enter(t, writable, replies);
      t.equal((await client.read(0, 512)).errno, 0);
      await client.disconnect();
      await nothingIsLeft(target);
      t.equal(target.rig.plane.disk('disk')?.clients().length, 0);
    });
  }
}

void test('a client may leave after every byte of an old handshake', async () => {
  const handshake = Buffer.concat([
    encodeClientFlags(1),
    encodeOption(OPT.EXPORT_NAME, Buffer.from('disk')),
    encodeRequest({ command: CMD.FLUSH, cookie: 1n, offset: 0n, length: 0 }),
  ]);
  await afterEveryByte(handshake, async (part, politely) => {
    await sayAndLeave(await NbdClient.connect(where), part, politely);
  });
  await nothingIsLeft(clear);
});

/** One of each command; a WRITE with a few bytes that are not aligned to anything. */
function messages(replies: ReplyKind): Buffer {
  const extended = replies === 'extended';
  const encode = extended ? encodeExtendedRequest : encodeRequest;
  const payloadFlag = extended ? CMD_FLAG.PAYLOAD_LEN : 0;
  const head = (command: number, length: number, flags = 0): Buffer =>
    encode({ command, flags, cookie: 7n, offset: command === CMD.FLUSH ? 0n : 1000n, length });
  const effect = Buffer.alloc(12); // u64 length of a BLOCK_STATUS with payload, u32 context id
  effect.writeBigUInt64BE(5000n, 0);
  effect.writeUInt32BE(1, 8);
  return Buffer.concat([
    head(CMD.WRITE, 11, payloadFlag | CMD_FLAG.FUA),
    Buffer.from('eleven byte'),
    head(CMD.READ, 70_000),
    head(CMD.CACHE, 5000),
    head(CMD.TRIM, 5000),
    head(CMD.WRITE_ZEROES, 5000),
    head(CMD.FLUSH, 0),
    head(CMD.BLOCK_STATUS, 100_000),
    ...(extended ? [head(CMD.BLOCK_STATUS, effect.length, payloadFlag), effect] : []),
    head(CMD.DISC, 0),
  ]);
}

/**
 * Passes the client's bytes on up to a number of them, then closes both ways. `chunks` are the
 * lengths of what the last client said.
 */
async function cutter(
  t: Test,
  lengthMax: () => number,
): Promise<{ where: NetConnectOpts; chunks: readonly number[] }> {
  const chunks: number[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = dial(secure.writable.where);
    let left = lengthMax();
    chunks.length = 0;
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
    }
    far.pipe(near);
    near.on('data', (bytes: Buffer) => {
      chunks.push(bytes.length);
      far.write(bytes.subarray(0, left));
      left -= bytes.length;
      if (left <= 0) {
        far.end();
        near.destroy();
      }
    });
  });
  const path = join(secure.rig.dir, 'cut.sock');
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { where: { path }, chunks };
}

void test('a client may leave after every byte of its last flight of the TLS handshake', async (t) => {
  // TLS 1.2, so that the server waits for that flight before it sends its own last one.
  const tls = { ...secure.writable.tls, maxVersion: 'TLSv1.2' } as const;
  const limit = { bytes: Infinity };
  const cut = await cutter(t, () => limit.bytes);
  const attempt = async (): Promise<boolean> => {
    const client = await NbdClient.handshake(cut.where);
    try {
      await client.startTls(tls);
      return true;
    } catch {
      return false;
    } finally {
      client.destroy();
    }
  };
  t.ok(await attempt(), 'without a cut the handshake succeeds');
  const whole = cut.chunks.reduce((sum, bytes) => sum + bytes, 0);
  const flight = cut.chunks.at(-1) ?? 0;
  t.ok(flight > 50 && flight < whole, 'key exchange, change of cipher and Finished');
  for (limit.bytes = whole - flight; limit.bytes < whole; limit.bytes += 1) {
    t.equal(await attempt(), false, `${limit.bytes} of ${whole} bytes`);
  }
  limit.bytes = Infinity;
  t.ok(await attempt());
  await nothingIsLeft(secure);
});

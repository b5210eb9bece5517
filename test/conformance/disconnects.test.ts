// SPDX-License-Identifier: Apache-2.0
import { t as file, test } from 'tap';
import { encodeClientFlags, encodeInfoData, encodeOption, OPT } from '../support/nbd-wire.js';
import {
  CMD,
  CMD_FLAG,
  encodeExtendedRequest,
  encodeMetaContextData,
  encodeRequest,
} from '../support/nbd-wire.js';
import type { RequestHead } from '../support/nbd-wire.js';
import { NbdClient } from '../support/nbd-client.js';
import { eventually } from '../support/process.js';
import { enter, keyhold } from './targets.js';

/*
 * A client that leaves after any byte of any message (CVE-2011-1925, CVE-2013-7441, nbdkit 1.34
 * and 1.36): the server forgets it and serves on. Politely, by half-closing and reading to the
 * end, and rudely.
 */

const target = await keyhold(file);
const { where } = target.writable;
const { rig } = target;

async function nothingIsLeft(): Promise<void> {
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

void test('a client may leave after every byte of the handshake', async (t) => {
  const handshake = Buffer.concat([
    encodeClientFlags(3),
    encodeOption(OPT.STRUCTURED_REPLY),
    encodeOption(OPT.SET_META_CONTEXT, encodeMetaContextData('disk', ['base:allocation'])),
    encodeOption(OPT.LIST),
    encodeOption(4242, Buffer.alloc(3)),
    encodeOption(OPT.GO, encodeInfoData('disk', [3])),
    encodeRequest({ command: CMD.READ, cookie: 1n, offset: 0n, length: 512 }),
  ]);
  await afterEveryByte(handshake, async (part, politely) => {
    await sayAndLeave(await NbdClient.connect(where), part, politely);
  });
  await nothingIsLeft();
  t.strictSame(
    rig.lines.filter(({ level }) => level === 'error'),
    [],
  );
  t.equal((await (await enter(t, target.writable, 'structured')).client.read(0, 512)).errno, 0);
});

void test('a client may leave after every byte of an old handshake', async () => {
  const handshake = Buffer.concat([
    encodeClientFlags(1),
    encodeOption(OPT.EXPORT_NAME, Buffer.from('disk')),
    encodeRequest({ command: CMD.FLUSH, cookie: 1n, offset: 0n, length: 0 }),
  ]);
  await afterEveryByte(handshake, async (part, politely) => {
    await sayAndLeave(await NbdClient.connect(where), part, politely);
  });
  await nothingIsLeft();
});

type Encode = (head: RequestHead) => Buffer;

/** One of each command; a WRITE with a few bytes that are not aligned to anything. */
function messages(encode: Encode, payloadFlag: number): Buffer {
  const head = (command: number, length: number, flags = 0): Buffer =>
    encode({ command, flags, cookie: 7n, offset: 1000n, length });
  return Buffer.concat([
    head(CMD.WRITE, 11, payloadFlag | CMD_FLAG.FUA),
    Buffer.from('eleven byte'),
    head(CMD.READ, 70_000),
    head(CMD.WRITE_ZEROES, 5000),
    head(CMD.BLOCK_STATUS, 100_000),
    head(CMD.DISC, 0),
  ]);
}

for (const replies of ['simple', 'structured', 'extended'] as const) {
  void test(`a client may leave after every byte of its requests, ${replies}`, async (t) => {
    const extended = replies === 'extended';
    const encode = extended ? encodeExtendedRequest : encodeRequest;
    const stream = messages(encode, extended ? CMD_FLAG.PAYLOAD_LEN : 0);
    await afterEveryByte(stream, async (part, politely) => {
      const client = await NbdClient.handshake(where);
      if (replies === 'structured') await client.option(OPT.STRUCTURED_REPLY);
      if (extended) await client.option(OPT.EXTENDED_HEADERS);
      await client.option(OPT.GO, encodeInfoData('disk'));
      await sayAndLeave(client, part, politely);
    });
    await nothingIsLeft();
    const { client } = await enter(t, target.writable, replies);
    t.equal((await client.read(0, 512)).errno, 0);
    await client.disconnect();
    await nothingIsLeft();
    t.equal(rig.plane.disk('disk')?.clients().length, 0);
  });
}

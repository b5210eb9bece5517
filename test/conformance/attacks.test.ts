// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import { connect, type NetConnectOpts } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { t as file, test } from 'tap';
import {
  NEGOTIATING_CONNECTIONS_MAX,
  NEGOTIATING_CONNECTIONS_PER_PEER_MAX,
} from '../../src/dataplane/negotiation-slots.js';
import { NbdClient } from '../support/nbd-client.js';
import {
  CMD,
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  encodeRequest,
  encodeUint32,
  ERRNO,
  OPT,
  REP,
} from '../support/nbd-wire.js';
import { eventually } from '../support/process.js';
import { Rig } from '../dataplane/rig.js';
import { enter, keyhold, keyholdWithTls, negotiate, SIZE_BYTES } from './targets.js';

/*
 * The attack list (reference/nbd.md section 3) against a real data plane. disconnects.test.ts has
 * the rows about clients that leave, mistakes.test.ts those about BLOCK_STATUS, tls.test.ts those
 * about TLS.
 */

const PAYLOAD_BYTES_MAX = 32 * 2 ** 20;

const NAME_OPTIONS = [
  OPT.EXPORT_NAME,
  OPT.INFO,
  OPT.GO,
  OPT.LIST_META_CONTEXT,
  OPT.SET_META_CONTEXT,
];

/** None is the name of a disk. */
const STRANGE_NAMES = [
  '../disk',
  '/etc/passwd',
  './disk',
  'disk/',
  'disk\0',
  'disk\0x',
  'DISK',
  'disk ',
  'dis',
  'disk\n',
  Buffer.from([0xff, 0xfe, 0x80]),
  Buffer.from([0xc0, 0xaf, 0x64]),
];

for (const { name, writable, readOnly, rig } of [await keyhold(file), await keyholdWithTls(file)]) {
  const { where, tls } = writable;

  /** Whether the server still serves a new client. */
  async function serves(): Promise<boolean> {
    const client = await negotiate(writable);
    await client.go('disk');
    const { errno } = await client.read(0, 512);
    await client.disconnect();
    return errno === 0;
  }

  /** Sends bytes after the hello; gives what comes back until the server closes. */
  async function answerTo(bytes: Buffer, politely = true): Promise<Buffer> {
    const client = await negotiate(writable);
    client.send(bytes);
    if (politely) client.socket.end();
    const answer = await client.stream.readToEnd();
    client.destroy();
    return answer;
  }

  void test(`${name}: CVE-2005-3534, CVE-2011-0530: lengths around the longest payload`, async (t) => {
    for (let length = PAYLOAD_BYTES_MAX - 28; length <= PAYLOAD_BYTES_MAX + 1; length += 1) {
      const { client } = await enter(t, writable, 'simple');
      client.send(encodeRequest({ command: CMD.WRITE, cookie: 1n, offset: 0n, length }));
      client.send(Buffer.alloc(1000));
      client.socket.end();
      t.equal((await client.stream.readToEnd()).length, 0, `${length} bytes`);
      client.destroy();
    }
    t.ok(await serves());
  });

  void test(`${name}: CVE-2005-3534, CVE-2011-0530: lengths around 2^32`, async (t) => {
    const { client } = await enter(t, writable, 'simple');
    for (let length = 2 ** 32 - 29; length < 2 ** 32; length += 1) {
      t.equal((await client.read(0, length)).errno, ERRNO.EINVAL, `READ of ${length}`);
      const zeroes = { command: CMD.WRITE_ZEROES, length };
      t.equal((await client.request(zeroes)).errno, ERRNO.ENOSPC, `WRITE_ZEROES of ${length}`);
    }
    await client.disconnect();
  });

  void test(`${name}: CVE-2005-3534: the longest WRITE is taken whole, one byte more closes`, async (t) => {
    await rig.serve('wide', { sizeBytes: 2 * PAYLOAD_BYTES_MAX });
    const { client } = await enter(t, { ...writable, export: 'wide' }, 'simple');
    t.equal((await client.write(1, Buffer.alloc(PAYLOAD_BYTES_MAX, 7))).errno, 0);
    t.equal((await client.read(PAYLOAD_BYTES_MAX, 2)).data.toString('hex'), '0700');
    const length = PAYLOAD_BYTES_MAX + 1;
    client.send(encodeRequest({ command: CMD.WRITE, cookie: 99n, offset: 0n, length }));
    t.equal((await client.ended()).name, 'ConnectionEnded');
  });

  for (const [option, data] of [
    [OPT.EXPORT_NAME, Buffer.from('missing')],
    [OPT.INFO, encodeInfoData('missing')],
    [OPT.GO, encodeInfoData('missing')],
  ] as const) {
    void test(`${name}: CVE-2011-1925: option ${option} for a missing export`, async (t) => {
      const answer = await answerTo(encodeOption(option, data));
      t.equal(answer.length > 0, option !== OPT.EXPORT_NAME);
      if (answer.length > 0) t.equal(answer.readUInt32BE(12), REP.ERR_UNKNOWN);
      t.ok(await serves());
    });
  }

  for (const length of [0xffffffff, 0x80000000, 0x7fffffff, 65_537]) {
    void test(`${name}: CVE-2022-26495, CVE-2017-15119: an option of ${length} bytes closes`, async (t) => {
      for (const option of [...NAME_OPTIONS, OPT.LIST, 4242]) {
        const head = encodeOption(option, Buffer.alloc(0), length);
        const answer = await answerTo(Buffer.concat([head, Buffer.alloc(1000)]), false);
        t.equal(answer.length, 0, `option ${option}`);
      }
      t.ok(await serves());
    });
  }

  void test(`${name}: CVE-2022-26495: a name of 4097 bytes is refused in every option`, async (t) => {
    const long = 'n'.repeat(4097);
    for (const option of [OPT.INFO, OPT.GO]) {
      const answer = await answerTo(encodeOption(option, encodeInfoData(long)));
      t.ok(answer.readUInt32BE(12) >= REP.ERR_UNSUP, `option ${option}`);
    }
    const query = encodeMetaContextData(long, []);
    const answer = await answerTo(encodeOption(OPT.SET_META_CONTEXT, query));
    t.ok(answer.readUInt32BE(12) >= REP.ERR_UNSUP);
    t.equal((await answerTo(encodeOption(OPT.EXPORT_NAME, Buffer.from(long)))).length, 0);
  });

  void test(`${name}: CVE-2022-26496: inner lengths that contradict the option are refused`, async (t) => {
    const data = Buffer.concat([Buffer.from('disk'), Buffer.alloc(2)]);
    for (const length of [5, 7, 4096, 4097, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff]) {
      for (const option of NAME_OPTIONS.slice(1)) {
        const option_ = encodeOption(option, Buffer.concat([encodeUint32(length), data]));
        const answer = await answerTo(option_);
        t.ok(answer.readUInt32BE(12) >= REP.ERR_UNSUP, `option ${option}, length ${length}`);
      }
    }
    t.ok(await serves());
  });

  void test(`${name}: CVE-2017-7539, CVE-2017-9524: junk and port scans before negotiation ends`, async (t) => {
    const junk = [
      Buffer.from('GET / HTTP/1.1\r\nHost: keyhold\r\n\r\n'),
      Buffer.from('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 'latin1'),
      Buffer.from('SSH-2.0-scan\r\n'),
      Buffer.alloc(100_000, 0),
      Buffer.alloc(100_000, 0xff),
      Buffer.from('IHAVEOPT'.repeat(1000)),
    ];
    for (const bytes of junk) {
      // Inside TLS too: whoever gets that far has proven nothing yet.
      const client = tls === undefined ? await NbdClient.connect(where) : await negotiate(writable);
      client.send(bytes);
      // A part of an option is waited for.
      if (tls !== undefined) client.socket.end();
      await client.stream.readToEnd();
      client.destroy();
    }
    for (let scan = 0; scan < 50; scan += 1) {
      const socket = connect(where);
      await new Promise((resolve) => socket.once('connect', resolve));
      socket.destroy();
    }
    // So many may negotiate at once: until the server has seen the scans end, it takes nobody else.
    await eventually('it serves again', () => serves().catch(() => false));
    t.pass('it serves again');
  });

  void test(`${name}: CVE-2017-15118, CVE-2020-10761: a name of 4096 bytes comes back shortened`, async (t) => {
    const hostile = '\u001b[31m\n'.repeat(682).padEnd(4096, 'x').slice(0, 4096);
    for (const option of [OPT.INFO, OPT.GO]) {
      const answer = await answerTo(encodeOption(option, encodeInfoData(hostile)));
      t.equal(answer.readUInt32BE(12), REP.ERR_UNKNOWN);
      const text = answer.subarray(20, 20 + answer.readUInt32BE(16));
      t.ok(text.length < 2048, `the text has ${text.length} bytes`);
      t.ok(
        text.every((byte) => byte >= 0x20 && byte !== 0x7f),
        'no control characters',
      );
    }
  });

  void test(`${name}: CVE-2019-14851: every pair of options in both orders`, async (t) => {
    const data: [number, Buffer][] = [
      [OPT.LIST, Buffer.alloc(0)],
      [OPT.PEEK_EXPORT, Buffer.alloc(0)],
      [OPT.STARTTLS, Buffer.alloc(0)],
      [OPT.INFO, encodeInfoData('disk')],
      [OPT.STRUCTURED_REPLY, Buffer.alloc(0)],
      [OPT.LIST_META_CONTEXT, encodeMetaContextData('disk', [])],
      [OPT.SET_META_CONTEXT, encodeMetaContextData('disk', ['base:allocation'])],
      [OPT.EXTENDED_HEADERS, Buffer.alloc(0)],
      [4242, Buffer.alloc(5)],
      [OPT.GO, encodeInfoData('missing')],
      [OPT.ABORT, Buffer.alloc(0)],
    ];
    for (const [first, firstData] of data) {
      for (const [second, secondData] of data) {
        const both = [encodeOption(first, firstData), encodeOption(second, secondData)];
        const answer = await answerTo(Buffer.concat(both));
        t.ok(answer.length >= 20, `options ${first} and ${second}`);
      }
    }
    t.ok(await serves());
  });

  void test(`${name}: the 65th option closes`, async (t) => {
    const client = await negotiate(writable);
    for (let option = 0; option < 64; option += 1) client.sendOption(4242);
    for (let option = 0; option < 64; option += 1) await client.receiveOptionReply(4242);
    client.sendOption(4242);
    t.equal((await client.stream.readToEnd()).length, 0);
    client.destroy();
  });

  void test(`${name}: a list of a thousand metadata queries is refused or bounded`, async (t) => {
    const client = await negotiate(writable);
    t.teardown(() => client.destroy());
    await client.option(OPT.STRUCTURED_REPLY);
    const queries = Array.from({ length: 1000 }, () => 'base:allocation');
    client.sendOption(OPT.SET_META_CONTEXT, encodeMetaContextData('disk', queries));
    const reply = await client.receiveOptionReply(OPT.SET_META_CONTEXT);
    t.equal(reply.type, REP.ERR_TOO_BIG);
    await client.go('disk');
    t.equal((await client.read(0, 512)).errno, 0);
  });

  for (const name_ of STRANGE_NAMES) {
    const shown = Buffer.from(name_).toString('hex');
    void test(`${name}: path traversal, NUL, control and bad UTF-8: export ${shown}`, async (t) => {
      const before = rig.lines.length;
      const answer = await answerTo(encodeOption(OPT.INFO, encodeInfoData(name_)));
      t.ok(answer.readUInt32BE(12) >= REP.ERR_UNSUP);
      t.equal((await answerTo(encodeOption(OPT.EXPORT_NAME, Buffer.from(name_)))).length, 0);
      const logged = JSON.stringify(rig.lines.slice(before));
      t.notMatch(logged, /\\u00(0[0-9a-f]|1[0-9a-f]|7f)|\ufffd/, 'the log stays readable');
    });
  }

  void test(`${name}: a cookie used twice gets two answers`, async (t) => {
    const { client } = await enter(t, writable, 'simple');
    const twice = encodeRequest({ command: CMD.FLUSH, cookie: 5n, offset: 0n, length: 0 });
    const disc = encodeRequest({ command: CMD.DISC, cookie: 0n, offset: 0n, length: 0 });
    const answers = negotiate(writable).then(async (raw) => {
      await raw.option(OPT.GO, encodeInfoData('disk'));
      raw.send(Buffer.concat([twice, twice, disc]));
      return raw.stream.readToEnd();
    });
    t.equal((await answers).length, 32);
    await client.disconnect();
  });

  void test(`${name}: requests after DISC are not answered`, async (t) => {
    const raw = await negotiate(writable);
    await raw.option(OPT.GO, encodeInfoData('disk'));
    const head = (command: number): Buffer =>
      encodeRequest({ command, cookie: 5n, offset: 0n, length: 0 });
    raw.send(Buffer.concat([head(CMD.FLUSH), head(CMD.DISC), head(CMD.FLUSH), Buffer.alloc(9999)]));
    t.equal((await raw.stream.readToEnd()).length, 16);
    raw.destroy();
  });

  void test(`${name}: a client that half-closes after DISC gets what it asked for before`, async (t) => {
    const { client } = await enter(t, writable, 'simple');
    const replies = Array.from({ length: 50 }, (_, index) => client.read(index * 512, 4096));
    client.send(encodeRequest({ command: CMD.DISC, cookie: 0n, offset: 0n, length: 0 }));
    client.socket.end();
    for (const reply of replies) t.equal((await reply).errno, 0);
    t.equal((await client.ended()).name, 'ConnectionEnded');
  });

  void test(`${name}: requests without end, never read, stay bounded and harm nobody`, async (t) => {
    const raw = await negotiate(writable);
    await raw.option(OPT.GO, encodeInfoData('disk'));
    raw.socket.pause();
    const read = encodeRequest({ command: CMD.READ, cookie: 1n, offset: 0n, length: SIZE_BYTES });
    const many = Buffer.concat(Array.from({ length: 2000 }, () => read));
    for (let round = 0; round < 50 && raw.socket.write(many); round += 1) await sleep(1);
    await sleep(200);
    const [connection] = rig.plane.connections().filter(({ inFlight }) => inFlight > 0);
    t.ok((connection?.inFlight ?? 0) <= 128, `${connection?.inFlight} in flight`);
    t.ok(await serves());
    raw.destroy();
    await eventually('it is forgotten', () => rig.plane.connections().length === 0);
  });

  void test(`${name}: a WRITE to a read-only disk changes nothing`, async (t) => {
    const { client } = await enter(t, readOnly, 'simple');
    for (const command of [CMD.WRITE, CMD.WRITE_ZEROES, CMD.TRIM]) {
      const payload = command === CMD.WRITE ? { payload: Buffer.alloc(4096, 1) } : {};
      t.equal((await client.request({ command, length: 4096, ...payload })).errno, ERRNO.EPERM);
    }
    t.ok((await client.read(0, 4096)).data.equals(Buffer.alloc(4096)));
    await client.disconnect();
  });

  void test(`${name}: nothing above was an error of ours`, (t) => {
    t.strictSame(rig.deaths, []);
    t.strictSame(
      rig.lines.filter(({ level }) => level === 'error'),
      [],
    );
    t.end();
  });
}

void test('CVE-2024-7409: stopping with a hundred unfinished handshakes', async (t) => {
  const doomed = await Rig.start(t);
  await doomed.serve('disk');
  const port = doomed.plane.listenTcp('127.0.0.1', 0);
  const from = (localAddress: string): NetConnectOpts => ({
    host: '127.0.0.1',
    port,
    localAddress,
  });
  const clients = await Promise.all(
    Array.from({ length: NEGOTIATING_CONNECTIONS_MAX }, async (_, index) => {
      // One address may have half of them.
      const client = await NbdClient.handshake(from(index % 2 === 0 ? '127.0.0.2' : '127.0.0.3'));
      if (index % 4 === 0) client.send(encodeOption(OPT.GO, Buffer.alloc(0), 100));
      return client;
    }),
  );
  t.equal(doomed.plane.connections().length, NEGOTIATING_CONNECTIONS_MAX);
  await t.rejects(NbdClient.handshake(from('127.0.0.1')), 'all places are taken');
  await doomed.plane.stop();
  for (const client of clients) {
    await client.stream.readToEnd();
    client.destroy();
  }
  t.strictSame(doomed.deaths, []);
});

for (const length of [NEGOTIATING_CONNECTIONS_PER_PEER_MAX, 10 * NEGOTIATING_CONNECTIONS_MAX]) {
  void test(`${length} connections of one address keep out nobody at another`, async (t) => {
    const rig = await Rig.start(t);
    await rig.serve('disk');
    const port = rig.plane.listenTcp('127.0.0.1', 0);
    const place = { host: '127.0.0.1', port };
    const flood = Array.from({ length }, () => connect({ ...place, localAddress: '127.0.0.2' }));
    t.teardown(() => flood.forEach((socket) => socket.destroy()));
    await Promise.all(flood.map((socket) => once(socket, 'connect')));
    const client = await NbdClient.handshake(place);
    t.teardown(() => client.destroy());
    await client.go('disk');
    t.equal((await client.read(0, 512)).errno, 0);
    t.ok(
      flood.some((socket) => socket.readyState === 'open'),
      'the flood is still there',
    );
  });
}

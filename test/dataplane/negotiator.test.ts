// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import {
  NEGOTIATING_CONNECTIONS_MAX,
  NEGOTIATING_CONNECTIONS_PER_PEER_MAX,
} from '../../src/dataplane/negotiation-slots.js';
import { HANDSHAKE_TIME_MAX_MS, Negotiator } from '../../src/dataplane/negotiator.js';
import { FakeClock } from '../support/fake-clock.js';
import {
  encodeClientFlags,
  encodeInfoData,
  encodeOption,
  encodeRequest,
  OPT,
  parseHello,
  parseOptionReplies,
  REP,
} from '../support/nbd-wire.js';
import { collectingLogger, type LogLine } from './lines.js';
import { DEMO, FakeTransport, openDirectory } from './negotiator-world.js';

/** A connection over the unix socket; its process and its user have the same number. */
function connection(connectionId: number) {
  const address = { kind: 'unix', pid: connectionId, uid: connectionId, gid: 4 } as const;
  return { connectionId, listenerId: 1, address };
}

function world() {
  const transport = new FakeTransport();
  const clock = new FakeClock();
  const lines: LogLine[] = [];
  const logger = collectingLogger(lines);
  const negotiator = new Negotiator({
    exportsFor: () => openDirectory(DEMO),
    listenerTls: () => ({ mode: 'off' }),
    transport,
    clock,
    logger,
  });
  return { transport, clock, lines, negotiator };
}

/** A world with connection 1 open and its client flags received. */
function opened() {
  const all = world();
  all.negotiator.opened(connection(1));
  all.negotiator.received(1, encodeClientFlags(3));
  return all;
}

const GO = encodeOption(OPT.GO, encodeInfoData('demo'));

void test('a new connection is answered with the hello, and read from next', (t) => {
  const { negotiator, transport } = world();
  negotiator.opened(connection(1));
  t.equal(parseHello(transport.last().send), 3);
  t.same(transport.last().next, { kind: 'read' });
  t.end();
});

void test('bytes that complete nothing are answered with nothing, and read from next', (t) => {
  const { negotiator, transport } = opened();
  negotiator.received(1, GO.subarray(0, 5));
  t.same(transport.last(), { connectionId: 1, send: Buffer.alloc(0), next: { kind: 'read' } });
  t.end();
});

void test('every event gets exactly one answer', (t) => {
  const { negotiator, transport } = opened();
  const options = Buffer.concat([encodeOption(OPT.LIST), encodeOption(99), GO]);
  for (const byte of options) negotiator.received(1, Uint8Array.of(byte));
  t.equal(transport.answers.length, 2 + options.length);
  t.end();
});

void test('GO hands the connection to the disk of that name', (t) => {
  const { negotiator, transport } = opened();
  negotiator.received(1, GO);
  const { next, send } = transport.last();
  t.match(next, { kind: 'transmission', diskId: 7, replies: 'simple' });
  t.equal(parseOptionReplies(send).at(-1)?.type, REP.ACK);
  t.end();
});

void test('what was agreed on goes with the connection', (t) => {
  const { negotiator, transport } = opened();
  negotiator.received(1, Buffer.concat([encodeOption(OPT.STRUCTURED_REPLY), GO]));
  t.match(transport.last().next, { kind: 'transmission', replies: 'structured' });
  t.end();
});

void test('requests that came with GO go to the shard as leftover', (t) => {
  const { negotiator, transport } = opened();
  const request = encodeRequest({ command: 0, cookie: 1n, offset: 0n, length: 512 });
  negotiator.received(1, Buffer.concat([GO, request]));
  const { next } = transport.last();
  t.ok(next.kind === 'transmission' && request.equals(next.leftover));
  t.end();
});

void test('the leftover outlives the buffer that it came in', (t) => {
  const { negotiator, transport } = opened();
  const received = Buffer.concat([GO, Buffer.from('first')]);
  negotiator.received(1, received);
  received.fill(0);
  const { next } = transport.last();
  t.equal(next.kind === 'transmission' && Buffer.from(next.leftover).toString(), 'first');
  t.end();
});

void test('a disk that went offline before transmission closes the connection', (t) => {
  const { negotiator, transport } = opened();
  transport.diskIds.delete('demo');
  negotiator.received(1, GO);
  t.same(transport.last().next, { kind: 'close' });
  t.end();
});

void test('a connection in transmission is no longer in negotiation', (t) => {
  const { negotiator, clock } = opened();
  negotiator.received(1, GO);
  t.equal(negotiator.negotiatingCount, 0);
  t.equal(clock.pendingCount, 0, 'its time limit is gone');
  t.end();
});

void test('bytes of a connection that nobody knows are not answered', (t) => {
  const { negotiator, transport } = world();
  negotiator.received(1, GO);
  t.same(transport.answers, []);
  t.end();
});

void test('bytes that come after negotiation are not answered', (t) => {
  const { negotiator, transport } = opened();
  negotiator.received(1, GO);
  const count = transport.answers.length;
  negotiator.received(1, GO);
  t.equal(transport.answers.length, count);
  t.end();
});

void test('ABORT is acknowledged before the connection closes', (t) => {
  const { negotiator, transport } = opened();
  negotiator.received(1, encodeOption(OPT.ABORT));
  const { send, next } = transport.last();
  t.same(
    parseOptionReplies(send).map(({ type }) => type),
    [REP.ACK],
  );
  t.same(next, { kind: 'close' });
  t.end();
});

for (const [reason, bytes] of [
  ['bad-magic', Buffer.alloc(16, 'x')],
  ['option-too-large', encodeOption(OPT.GO, Buffer.alloc(0), 2 ** 31)],
  ['export-refused', encodeOption(OPT.EXPORT_NAME, Buffer.from('other'))],
  ['bad-export-name', encodeOption(OPT.EXPORT_NAME, Buffer.alloc(0), 5000)],
] as const) {
  void test(`a connection closed for ${reason} is logged with that reason`, (t) => {
    const { negotiator, transport, lines } = opened();
    negotiator.received(1, bytes);
    t.same(transport.last().next, { kind: 'close' });
    t.match(lines, [{ level: 'debug', fields: { connectionId: 1, reason } }]);
    t.end();
  });
}

void test('client flags that do not exist close the connection', (t) => {
  const { negotiator, transport } = world();
  negotiator.opened(connection(1));
  negotiator.received(1, encodeClientFlags(0x80));
  t.same(transport.last().next, { kind: 'close' });
  t.end();
});

void test('a handshake that takes too long is cut off', async (t) => {
  const { transport, clock, negotiator, lines } = opened();
  await clock.advance(HANDSHAKE_TIME_MAX_MS);
  t.same(transport.closed, [1]);
  t.equal(negotiator.negotiatingCount, 0);
  t.match(lines, [{ level: 'info', message: 'handshake took too long' }]);
});

void test('a handshake is not cut off before its time', async (t) => {
  const { transport, clock } = opened();
  await clock.advance(HANDSHAKE_TIME_MAX_MS - 1);
  t.same(transport.closed, []);
});

void test('a client that keeps sending gets no more time than a silent one', async (t) => {
  const { transport, clock, negotiator } = opened();
  for (let second = 0; second < HANDSHAKE_TIME_MAX_MS; second += 1000) {
    negotiator.received(1, encodeOption(OPT.LIST));
    await clock.advance(1000);
  }
  t.same(transport.closed, [1]);
});

void test('a connection that left in time is not cut off later', async (t) => {
  const { transport, clock, negotiator } = opened();
  negotiator.closed(1);
  await clock.advance(HANDSHAKE_TIME_MAX_MS);
  t.same(transport.closed, []);
});

void test('a transmission is not cut off by the time limit of its handshake', async (t) => {
  const { transport, clock, negotiator } = opened();
  negotiator.received(1, GO);
  await clock.advance(2 * HANDSHAKE_TIME_MAX_MS);
  t.same(transport.closed, []);
});

/** As many connections in negotiation as there may be. */
function crowded() {
  const all = world();
  for (let id = 1; id <= NEGOTIATING_CONNECTIONS_MAX; id += 1)
    all.negotiator.opened(connection(id));
  return all;
}

void test('one connection too many is closed without a word', (t) => {
  const { negotiator, transport, lines } = crowded();
  negotiator.opened(connection(1000));
  t.same(transport.last(), {
    connectionId: 1000,
    send: Buffer.alloc(0),
    next: { kind: 'close' },
  });
  t.match(lines, [
    {
      level: 'warn',
      fields: { peer: 'unix:pid=1000,uid=1000,gid=4', scope: 'all', max: 100, refused: 1 },
    },
  ]);
  t.end();
});

void test('a connection that was refused holds no place', (t) => {
  const { negotiator } = crowded();
  negotiator.opened(connection(1000));
  t.equal(negotiator.negotiatingCount, NEGOTIATING_CONNECTIONS_MAX);
  t.end();
});

for (const [how, leave] of [
  ['left', ({ negotiator }: ReturnType<typeof crowded>) => negotiator.closed(1)],
  [
    'went on to transmission',
    ({ negotiator }: ReturnType<typeof crowded>) =>
      negotiator.received(1, Buffer.concat([encodeClientFlags(3), GO])),
  ],
  [
    'broke the protocol',
    ({ negotiator }: ReturnType<typeof crowded>) => negotiator.received(1, encodeClientFlags(0x80)),
  ],
] as const) {
  void test(`a connection that ${how} makes room for another`, (t) => {
    const all = crowded();
    leave(all);
    all.negotiator.opened(connection(1000));
    t.same(all.transport.last().next, { kind: 'read' });
    t.end();
  });
}

void test('the end of the time limit makes room for others', async (t) => {
  const { negotiator, clock, transport } = crowded();
  await clock.advance(HANDSHAKE_TIME_MAX_MS);
  negotiator.opened(connection(1000));
  t.same(transport.last().next, { kind: 'read' });
});

void test('a fault of our own closes that connection and is logged as an error', (t) => {
  const { negotiator, transport, lines } = opened();
  negotiator.received(1, encodeOption(OPT.GO, encodeInfoData('fault')));
  t.same(transport.last().next, { kind: 'close' });
  t.match(lines, [{ level: 'error', fields: { cause: 'a fault of our own' } }]);
  t.equal(negotiator.negotiatingCount, 0);
  t.end();
});

void test('one connection too many of a peer is closed without a word, and others are not', (t) => {
  const { negotiator, transport, lines } = world();
  const address = { kind: 'tcp', address: '192.0.2.7' } as const;
  for (let id = 1; id <= NEGOTIATING_CONNECTIONS_PER_PEER_MAX + 1; id += 1) {
    negotiator.opened({ connectionId: id, listenerId: 1, address: { ...address, port: id } });
  }
  t.same(transport.last().next, { kind: 'close' });
  t.match(lines, [{ level: 'warn', fields: { scope: 'peer', peer: /^192.0.2.7:/ } }]);
  negotiator.opened(connection(1000));
  t.same(transport.last().next, { kind: 'read' });
  t.end();
});

void test('a flood of refused connections is logged once in ten seconds, with their number', async (t) => {
  const { negotiator, lines, clock } = crowded();
  for (let id = 1000; id < 2000; id += 1) negotiator.opened(connection(id));
  t.equal(lines.length, 1);
  await clock.advance(HANDSHAKE_TIME_MAX_MS);
  lines.length = 0;
  for (let id = 2000; id <= 2000 + NEGOTIATING_CONNECTIONS_MAX; id += 1) {
    negotiator.opened(connection(id));
  }
  t.match(lines, [{ level: 'warn', fields: { refused: 1000 } }]);
});

const STOPPED: readonly [string, Buffer][] = [
  ['GO', GO],
  ['LIST', encodeOption(OPT.LIST)],
  ['STARTTLS', encodeOption(OPT.STARTTLS)],
  ['an unknown option', encodeOption(99)],
];

for (const [what, option] of STOPPED) {
  void test(`${what} while the daemon stops is ERR_SHUTDOWN`, (t) => {
    const { negotiator, transport } = opened();
    negotiator.stop();
    negotiator.received(1, option);
    t.match(parseOptionReplies(transport.last().send), [
      { type: REP.ERR_SHUTDOWN, data: Buffer.from('the server is shutting down') },
    ]);
    t.same(transport.last().next, { kind: 'read' });
    t.end();
  });
}

void test('an option half of which came before the daemon stopped is ERR_SHUTDOWN, too', (t) => {
  const { negotiator, transport } = opened();
  negotiator.received(1, GO.subarray(0, -1));
  negotiator.stop();
  negotiator.received(1, GO.subarray(-1));
  t.match(parseOptionReplies(transport.last().send), [{ type: REP.ERR_SHUTDOWN }]);
  t.end();
});

void test('EXPORT_NAME while the daemon stops closes', (t) => {
  const { negotiator, transport, lines } = opened();
  negotiator.stop();
  negotiator.received(1, encodeOption(OPT.EXPORT_NAME, Buffer.from('demo')));
  t.same(transport.last(), { connectionId: 1, send: Buffer.alloc(0), next: { kind: 'close' } });
  t.match(lines, [{ fields: { reason: 'shutting-down' } }]);
  t.end();
});

void test('ABORT while the daemon stops is acknowledged', (t) => {
  const { negotiator, transport } = opened();
  negotiator.stop();
  negotiator.received(1, encodeOption(OPT.ABORT));
  t.match(parseOptionReplies(transport.last().send), [{ type: REP.ACK }]);
  t.same(transport.last().next, { kind: 'close' });
  t.end();
});

void test('a client that connects while the daemon stops is told so at its first option', (t) => {
  const { negotiator, transport } = world();
  negotiator.stop();
  negotiator.opened(connection(1));
  negotiator.received(1, encodeClientFlags(3));
  negotiator.received(1, GO);
  t.match(parseOptionReplies(transport.last().send), [{ type: REP.ERR_SHUTDOWN }]);
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import {
  HANDSHAKE_TIME_MAX_MS,
  type ListenerTls,
  Negotiator,
} from '../../src/dataplane/negotiator.js';
import type { ExportDirectory } from '../../src/nbd/exports.js';
import type { Peer, TlsFacts } from '../../src/nbd/peer.js';
import { FakeClock } from '../support/fake-clock.js';
import {
  encodeClientFlags,
  encodeInfoData,
  encodeOption,
  OPT,
  parseOptionReplies,
  REP,
} from '../support/nbd-wire.js';
import { collectingLogger, type LogLine } from './lines.js';
import { DEMO, FakeTransport, openDirectory } from './negotiator-world.js';

const ADDRESS = { kind: 'tcp', address: '192.0.2.7', port: 40_000 } as const;

const FACTS: TlsFacts = {
  version: 'TLSv1.3',
  cipher: 'TLS_AES_256_GCM_SHA384',
  certificate: { subject: 'CN=vm1', subjectAltNames: [], fingerprintSha256: 'a'.repeat(64) },
  pskIdentity: null,
};

/** Only who has shown a certificate sees the disk. */
function exportsFor(peer: Peer): ExportDirectory {
  return peer.tls?.certificate?.subject === 'CN=vm1' ? openDirectory(DEMO) : openDirectory();
}

/** Connection 1 of a listener with TLS; its client flags have been received, unless told not to. */
function opened(mode: 'allow' | 'require', directoryFor = exportsFor, { flags } = { flags: true }) {
  const transport = new FakeTransport();
  const clock = new FakeClock();
  const lines: LogLine[] = [];
  const peers: Peer[] = [];
  const negotiator = new Negotiator({
    exportsFor: (peer) => {
      peers.push(peer);
      return directoryFor(peer);
    },
    listenerTls: (id): ListenerTls => (id === 4 ? { mode, contextId: 44 } : { mode: 'off' }),
    transport,
    clock,
    logger: collectingLogger(lines),
  });
  negotiator.opened({ connectionId: 1, listenerId: 4, address: ADDRESS });
  if (flags) negotiator.received(1, encodeClientFlags(3));
  return { transport, clock, lines, peers, negotiator };
}

/** The same after STARTTLS and the handshake. */
function secured(mode: 'allow' | 'require') {
  const all = opened(mode);
  all.negotiator.received(1, encodeOption(OPT.STARTTLS));
  all.negotiator.tlsStarted(1, FACTS);
  return all;
}

const GO = encodeOption(OPT.GO, encodeInfoData('demo'));

for (const mode of ['allow', 'require'] as const) {
  void test(`${mode}: STARTTLS is acknowledged in the answer that starts TLS`, (t) => {
    const { negotiator, transport } = opened(mode);
    negotiator.received(1, encodeOption(OPT.STARTTLS));
    const { send, next } = transport.last();
    t.same(next, { kind: 'start-tls', contextId: 44 });
    t.match(parseOptionReplies(send), [{ option: OPT.STARTTLS, type: REP.ACK }]);
    t.end();
  });

  void test(`${mode}: the end of the TLS handshake is answered with nothing, and read from next`, (t) => {
    const { transport } = secured(mode);
    t.same(transport.last(), { connectionId: 1, send: Buffer.alloc(0), next: { kind: 'read' } });
    t.end();
  });

  void test(`${mode}: GO after TLS reaches the disk that only the certificate opens`, (t) => {
    const { negotiator, transport } = secured(mode);
    negotiator.received(1, GO);
    t.match(transport.last().next, { kind: 'transmission', diskId: 7 });
    t.equal(negotiator.negotiatingCount, 0);
    t.end();
  });

  void test(`${mode}: GO before TLS does not`, (t) => {
    const { negotiator, transport } = opened(mode);
    negotiator.received(1, GO);
    t.same(transport.last().next, { kind: 'read' });
    t.match(parseOptionReplies(transport.last().send), [{ type: REP.ERR_TLS_REQD }]);
    t.end();
  });

  void test(`${mode}: bytes with STARTTLS close the connection without an ACK`, (t) => {
    const { negotiator, transport, lines } = opened(mode);
    negotiator.received(1, Buffer.concat([encodeOption(OPT.STARTTLS), GO]));
    t.same(transport.last(), { connectionId: 1, send: Buffer.alloc(0), next: { kind: 'close' } });
    t.match(lines, [{ fields: { reason: 'bytes-before-tls', peer: '192.0.2.7:40000' } }]);
    t.equal(negotiator.negotiatingCount, 0);
    t.end();
  });

  void test(`${mode}: a TLS handshake that does not end is cut off with the whole handshake`, async (t) => {
    const { negotiator, transport, clock } = opened(mode);
    await clock.advance(HANDSHAKE_TIME_MAX_MS - 1000);
    negotiator.received(1, encodeOption(OPT.STARTTLS));
    await clock.advance(1000);
    t.same(transport.closed, [1]);
    t.equal(negotiator.negotiatingCount, 0);
  });

  void test(`${mode}: TLS buys no more time`, async (t) => {
    const { transport, clock } = secured(mode);
    await clock.advance(HANDSHAKE_TIME_MAX_MS);
    t.same(transport.closed, [1]);
  });

  void test(`${mode}: a client that leaves during the TLS handshake holds no place`, (t) => {
    const { negotiator, clock } = opened(mode);
    negotiator.received(1, encodeOption(OPT.STARTTLS));
    negotiator.closed(1);
    t.equal(negotiator.negotiatingCount, 0);
    t.equal(clock.pendingCount, 0);
    t.end();
  });

  void test(`${mode}: the end of a handshake on a connection that left is not answered`, (t) => {
    const { negotiator, transport, peers } = opened(mode);
    negotiator.received(1, encodeOption(OPT.STARTTLS));
    negotiator.closed(1);
    const count = transport.answers.length;
    negotiator.tlsStarted(1, FACTS);
    t.equal(transport.answers.length, count);
    t.same(peers, []);
    t.end();
  });

  void test(`${mode}: the end of a handshake that nobody began closes the connection`, (t) => {
    const { negotiator, transport, lines } = opened(mode);
    negotiator.tlsStarted(1, FACTS);
    t.same(transport.last().next, { kind: 'close' });
    t.match(lines, [{ level: 'error', fields: { cause: /TLS started in state negotiating/ } }]);
    t.end();
  });
}

void test('require: nobody asks what a peer may see before TLS has said who it is', (t) => {
  const { negotiator, peers } = opened('require');
  for (const option of [GO, encodeOption(OPT.LIST), encodeOption(99)]) {
    negotiator.received(1, option);
  }
  t.same(peers, []);
  negotiator.received(1, encodeOption(OPT.STARTTLS));
  negotiator.tlsStarted(1, FACTS);
  t.same(peers, [{ address: ADDRESS, tls: FACTS }]);
  t.end();
});

void test('allow: what a peer may see is asked anew after TLS', (t) => {
  const { negotiator, peers } = opened('allow');
  negotiator.received(1, encodeOption(OPT.LIST));
  negotiator.received(1, encodeOption(OPT.STARTTLS));
  negotiator.tlsStarted(1, FACTS);
  t.same(
    peers.map(({ tls }) => tls),
    [null, FACTS],
  );
  t.end();
});

void test('a fault of our own in what a peer may see costs that connection alone', (t) => {
  const { negotiator, transport, lines } = opened('allow', () => {
    throw new Error('a fault of our own');
  });
  negotiator.received(1, encodeOption(OPT.LIST));
  t.same(transport.last().next, { kind: 'close' });
  t.match(lines, [{ level: 'error', fields: { cause: 'a fault of our own' } }]);
  t.equal(negotiator.negotiatingCount, 0);
  t.end();
});

void test('a client that leaves after any byte leaves nothing behind', (t) => {
  const clear = Buffer.concat([encodeClientFlags(3), encodeOption(99), encodeOption(OPT.STARTTLS)]);
  const secret = Buffer.concat([encodeOption(OPT.LIST), GO]);
  for (let count = 0; count < clear.length + secret.length; count += 1) {
    const { negotiator, transport, clock } = opened('require', exportsFor, { flags: false });
    for (const byte of Buffer.concat([clear, secret]).subarray(0, count)) {
      negotiator.received(1, Uint8Array.of(byte));
      if (transport.last().next.kind === 'start-tls') negotiator.tlsStarted(1, FACTS);
      if (negotiator.negotiatingCount === 0) t.fail(`closed before byte ${count}`);
    }
    negotiator.closed(1);
    negotiator.closed(1);
    t.equal(negotiator.negotiatingCount + clock.pendingCount, 0, `after ${count} bytes`);
  }
  t.end();
});

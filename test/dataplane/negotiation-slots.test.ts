// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import {
  NEGOTIATING_CONNECTIONS_MAX,
  NEGOTIATING_CONNECTIONS_PER_PEER_MAX,
  NegotiationSlots,
} from '../../src/dataplane/negotiation-slots.js';
import type { PeerAddress } from '../../src/nbd/peer.js';

const tcp = (address: string, port = 1000): PeerAddress => ({ kind: 'tcp', address, port });
const unix = (uid: number, pid = 1): PeerAddress => ({ kind: 'unix', pid, uid, gid: 0 });

/** Takes every slot that the peer of this address may have. */
function filled(address: PeerAddress): NegotiationSlots {
  const slots = new NegotiationSlots();
  for (let count = 0; count < NEGOTIATING_CONNECTIONS_PER_PEER_MAX; count += 1) slots.take(address);
  return slots;
}

const FULL = { scope: 'peer', max: NEGOTIATING_CONNECTIONS_PER_PEER_MAX };

void test('the limits leave room for others beside any one peer', (t) => {
  t.equal(NEGOTIATING_CONNECTIONS_MAX, 100);
  t.equal(NEGOTIATING_CONNECTIONS_PER_PEER_MAX, 50);
  t.end();
});

for (const [what, first, second] of [
  ['another port of an address', tcp('192.0.2.7', 1), tcp('192.0.2.7', 2)],
  ['another process of a user', unix(7, 1), unix(7, 2)],
  ['another address of an IPv6 /64', tcp('2001:db8:1:2::1'), tcp('2001:db8:1:2:ffff::9')],
  ['another way to write an IPv6 /64', tcp('2001:db8::1'), tcp('2001:db8:0:0:1:2:3:4')],
] as const) {
  void test(`${what} is the same peer`, (t) => {
    t.strictSame(filled(first).take(second), FULL);
    t.end();
  });
}

for (const [what, first, second] of [
  ['another IPv4 address', tcp('192.0.2.7'), tcp('192.0.2.70')],
  ['another user', unix(7), unix(70)],
  ['another IPv6 /64', tcp('2001:db8:1:2::1'), tcp('2001:db8:1:3::1')],
  ['the IPv6 loopback beside a documentation address', tcp('::1'), tcp('2001:db8::1')],
  ['a user beside an address', unix(7), tcp('::7')],
] as const) {
  void test(`${what} is another peer`, (t) => {
    t.equal(filled(first).take(second), undefined);
    t.end();
  });
}

void test('the limit of all holds for peers with slots left', (t) => {
  const slots = new NegotiationSlots();
  for (let uid = 0; uid < NEGOTIATING_CONNECTIONS_MAX; uid += 1) slots.take(unix(uid));
  t.strictSame(slots.take(unix(1)), { scope: 'all', max: NEGOTIATING_CONNECTIONS_MAX });
  slots.release(unix(5));
  t.equal(slots.take(unix(1)), undefined);
  t.end();
});

void test('a refused connection takes nothing from its peer', (t) => {
  const slots = filled(unix(7));
  slots.take(unix(7));
  slots.release(unix(7));
  t.equal(slots.take(unix(7)), undefined);
  t.end();
});

void test('a slot that was never taken cannot be given back', (t) => {
  const slots = filled(unix(7));
  t.throws(() => slots.release(unix(8)), { message: 'no slot of uid 8 is taken' });
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { BUSY_MS_MAX, Linger, QUIET_MS } from '../../src/disks/linger.js';
import type { DiskClient } from '../../src/disks/ports.js';
import { LOCAL_PEER } from '../support/fake-plane.js';

const LINGER_MS = 5000;
const FROM_MS = 1_000_000;
const END_MS = FROM_MS + LINGER_MS;

function clients(...requests: number[]): DiskClient[] {
  return requests.map((count, id) => ({
    ...{ id, peer: LOCAL_PEER, connectedAtBootMs: 0 },
    requests: count,
  }));
}

/** When the cut comes for a client whose count of requests at a time is `requestsAt`. */
function cutMs(lingerMs: number, requestsAt: (nowMs: number) => number): number {
  const linger = new Linger(lingerMs);
  let nowMs = FROM_MS + linger.begin(clients(requestsAt(FROM_MS)), FROM_MS);
  for (;;) {
    const againMs = linger.look(clients(requestsAt(nowMs)), nowMs);
    if (againMs === null) return nowMs;
    nowMs += againMs;
  }
}

void test('a quiet client is cut off when the linger is over, to the millisecond', (t) => {
  t.equal(
    cutMs(LINGER_MS, () => 7),
    END_MS,
  );
  t.end();
});

void test('questions early in the linger change nothing', (t) => {
  const early = (nowMs: number): number => Math.min(nowMs, END_MS - QUIET_MS);
  t.equal(cutMs(LINGER_MS, early), END_MS);
  t.end();
});

void test('a question at the end puts the cut off until it is quiet', (t) => {
  const late = (nowMs: number): number => (nowMs >= END_MS ? 1 : 0);
  t.equal(cutMs(LINGER_MS, late), END_MS + QUIET_MS);
  t.end();
});

void test('one client that asks puts the cut off for all', (t) => {
  const linger = new Linger(LINGER_MS);
  linger.begin(clients(1, 1), FROM_MS);
  t.equal(linger.look(clients(1, 2), END_MS), QUIET_MS);
  t.end();
});

void test('a client that never rests is cut off after the limit', (t) => {
  t.equal(
    cutMs(LINGER_MS, (nowMs) => nowMs),
    END_MS + BUSY_MS_MAX,
  );
  t.end();
});

void test('a look that comes too early is no cut', (t) => {
  const linger = new Linger(LINGER_MS);
  linger.begin(clients(1), FROM_MS);
  t.equal(linger.look(clients(1), END_MS - 0.5), 0.5);
  t.equal(linger.look(clients(1), END_MS), null);
  t.end();
});

void test('clients that left need no rest', (t) => {
  const linger = new Linger(LINGER_MS);
  linger.begin(clients(1, 1), FROM_MS);
  t.equal(linger.look([], END_MS), null);
  t.end();
});

void test('without a linger nobody is waited for', (t) => {
  t.equal(
    cutMs(0, () => 7),
    FROM_MS,
  );
  t.end();
});

void test('it begins anew after a disk was online in between', (t) => {
  const linger = new Linger(LINGER_MS);
  linger.begin(clients(1), FROM_MS);
  linger.begin(clients(1), END_MS);
  t.equal(linger.look(clients(1), END_MS), LINGER_MS);
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import t from 'tap';
import { cipherThreadsOf, shardsOf } from '../../src/daemon/threads.js';

void t.test('shards are one per core unless the config says otherwise', (t) => {
  t.equal(shardsOf(0, 6), 6);
  t.equal(shardsOf(3, 6), 3);
  t.end();
});

void t.test('a host of more cores than native code takes shards gets what it takes', (t) => {
  t.equal(shardsOf(0, 128), 64);
  t.end();
});

void t.test('a host of one core gets no cipher thread', (t) => {
  t.equal(cipherThreadsOf('auto', 1), 0);
  t.end();
});

void t.test('cipher threads are one for each core but the first, up to what is useful', (t) => {
  t.equal(cipherThreadsOf('auto', 2), 1);
  t.equal(cipherThreadsOf('auto', 64), 4);
  t.end();
});

void t.test('the config may forbid cipher threads', (t) => {
  t.equal(cipherThreadsOf(0, 8), 0);
  t.end();
});

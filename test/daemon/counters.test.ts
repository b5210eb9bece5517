// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { countersSchema } from '../../src/admin/api-counters.js';
import { readCounters } from '../../src/daemon/counters.js';
import type { NativeCommandStats, NativeDiskStats } from '../../src/dataplane/addon.js';
import { LATENCY_BUCKETS_SECONDS } from '../../src/dataplane/addon.js';
import type { DiskView } from '../../src/disks/view.js';
import { FakeClock } from '../support/fake-clock.js';
import { ONLINE_DISK } from '../cli/support/canned.js';

const command = (factor: number): NativeCommandStats => ({
  requestsOk: 10 * factor,
  requestsError: 2 * factor,
  requestsShutdown: factor,
  bytes: 4096 * factor,
  latencySumSeconds: 0.5 * factor,
  latencyBuckets: [...LATENCY_BUCKETS_SECONDS, 0].map((_, index) => index * factor),
});

const stats = (commands: NativeDiskStats['commands']): NativeDiskStats => ({
  commands,
  inFlight: 4,
  parked: 1,
  connections: 2,
  keyPresent: true,
  encryptedBytes: 0,
  decryptedBytes: 0,
});

function read(views: readonly DiskView[], found: NativeDiskStats | null) {
  const plane = {
    disk: () => (found === null ? undefined : { stats: () => found }),
    shards: () => [{ index: 0, alive: true, restarts: 0 }],
    shardCpuSeconds: () => [1.25],
    connections: () => [],
  };
  const clock = new FakeClock();
  return readCounters({ views, plane: plane as never, clock, startedAtMs: clock.nowMs() });
}

const VIEW = ONLINE_DISK as DiskView;

void test('requests of any result count, and every command in one of three', (t) => {
  const commands = { read: command(1), write: command(2), flush: command(3), trim: command(4) };
  const { disks } = read([VIEW], stats(commands));
  t.match(disks[0], {
    inFlight: 4,
    parked: 1,
    counters: {
      read: { requests: 13, bytes: 4096 },
      write: { requests: 26, bytes: 8192 },
      otherRequests: 91,
    },
  });
  t.end();
});

void test('times are of reads and writes together, one more than there are bounds', (t) => {
  const { disks, latencyBoundsSeconds } = read(
    [VIEW],
    stats({ read: command(1), write: command(2) }),
  );
  const latency = disks[0]?.counters?.latency;
  t.equal(latency?.length, latencyBoundsSeconds.length + 1);
  t.equal(latency?.[5], 15);
  t.end();
});

void test('a disk without requests has zeros, one that is not open has no counters', (t) => {
  t.match(read([VIEW], stats({})).disks[0]?.counters, {
    read: { requests: 0, bytes: 0 },
    otherRequests: 0,
    latency: [],
  });
  t.match(read([VIEW], null).disks[0], { counters: null, inFlight: 0, parked: 0 });
  t.end();
});

void test('what is answered has the documented form', (t) => {
  const answer = read([VIEW], stats({ read: command(1) }));
  t.strictSame(countersSchema.parse(answer), answer);
  t.equal(answer.shards[0]?.cpuSeconds, 1.25);
  t.end();
});

void test('ten thousand disks fit into a few MiB', (t) => {
  const busy = { read: command(1e9), write: command(1e9) };
  const views = Array.from({ length: 10_000 }, () => VIEW);
  t.ok(JSON.stringify(read(views, stats(busy))).length < 8 * 2 ** 20);
  t.end();
});

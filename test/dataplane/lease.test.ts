// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { test } from 'tap';
import type { LeaseHandle } from '../../src/sets/ports.js';
import { ERRNO } from '../support/nbd-wire.js';
import { endProcess, eventually } from '../support/process.js';
import type { ReaderReport } from './reader.js';
import { addon, custody, Rig } from './rig.js';

const AAD = randomBytes(40);

/** A lease that holds for so long from now. */
function leaseFor(durationMs: number) {
  const lease = custody.createLease();
  lease.renew(addon.bootTimeMs(), durationMs);
  return lease;
}

/**
 * Runs `act` under a lease that is short and yet not over when it returns: whatever a busy machine
 * puts between two statements, the next attempt has twice as long.
 */
function whileItHolds<T>(
  act: (lease: LeaseHandle, endBootMs: number) => T,
  lease = custody.createLease(),
): T {
  for (let durationMs = 200; ; durationMs *= 2) {
    lease.end(); // a lease of an attempt that came too late
    const startBootMs = addon.bootTimeMs();
    const endBootMs = startBootMs + durationMs;
    lease.renew(startBootMs, durationMs);
    try {
      const result = act(lease, endBootMs);
      if (addon.bootTimeMs() < endBootMs) return result;
    } catch (error) {
      if (addon.bootTimeMs() < endBootMs) throw error;
    }
  }
}

/** Blocks the event loop until then, or until it is clear that this does not happen. */
function blockUntil(condition: () => boolean, timeoutMs = 20_000): void {
  const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));
  const endBootMs = addon.bootTimeMs() + timeoutMs;
  while (!condition() && addon.bootTimeMs() < endBootMs) Atomics.wait(nobodyWakes, 0, 0, 20);
}

void test('a lease that was never renewed has no deadline', (t) => {
  t.equal(custody.createLease().deadlineBootMs(), 0);
  t.end();
});

void test('a lease lasts from the start of its proof', (t) => {
  const lease = custody.createLease();
  lease.renew(1_000_000, 60_000);
  t.equal(lease.deadlineBootMs(), 1_060_000);
  t.end();
});

void test('a proof that says less does not shorten a lease', (t) => {
  const lease = custody.createLease();
  lease.renew(1_000_000, 60_000);
  lease.renew(1_000_000, 10_000);
  lease.renew(900_000, 60_000);
  t.equal(lease.deadlineBootMs(), 1_060_000);
  t.end();
});

void test('an ended lease has no deadline', (t) => {
  const lease = leaseFor(60_000);
  lease.end();
  t.equal(lease.deadlineBootMs(), 0);
  t.end();
});

void test('a proof that started before the end does not bring a lease back', (t) => {
  const startBootMs = addon.bootTimeMs();
  const lease = leaseFor(60_000);
  lease.end();
  lease.renew(startBootMs, 60_000);
  t.equal(lease.deadlineBootMs(), 0);
  t.end();
});

void test('a proof that started after the end brings a lease back', (t) => {
  const lease = leaseFor(60_000);
  lease.end();
  const startBootMs = addon.bootTimeMs();
  lease.renew(startBootMs, 60_000);
  t.ok(Math.abs(lease.deadlineBootMs() - startBootMs - 60_000) < 0.001);
  t.end();
});

void test('the longest lease does not overflow into the past', (t) => {
  const lease = custody.createLease();
  lease.renew(9e12, 9e12);
  t.ok(lease.deadlineBootMs() > 9e12);
  t.end();
});

for (const [what, lease] of [
  ['was never renewed', () => custody.createLease()],
  ['has ended', () => leaseFor(0)],
  [
    'was ended',
    () => {
      const ended = leaseFor(60_000);
      ended.end();
      return ended;
    },
  ],
] as const) {
  void test(`a set key under a lease that ${what} is not used`, (t) => {
    const key = custody.generateSetKey();
    custody.bindLease(key, lease());
    t.throws(() => custody.createDek(key, AAD), { code: 'ERR_SET_KEY_WIPED' });
    t.end();
  });

  void test(`a disk under a lease that ${what} is not unlocked`, async (t) => {
    const rig = await Rig.start(t, { shards: 1 });
    const spec = { ...(await rig.spec('d')), lease: lease() };
    const disk = await rig.plane.openDisk(spec, () => undefined);
    const key = custody.generateSetKey();
    const dek = { ...custody.createDek(key, AAD), aad: AAD };
    t.throws(() => disk.unlock(key, dek), {
      code: 'ERR_SET_KEY_WIPED',
      message: /its lease has ended/,
    });
  });
}

void test('a set key under a lease that holds is used', (t) => {
  const key = custody.generateSetKey();
  custody.bindLease(key, leaseFor(60_000));
  t.doesNotThrow(() => custody.createDek(key, AAD));
  t.end();
});

void test('a set key can be bound to another lease', (t) => {
  const key = custody.generateSetKey();
  custody.bindLease(key, leaseFor(60_000));
  custody.bindLease(key, custody.createLease());
  t.throws(() => custody.createDek(key, AAD), { code: 'ERR_SET_KEY_WIPED' });
  t.end();
});

void test('the shards wipe a set key whose lease ends', async (t) => {
  await Rig.start(t, { shards: 1 });
  const key = custody.generateSetKey();
  custody.bindLease(key, leaseFor(300));
  await eventually('the key is wiped', () => key.wiped);
});

void test('a renewal in time keeps a set key', async (t) => {
  await Rig.start(t, { shards: 1 });
  const { key, endBootMs } = whileItHolds((lease, endBootMs) => {
    const key = custody.generateSetKey();
    custody.bindLease(key, lease);
    lease.renew(addon.bootTimeMs(), 60_000);
    return { key, endBootMs };
  });
  await sleep(endBootMs - addon.bootTimeMs() + 200);
  t.notOk(key.wiped);
});

void test('a renewal does not bring a wiped set key back', async (t) => {
  await Rig.start(t, { shards: 1 });
  const key = custody.generateSetKey();
  const lease = leaseFor(0);
  custody.bindLease(key, lease);
  await eventually('the key is wiped', () => key.wiped);
  lease.renew(addon.bootTimeMs(), 60_000);
  t.throws(() => custody.createDek(key, AAD), { code: 'ERR_SET_KEY_WIPED' });
});

void test('the end of the lease suspends the disk and tells so once', async (t) => {
  const rig = await Rig.start(t);
  const { disk, lease, events } = await rig.serve('d');
  const endedBootMs = addon.bootTimeMs();
  lease.end();
  await eventually('the end is told', () => events.length > 0);
  await sleep(150);
  t.notOk(disk.stats().keyPresent);
  t.match(events, [{ kind: 'lease-ended' }]);
  const [event] = events;
  t.ok(event?.kind === 'lease-ended' && event.keyWipedBootMs >= endedBootMs);
});

void test('when a lease has been ended none of its disks holds a key', async (t) => {
  const rig = await Rig.start(t);
  const lease = leaseFor(600_000);
  const disks = [];
  for (const name of ['a', 'b', 'c']) {
    const { disk, spec, setKey, dek } = await rig.serve(name, { locked: true });
    await disk.close();
    const again = await rig.plane.openDisk({ ...spec, lease }, () => undefined);
    again.unlock(setKey, dek);
    disks.push(rig.plane.disk(name));
  }
  lease.end();
  t.same(
    disks.map((disk) => disk?.stats().keyPresent),
    [false, false, false],
  );
});

void test('the end of a lease leaves the keys of others alone', async (t) => {
  const rig = await Rig.start(t);
  const mine = await rig.serve('mine');
  const other = await rig.serve('other');
  const restartMode = await rig.serve('restart-mode', { leaseEnforced: false });
  mine.lease.end();
  restartMode.lease.end();
  t.equal(mine.disk.stats().keyPresent, false);
  t.equal(other.disk.stats().keyPresent, true);
  t.equal(restartMode.disk.stats().keyPresent, true);
});

void test('a closed disk is not looked for when its lease ends', async (t) => {
  const rig = await Rig.start(t);
  const { disk, lease, events } = await rig.serve('closed');
  await disk.goOffline();
  await disk.close();
  lease.end();
  t.same(events, []);
});

void test('a lease that is not enforced ends without a trace', async (t) => {
  const rig = await Rig.start(t);
  const { lease, events } = await rig.serve('d', { leaseEnforced: false });
  lease.end();
  await sleep(150);
  const client = await rig.client(rig.listen(), 'd');
  t.equal((await client.read(0, 512)).errno, 0);
  t.match(events, [{ kind: 'client-connected' }]);
  client.destroy();
});

void test('a client of a disk whose lease ended waits, and gets no error', async (t) => {
  const rig = await Rig.start(t);
  const { lease, unlock } = await rig.serve('d');
  const client = await rig.client(rig.listen(), 'd');
  lease.end();
  const reply = client.read(0, 512);
  t.equal(await Promise.race([reply.then(() => 'answered'), sleep(200, 'waits')]), 'waits');
  lease.renew(addon.bootTimeMs(), 60_000);
  unlock();
  t.equal((await reply).errno, 0);
  client.destroy();
});

void test('a renewal alone does not resume a suspended disk', async (t) => {
  const rig = await Rig.start(t);
  const { disk, lease, events } = await rig.serve('d');
  lease.end();
  await eventually('the end is told', () => events.length > 0);
  lease.renew(addon.bootTimeMs(), 60_000);
  await sleep(150);
  t.notOk(disk.stats().keyPresent);
});

void test('a suspended disk goes offline with ESHUTDOWN to those who wait', async (t) => {
  const rig = await Rig.start(t);
  const { disk, lease, events } = await rig.serve('d');
  const client = await rig.client(rig.listen(), 'd');
  lease.end();
  await eventually('the end is told', () => events.some(({ kind }) => kind === 'lease-ended'));
  const reply = client.read(0, 512);
  await sleep(50);
  await disk.goOffline();
  t.equal((await reply).errno, ERRNO.ESHUTDOWN);
  client.destroy();
});

/** A reader in a process of its own, connected. */
async function startReader(t: Parameters<typeof Rig.start>[0], path: string) {
  const file = fileURLToPath(new URL('./reader.ts', import.meta.url));
  const child = spawn(process.execPath, [...process.execArgv, file, path, 'd'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => endProcess(child, 'SIGKILL'));
  const output = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => String((await output.next()).value);
  const say = (): void => void child.stdin.write('\n');
  if ((await line()) !== 'ready') throw new Error('the reader did not get ready');
  return {
    begin: async () => {
      say();
      await line();
    },
    report: async () => {
      say();
      return JSON.parse(await line()) as ReaderReport;
    },
  };
}

void test('a blocked event loop does not prolong a lease', async (t) => {
  const rig = await Rig.start(t);
  const path = `${rig.dir}/reader.sock`;
  rig.plane.listenUnix(path, 0o600);
  const { disk, lease, unlock } = await rig.serve('d');
  const reader = await startReader(t, path);
  await reader.begin(); // under a long lease: how long that takes does not matter
  whileItHolds(() => unlock(), lease);
  blockUntil(() => !disk.stats().keyPresent);
  t.ok(lease.deadlineBootMs() <= addon.bootTimeMs(), 'the lease has ended');
  t.notOk(disk.stats().keyPresent, 'the key was wiped without JavaScript');
  const { lastSentBootMs, stalled, errors } = await reader.report();
  t.same({ stalled, errors }, { stalled: true, errors: 0 });
  t.ok(lastSentBootMs < lease.deadlineBootMs(), 'nothing was served after the lease');
});

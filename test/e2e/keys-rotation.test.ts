// SPDX-License-Identifier: Apache-2.0
import { rename } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import tap, { test } from 'tap';
import type { SetView } from '../../src/admin/api-sets.js';
import {
  createDisk,
  createDiskAndSet,
  createKey,
  createSet,
  fill,
  headerKids,
  isFilled,
  untilDisk,
  Writer,
} from '../support/keys.js';
import { eventually } from '../support/process.js';
import { Stack } from '../support/stack.js';

/** For tests that leave the daemon alone; each has a set of its own. */
const stack = await Stack.start();
tap.teardown(() => stack.stop());

async function kidOf(key: string, of = stack): Promise<string> {
  return (await of.vault.key(key)).kid;
}

function kids({ keys }: SetView): string[] {
  return keys.map(({ id, role }) => `${role} ${id}`);
}

/** Makes a new version of the set's key and has the set take it; returns the version before. */
async function rotate(set: string, of = stack): Promise<{ old: string; current: string }> {
  const old = await kidOf(`${set}-key`, of);
  const { kid: current } = await of.vault.rotateKey(`${set}-key`);
  await of.admin.rotateSet(set);
  return { old, current };
}

function versionOf(kid: string): { version: string } {
  return { version: kid.slice(kid.lastIndexOf('/') + 1) };
}

async function safeToDisable(set: string, kid: string): Promise<boolean | null | undefined> {
  const { keys, retired } = await stack.admin.showSet(set);
  return [...keys, ...retired].find(({ id }) => id === kid)?.safeToDisable;
}

void test('a client that writes all the time sees nothing of three rotations', async (t) => {
  await createDiskAndSet(stack, 'busy');
  const writer = await Writer.start(stack, 'busy');
  for (let turn = 0; turn < 3; turn += 1) {
    await rotate('busy');
    await delay(300);
  }
  t.equal((await stack.disk('busy')).clients, 1, 'on the connection of the beginning');
  t.ok(await writer.stop());
});

void test('cryptsetup reads the new version in the header, and no other', async (t) => {
  await createDiskAndSet(stack, 'header');
  const { old, current } = await rotate('header');
  t.not(old, current);
  t.strictSame(await headerKids(stack, 'header'), [current]);
});

void test('set show says that the old version is safe to disable, and the new one is not', async (t) => {
  await createDiskAndSet(stack, 'shown');
  const { old, current } = await rotate('shown');
  const shown = await stack.ok('set', 'show', 'shown');
  const safe = (kid: string): string | undefined =>
    new RegExp(`^key ${kid}\\n(?:  .*\\n)*?  safe to disable +(\\w+)`, 'm').exec(shown)?.[1];
  t.equal(safe(old), 'yes', shown);
  t.equal(safe(current), 'no', shown);
});

void test('the old version disabled in the vault: the disk stays online, and restarts', async (t) => {
  await createDiskAndSet(stack, 'left');
  await fill(stack, 'left', 0x31);
  const { old } = await rotate('left');
  t.equal(await safeToDisable('left', old), true);
  await stack.vault.disableKey('left-key', versionOf(old));
  await stack.admin.checkSet('left');
  await delay(1500);
  t.equal((await stack.disk('left')).state, 'online');
  t.equal((await stack.admin.restartDisk('left')).state, 'online');
  t.ok(await isFilled(stack, 'left', 0x31));
});

void test('the new version disabled in the vault takes the disk offline', async (t) => {
  await createDiskAndSet(stack, 'gone');
  const { current } = await rotate('gone');
  await stack.vault.disableKey('gone-key', versionOf(current));
  await untilDisk(stack, 'gone', 'offline(key-disabled)');
  t.match(await stack.disk('gone'), { keyVersion: versionOf(current).version });
  await stack.vault.enableKey('gone-key', versionOf(current));
  await untilDisk(stack, 'gone', 'online');
});

void test('a new version is taken by itself within the rotation interval', async (t) => {
  await createDiskAndSet(stack, 'itself', { rotationIntervalMs: 1000 });
  const { kid } = await stack.vault.rotateKey('itself-key');
  // The old version goes only when every header was looked at once more.
  await eventually('the set has the new version alone', async () => {
    return kids(await stack.admin.showSet('itself')).join() === `current ${kid}`;
  });
  t.strictSame(await headerKids(stack, 'itself'), [kid]);
});

void test('a set on a versioned URL stays on its version', async (t) => {
  const key = await createKey(stack, 'fixed-key');
  const first = await kidOf('fixed-key');
  await createDiskAndSet(stack, 'fixed', { keyUrl: first, rotationIntervalMs: 1000 });
  await stack.vault.rotateKey('fixed-key');
  t.not(await kidOf('fixed-key'), first, key);
  await delay(1500);
  await stack.ok('set', 'rotate', 'fixed');
  t.strictSame(kids(await stack.admin.showSet('fixed')), [`current ${first}`]);
  t.strictSame(await headerKids(stack, 'fixed'), [first]);
});

void test('while a store is away no version is safe to disable; back, it is rewrapped', async (t) => {
  await createDiskAndSet(stack, 'away');
  await stack.admin.detachDisk('away');
  const { store } = await stack.disk('away');
  await rename(store, `${store}.away`);
  const old = await kidOf('away-key');
  await stack.vault.rotateKey('away-key');
  const failed = await stack.cli('set', 'rotate', 'away');
  t.not(failed.status, 0);
  t.match(failed.stderr, /ERR_SET_SPREAD/);
  t.equal(await safeToDisable('away', old), false);
  t.match(await stack.admin.showSet('away'), { unreadable: [{ disk: 'away' }] });
  await rename(`${store}.away`, store);
  await stack.admin.rotateSet('away');
  t.equal(await safeToDisable('away', old), true);
  t.equal((await stack.admin.attachDisk('away')).state, 'online');
});

void test('a version that may not unwrap is not taken; allowed to, it is', async (t) => {
  await createDiskAndSet(stack, 'wrong', { rotationIntervalMs: 1000 });
  const old = await kidOf('wrong-key');
  const { kid } = await stack.vault.createKey({ name: 'wrong-key', ops: ['wrapKey', 'encrypt'] });
  const failed = await stack.cli('set', 'rotate', 'wrong');
  t.not(failed.status, 0, 'the command says so');
  const trouble = { code: 'ERR_KEY_OPERATIONS', message: /unwrapKey/ };
  const set = await stack.admin.showSet('wrong');
  t.match(set, { access: 'granted', rotationTrouble: trouble });
  t.match(await stack.ok('set', 'show', 'wrong'), /rotation +failing since .*ERR_KEY_OPERATIONS/);
  t.strictSame(kids(set), [`current ${old}`]);
  t.strictSame(await headerKids(stack, 'wrong'), [old]);
  t.equal((await stack.disk('wrong')).state, 'online');
  await stack.vault.updateKey('wrong-key', { ops: ['wrapKey', 'unwrapKey'] });
  await eventually('it is taken', async () => {
    const { rotationTrouble, keys } = await stack.admin.showSet('wrong');
    return rotationTrouble === null && keys[0]?.id === kid;
  });
  t.strictSame(await headerKids(stack, 'wrong'), [kid]);
});

void test('a new version that is disabled is not taken, and costs the disk nothing', async (t) => {
  await createDiskAndSet(stack, 'asleep');
  const old = await kidOf('asleep-key');
  await stack.vault.createKey({ name: 'asleep-key', enabled: false });
  await t.rejects(stack.admin.rotateSet('asleep'), { code: 'ERR_KEY_DISABLED' });
  await delay(1200);
  t.equal((await stack.disk('asleep')).state, 'online');
  t.strictSame(kids(await stack.admin.showSet('asleep')), [`current ${old}`]);
});

void test('a version that the vault unwraps to other bytes is not taken', async (t) => {
  await createDiskAndSet(stack, 'liar', { probeIntervalMs: 20_000 });
  const old = await kidOf('liar-key');
  await stack.vault.rotateKey('liar-key');
  const lie = { key: 'liar-key', operation: 'unwrapKey' } as const;
  await stack.vault.trouble({ kind: 'wrong-value', times: 1, ...lie });
  await t.rejects(stack.admin.rotateSet('liar'), { code: 'ERR_SET_KEY_VERIFY' });
  await stack.vault.trouble({ kind: 'none', ...lie });
  t.strictSame(kids(await stack.admin.showSet('liar')), [`current ${old}`]);
  t.strictSame(await headerKids(stack, 'liar'), [old]);
});

const ROUNDS = 8;

void test('kill -9 at any moment of a rewrap: every disk attaches, and it goes on', async (t) => {
  // One of its own: the start of a daemon takes longer the more sets there are.
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const seed = Number(process.env['KEYHOLD_TEST_SEED'] ?? Date.now() % 2 ** 32);
  t.comment(`KEYHOLD_TEST_SEED=${String(seed)}`);
  const random = mulberry32(seed);
  const disks = ['crash', 'crash2', 'crash3'];
  await createSet(stack, 'crash', { rotationIntervalMs: 1000, probeIntervalMs: 300 });
  for (const [index, disk] of disks.entries()) {
    await createDisk(stack, disk, { set: 'crash' });
    await fill(stack, disk, 0x40 + index);
  }
  const from = performance.now();
  await rotate('crash', stack);
  const wholeMs = performance.now() - from;
  for (let round = 0; round < ROUNDS; round += 1) {
    const { kid } = await stack.vault.rotateKey('crash-key');
    const cut = stack.admin.rotateSet('crash').then(
      () => 'done',
      () => 'cut',
    );
    const killMs = random() * wholeMs * 1.1;
    await delay(killMs);
    await stack.crashAndRestart();
    const how = `round ${String(round)}: ${await cut} at ${killMs.toFixed(0)} ms`;
    for (const [index, disk] of disks.entries()) {
      await untilDisk(stack, disk, 'online');
      t.ok(await isFilled(stack, disk, 0x40 + index), `${disk} after ${how}`);
    }
    await eventually(`every header names the new version after ${how}`, async () => {
      const found = await Promise.all(disks.map((disk) => headerKids(stack, disk)));
      return found.every((names) => names.length === 1 && names[0] === kid);
    });
    await eventually(`the record names no other after ${how}`, async () => {
      return kids(await stack.admin.showSet('crash')).join() === `current ${kid}`;
    });
  }
});

/** Small and seeded; its quality does not matter here. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { findInMemory, type Needle } from '../support/core-dump.js';
import { findAnywhere, needlesOf, needlesOfDouble, passMarker } from '../support/daemon-memory.js';
import { createDiskAndSet, createKey, untilDisk, usePlatformKey } from '../support/keys.js';
import { Stack } from '../support/stack.js';

/** Every key that the operation had in its hands, and plaintext that went through the disk. */
interface Secrets {
  readonly keys: readonly Needle[];
  readonly marker: Needle;
}

void test('keys and plaintext in the memory of the daemon after work on keys', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const platformKey = await readFile(await usePlatformKey(stack));

  async function withSecrets(disk: string, double: boolean): Promise<Secrets> {
    await createDiskAndSet(stack, disk, { double, availabilityKey: true });
    const marker = { name: 'plaintext', bytes: randomBytes(64) };
    await passMarker(stack, disk, marker.bytes);
    const keys = double
      ? await needlesOfDouble(stack, disk, platformKey)
      : await needlesOf(stack, disk);
    return { keys, marker };
  }

  async function assertOnlyControl(t: Test, disk: string, needles: readonly Needle[]) {
    // In ordinary memory: without it an empty result would prove nothing.
    const control = { name: 'control', bytes: Buffer.from((await stack.disk(disk)).uuid) };
    const find = (pid: number): Promise<{ found: string[] }> =>
      findInMemory(pid, [control, ...needles]);
    t.strictSame(await findAnywhere(stack, find), ['control']);
  }

  await t.test('after a rotation: no key outside secret memory', async (t) => {
    const { keys } = await withSecrets('rotated', false);
    await stack.vault.rotateKey('rotated-key');
    await stack.admin.rotateSet('rotated');
    await assertOnlyControl(t, 'rotated', keys);
  });

  await t.test('after a move and two assignments: no key outside secret memory', async (t) => {
    const { keys } = await withSecrets('moved', false);
    await stack.admin.moveDisk('moved', { set: 'rotated' });
    await stack.admin.assignKey('moved', { keyUrl: await createKey(stack, 'moved-key2') });
    await stack.admin.assignKey('moved', {});
    await assertOnlyControl(t, 'moved', [...keys, ...(await needlesOf(stack, 'moved'))]);
  });

  await t.test('after an export: no key outside secret memory', async (t) => {
    const { keys } = await withSecrets('exported', true);
    for (const layer of ['inner', 'outer'] as const) {
      const file = join(stack.dir, `${layer}.key`);
      await stack.admin.exportKey('exported', { confirm: 'exported', file, layer });
      t.equal((await readFile(file)).length, 64);
    }
    await assertOnlyControl(t, 'exported', keys);
  });

  await t.test('a disk with two layers online: no key outside secret memory', async (t) => {
    const { keys } = await withSecrets('online', true);
    await assertOnlyControl(t, 'online', keys);
  });

  await t.test('a disk with two layers offline: no key, no round key, no plaintext', async (t) => {
    const { keys, marker } = await withSecrets('double', true);
    await stack.vault.disableKey('double-key');
    await untilDisk(stack, 'double', 'offline(key-disabled)');
    await assertOnlyControl(t, 'double', [...keys, marker]);
  });

  await t.test(
    'while a drill has taken it offline: no key, no round key, no plaintext',
    async (t) => {
      const { keys, marker } = await withSecrets('drilled', false);
      await stack.admin.beginDrill('drilled', { scenario: 'disable', durationMs: 600_000 });
      await untilDisk(stack, 'drilled', 'offline(key-disabled)');
      await assertOnlyControl(t, 'drilled', [...keys, marker]);
      await stack.admin.endDrill('drilled');
      await untilDisk(stack, 'drilled', 'online');
    },
  );

  await t.test('after a purge: no key, no round key, no plaintext', async (t) => {
    const { keys, marker } = await withSecrets('purged', false);
    await stack.vault.deleteKey('purged-key');
    await untilDisk(stack, 'purged', 'offline(key-deleted)');
    await stack.admin.purgeSet('purged', { confirm: 'purged' });
    await assertOnlyControl(t, 'purged', [...keys, marker]);
  });
});

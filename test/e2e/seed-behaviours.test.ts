// SPDX-License-Identifier: Apache-2.0
import tap, { type Test, test } from 'tap';
import type { CreateSetRequest } from '../../src/admin/api-sets.js';
import {
  createDisk,
  createDiskAndSet,
  createKey,
  createSet,
  fill,
  headerKids,
  isFilled,
  stateOf,
  untilDisk,
  usePlatformKey,
} from '../support/keys.js';
import { eventually } from '../support/process.js';
import { Stack } from '../support/stack.js';

/*
 * What Azure's services do with customer-managed keys, each under the name of the service.
 */

const stack = await Stack.start();
tap.teardown(() => stack.stop());
await usePlatformKey(stack);

/** A set NAME on the keys NAME-key and NAME-key2, with a disk NAME. */
async function onTwoKeys(name: string, options: Partial<CreateSetRequest> = {}): Promise<void> {
  const key2Url = await createKey(stack, `${name}-key2`);
  await createDiskAndSet(stack, name, { key2Url, ...options });
}

async function statusOf(...command: string[]): Promise<number | null> {
  return (await stack.cli(...command)).status;
}

void test('Batch: only delete, show, list, erase and assign work while inaccessible', async (t) => {
  await onTwoKeys('batch');
  for (const disk of ['batch-delete', 'batch-erase'])
    await createDisk(stack, disk, { set: 'batch' });
  await createSet(stack, 'elsewhere');
  await stack.vault.disableKey('batch-key');
  await untilDisk(stack, 'batch', 'offline(key-disabled)');

  const refused: ReadonlyArray<readonly string[]> = [
    ['disk', 'create', 'batch-new', '--set', 'batch', '--size', '8M'],
    ['disk', 'attach', 'batch'],
    ['disk', 'restart', 'batch'],
    ['disk', 'move', 'batch', '--set', 'elsewhere'],
  ];
  for (const command of refused) {
    await t.test(`refused: ${command.slice(0, 2).join(' ')}`, async (t) => {
      t.equal(await statusOf(...command), 5);
      t.equal(await stateOf(stack, 'batch'), 'offline(key-disabled)');
    });
  }

  await t.test('refused: reading', async (t) => {
    t.equal(await isFilled(stack, 'batch', 0), false);
  });

  const allowed: ReadonlyArray<readonly string[]> = [
    ['disk', 'show', 'batch'],
    ['disk', 'list'],
    ['set', 'show', 'batch'],
    ['set', 'list'],
    ['disk', 'erase', 'batch-erase', '--confirm', 'batch-erase'],
    ['disk', 'delete', 'batch-delete'],
    ['set', 'assign-key', 'batch', await createKey(stack, 'batch-new')],
  ];
  for (const command of allowed) {
    await t.test(`allowed: ${command.slice(0, 2).join(' ')}`, async (t) => {
      t.equal(await statusOf(...command), 0);
    });
  }
});

void test('Batch: access back -> disks back without a restart', async (t) => {
  await createDiskAndSet(stack, 'pool');
  await createDisk(stack, 'pool2', { set: 'pool' });
  await fill(stack, 'pool2', 0x62);
  const pid = await stack.daemonPid();
  await stack.vault.disableKey('pool-key');
  await untilDisk(stack, 'pool', 'offline(key-disabled)');
  await stack.vault.enableKey('pool-key');
  for (const disk of ['pool', 'pool2']) await untilDisk(stack, disk, 'online');
  t.ok(await isFilled(stack, 'pool2', 0x62));
  t.equal(await stack.daemonPid(), pid);
});

for (const [how, versioned] of [
  ['with a version: the set stays on it', true],
  ['without version: the set follows the key', false],
] as const) {
  void test(`Media Services: key name ${how}`, async (t) => {
    const set = versioned ? 'media-fixed' : 'media-free';
    await createKey(stack, `${set}-key`);
    const { kid: first, id } = await stack.vault.key(`${set}-key`);
    const keyUrl = versioned ? first : id;
    await createDiskAndSet(stack, set, { keyUrl, rotationIntervalMs: 1000 });
    const { kid: second } = await stack.vault.rotateKey(`${set}-key`);
    await stack.admin.rotateSet(set);
    t.strictSame(await headerKids(stack, set), [versioned ? first : second]);
  });
}

void test('Media Services: EC keys are refused', async (t) => {
  const { id } = await stack.vault.createKey({ name: 'ec-key', kty: 'EC' });
  const { status, stderr } = await stack.cli('set', 'create', 'ec', '--key', id);
  t.equal(status, 2);
  t.match(stderr, /ERR_KEY_TYPE/);
  await t.rejects(stack.admin.showSet('ec'), { code: 'ERR_SET_NOT_FOUND' });
});

void test('Media Services: an RSA key of 1024 bits is refused', async (t) => {
  const { id: keyUrl } = await stack.vault.createKey({ name: 'small-key', sizeBits: 1024 });
  await t.rejects(createSet(stack, 'small', { keyUrl }), { code: 'ERR_KEY_SIZE' });
});

for (const kty of ['RSA', 'RSA-HSM'] as const) {
  for (const sizeBits of [2048, 3072, 4096] as const) {
    void test(`Media Services: ${kty} ${String(sizeBits)}`, async (t) => {
      const name = `${kty.toLowerCase()}-${String(sizeBits)}`;
      const { id: keyUrl } = await stack.vault.createKey({ name: `${name}-key`, kty, sizeBits });
      await createDiskAndSet(stack, name, { keyUrl });
      await fill(stack, name, 0x68);
      await stack.vault.disableKey(`${name}-key`);
      await untilDisk(stack, name, 'offline(key-disabled)');
      await stack.vault.enableKey(`${name}-key`);
      await untilDisk(stack, name, 'online');
      t.ok(await isFilled(stack, name, 0x68), 'the vault unwrapped the set key');
    });
  }
}

async function onRevoke(mode: 'immediate' | 'restart', name: string): Promise<void> {
  await createDiskAndSet(stack, name, { mode });
  await fill(stack, name, 0x64);
  await stack.vault.disableKey(`${name}-key`);
}

void test('Managed disks: immediate mode takes the disk offline', async (t) => {
  await onRevoke('immediate', 'standard');
  await untilDisk(stack, 'standard', 'offline(key-disabled)');
  t.equal(await isFilled(stack, 'standard', 0x64), false);
});

void test('Managed disks: ultra (restart mode) serves on until the next restart', async (t) => {
  await onRevoke('restart', 'ultra');
  await eventually('revoked', async () => (await stack.disk('ultra')).revoked);
  t.equal(await stateOf(stack, 'ultra'), 'online');
  t.ok(await isFilled(stack, 'ultra', 0x64));
  await t.rejects(stack.admin.restartDisk('ultra'), { code: 'ERR_DISK_KEY_INACCESSIBLE' });
  t.equal(await stateOf(stack, 'ultra'), 'offline(key-disabled)');
});

async function assertBack(t: Test, disk: string, byte: number): Promise<void> {
  await untilDisk(stack, disk, 'online');
  t.ok(await isFilled(stack, disk, byte));
}

void test('Managed disks: a re-enabled key brings them back', async (t) => {
  await onRevoke('immediate', 'enabled');
  await untilDisk(stack, 'enabled', 'offline(key-disabled)');
  await stack.vault.enableKey('enabled-key');
  await assertBack(t, 'enabled', 0x64);
});

void test('Managed disks: a new key in the place of the denied one brings them back', async (t) => {
  await onTwoKeys('renewed');
  await fill(stack, 'renewed', 0x65);
  await stack.vault.disableKey('renewed-key');
  await untilDisk(stack, 'renewed', 'offline(key-disabled)');
  const keyUrl = await createKey(stack, 'renewed-new');
  await stack.admin.assignKey('renewed', { keyUrl });
  await assertBack(t, 'renewed', 0x65);
});

void test('IoT Hub: double encryption: the customer key alone takes the disk away', async (t) => {
  await createDiskAndSet(stack, 'hub', { double: true });
  await fill(stack, 'hub', 0x66);
  await stack.vault.disableKey('hub-key');
  await untilDisk(stack, 'hub', 'offline(key-disabled)');
  await stack.vault.enableKey('hub-key');
  await assertBack(t, 'hub', 0x66);
});

void test('Customer Key', async (t) => {
  const lease = { leaseMs: 3000, availabilityKey: true };
  await onTwoKeys('mail', lease);
  await fill(stack, 'mail', 0x67);

  await t.test('Customer Key: two keys, of which either opens the data', async (t) => {
    t.strictSame(
      await headerKids(stack, 'mail'),
      await Promise.all(
        ['mail-key', 'mail-key2'].map(async (key) => (await stack.vault.key(key)).kid),
      ),
    );
  });

  await t.test('Customer Key: the availability key, in an outage of both', async (t) => {
    await stack.vault.trouble({ kind: 'hang' });
    await eventually('it stands in', async () => {
      return (await stack.admin.showSet('mail')).grantedBy === 'availability';
    });
    t.ok(await isFilled(stack, 'mail', 0x67));
    await stack.vault.trouble({ kind: 'none' });
    await eventually('the vault answers', async () => {
      return (await stack.admin.showSet('mail')).grantedBy === 'vault';
    });
  });

  await t.test('Customer Key: reassignment of the second key', async (t) => {
    const keyUrl = await createKey(stack, 'mail-new');
    await stack.admin.assignKey('mail', { keyUrl, slot: 2 });
    await stack.vault.deleteKey('mail-key2');
    await stack.admin.checkSet('mail');
    t.equal(await stateOf(stack, 'mail'), 'online');
  });

  await t.test('Customer Key: no purge while one of the two keys gives proof', async (t) => {
    await stack.vault.deleteKey('mail-key');
    await untilDisk(stack, 'mail', 'offline(key-deleted)');
    const refused = stack.admin.purgeSet('mail', { confirm: 'mail' });
    await t.rejects(refused, { code: 'ERR_SET_NOT_DENIED' });
  });

  await t.test('Customer Key: the purge path, availability key included', async (t) => {
    await stack.vault.deleteKey('mail-new');
    const receipt = await stack.admin.purgeSet('mail', { confirm: 'mail' });
    t.match(receipt, { finishedAt: String, availabilityKey: true, erased: ['mail'] });
    t.equal(await stateOf(stack, 'mail'), 'offline(erased)');
  });
});

void test('soft-deleted key recovered -> heals', async (t) => {
  await createDiskAndSet(stack, 'soft');
  await fill(stack, 'soft', 0x69);
  await stack.vault.deleteKey('soft-key');
  await untilDisk(stack, 'soft', 'offline(key-deleted)');
  await stack.vault.recoverKey('soft-key');
  await assertBack(t, 'soft', 0x69);
});

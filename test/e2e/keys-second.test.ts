// SPDX-License-Identifier: Apache-2.0
import tap, { test } from 'tap';
import type { CreateSetRequest } from '../../src/admin/api-sets.js';
import {
  createDiskAndSet,
  createKey,
  createSet,
  fill,
  isFilled,
  pause,
  stateOf,
  untilDisk,
  usePlatformKey,
  Writer,
} from '../support/keys.js';
import { eventually } from '../support/process.js';
import { Stack } from '../support/stack.js';

const stack = await Stack.start();
tap.teardown(() => stack.stop());

/** Longer than two intervals and the confirmation of a denial. */
const QUIET_MS = 1500;
/** Just longer than an interval and the limit of one probe. */
const SHORT_LEASE_MS = 3000;

/** A set NAME on the keys NAME-key and NAME-key2, with a disk NAME. */
async function onTwoKeys(name: string, options: Partial<CreateSetRequest> = {}): Promise<void> {
  const key2Url = await createKey(stack, `${name}-key2`);
  await createDiskAndSet(stack, name, { key2Url, ...options });
}

function silence(key: string): Promise<unknown> {
  return stack.vault.trouble({ kind: 'hang', key });
}

function endSilence(key: string): Promise<unknown> {
  return stack.vault.trouble({ kind: 'none', key });
}

async function grantedBy(set: string): Promise<string | null> {
  return (await stack.admin.showSet(set)).grantedBy;
}

async function auditKinds(set: string): Promise<string[]> {
  const { records } = JSON.parse(await stack.ok('audit', 'export', '--set', set)) as {
    records: Array<{ kind: string }>;
  };
  return records.map(({ kind }) => kind);
}

/* What starts the daemon again comes first, while there are few sets. */

void test('without a platform key no set gets an availability key', async (t) => {
  const made = createSet(stack, 'hostless', { availabilityKey: true });
  await t.rejects(made, { code: 'ERR_PLATFORM_KEY_MISSING' });
});

void test('after a restart with the first key silent the second unwraps', async (t) => {
  await onTwoKeys('restart');
  await fill(stack, 'restart', 0x52);
  await stack.stopDev();
  await stack.startTroubled({ kind: 'hang', key: 'restart-key' });
  await untilDisk(stack, 'restart', 'online');
  t.ok(await isFilled(stack, 'restart', 0x52));
  t.match((await stack.admin.showSet('restart')).keys, [
    { verdict: 'NO-ANSWER' },
    { verdict: 'PROOF' },
  ]);
  const [unwrapped] = (await stack.vault.log({ limit: 1000 })).filter(
    ({ operation, kid, status }) =>
      operation === 'unwrapKey' && status === 200 && (kid ?? '').includes('/restart-key/'),
  );
  t.equal(unwrapped, undefined, 'the first unwrapped nothing');
});

void test('the availability key', async (t) => {
  await usePlatformKey(stack);
  const policy = { leaseMs: SHORT_LEASE_MS, suspendTimeoutMs: 120_000 };
  await createDiskAndSet(stack, 'host', { availabilityKey: true, ...policy });
  await createDiskAndSet(stack, 'bare', policy);
  await fill(stack, 'host', 0x61);

  await t.test('a client writes on through an outage that outlasts the lease', async (t) => {
    const writer = await Writer.start(stack, 'host');
    await stack.vault.trouble({ kind: 'hang' });
    await untilDisk(stack, 'bare', 'suspended');
    await pause(SHORT_LEASE_MS);
    t.equal(await stateOf(stack, 'host'), 'online');
    t.equal(await grantedBy('host'), 'availability');
    t.ok(await writer.stop());
  });

  await t.test('its use is an alarm, a metric, and in the audit log', async (t) => {
    const { alarms } = await stack.admin.status();
    t.ok(alarms.some(({ name }) => name === 'availability key host'));
    const { metrics } = await stack.admin.status();
    const text = await (await fetch(metrics ?? '')).text();
    t.match(text, /keyhold_set_availability_in_use\{[^}]*set="host"[^}]*\} 1/);
    t.ok((await auditKinds('host')).includes('availability-used'));
    t.match(await stack.ok('set', 'show', 'host'), /granted by +the availability key/);
  });

  await t.test('it unlocks the disk of a daemon that starts in the outage', async (t) => {
    await stack.stopDev();
    await stack.startTroubled({ kind: 'hang' });
    await untilDisk(stack, 'host', 'online');
    t.ok(await isFilled(stack, 'host', 0x61));
    t.equal(await grantedBy('host'), 'availability');
  });

  await t.test('it opens no disk of a set that has none', async (t) => {
    t.not(await stateOf(stack, 'bare'), 'online');
  });

  await t.test('when the vault answers it stands back', async (t) => {
    await stack.vault.trouble({ kind: 'none' });
    await eventually('granted by the vault', async () => (await grantedBy('host')) === 'vault');
    await untilDisk(stack, 'bare', 'online');
    t.ok((await auditKinds('host')).includes('availability-ended'));
  });

  await t.test('a disabled key takes the disk offline, availability key or not', async (t) => {
    await stack.vault.disableKey('host-key');
    await untilDisk(stack, 'host', 'offline(key-disabled)');
    t.equal(await grantedBy('host'), null);
  });

  await t.test('and it stays so when the vault then falls silent', async (t) => {
    await stack.vault.trouble({ kind: 'hang' });
    await pause(SHORT_LEASE_MS);
    t.equal(await stateOf(stack, 'host'), 'offline(key-disabled)');
  });

  await t.test('and when the daemon then starts again', async (t) => {
    await stack.stopDev();
    await stack.startTroubled({ kind: 'hang' });
    await pause(SHORT_LEASE_MS);
    t.equal(await stateOf(stack, 'host'), 'offline(key-disabled)');
    const refused = { code: 'ERR_DISK_KEY_INACCESSIBLE' };
    await t.rejects(stack.admin.attachDisk('host'), refused);
  });

  await t.test('until the key is enabled and the vault answers', async (t) => {
    await stack.vault.enableKey('host-key');
    await stack.vault.trouble({ kind: 'none' });
    await untilDisk(stack, 'host', 'online');
    t.ok(await isFilled(stack, 'host', 0x61));
  });
});

void test('a second key that is silent is a warning, and the disk serves on', async (t) => {
  await onTwoKeys('quiet', { leaseMs: SHORT_LEASE_MS });
  await silence('quiet-key2');
  await eventually('it is said', async () => {
    return (await stack.admin.showSet('quiet')).warnings.some((text) => text.includes('no answer'));
  });
  await pause(SHORT_LEASE_MS);
  t.equal(await stateOf(stack, 'quiet'), 'online');
  await endSilence('quiet-key2');
});

void test('any: the second key disabled takes the disk offline, although the first gives proof', async (t) => {
  await onTwoKeys('any');
  await stack.vault.disableKey('any-key2');
  await untilDisk(stack, 'any', 'offline(key-disabled)');
  const { keys } = await stack.admin.showSet('any');
  t.match(keys, [
    { slot: 1, verdict: 'PROOF' },
    { slot: 2, verdict: 'DENIED' },
  ]);
  t.equal((await stack.disk('any')).keyVersion, keys[1]?.version);
  await stack.vault.enableKey('any-key2');
  await untilDisk(stack, 'any', 'online');
});

void test('any: the second key disabled takes the disk offline while the first is silent', async () => {
  await onTwoKeys('anysilent');
  await silence('anysilent-key');
  await stack.vault.disableKey('anysilent-key2');
  await untilDisk(stack, 'anysilent', 'offline(key-disabled)');
  await endSilence('anysilent-key');
});

void test('all: one disabled key of two is a warning; both take the disk offline', async (t) => {
  await onTwoKeys('all', { revokeWhen: 'all' });
  await stack.vault.disableKey('all-key');
  await pause(QUIET_MS);
  t.equal(await stateOf(stack, 'all'), 'online');
  t.match(await stack.admin.showSet('all'), { alarm: true, warnings: [/is denied: KeyDisabled/] });
  await stack.vault.disableKey('all-key2');
  await untilDisk(stack, 'all', 'offline(key-disabled)');
  await stack.vault.enableKey('all-key2');
  await untilDisk(stack, 'all', 'online');
});

void test('all: one key silent and one denied is no revocation: the lease runs out', async (t) => {
  await onTwoKeys('lapse', { revokeWhen: 'all', leaseMs: SHORT_LEASE_MS });
  await silence('lapse-key');
  await stack.vault.disableKey('lapse-key2');
  await untilDisk(stack, 'lapse', 'suspended');
  await endSilence('lapse-key');
  await untilDisk(stack, 'lapse', 'online');
  t.equal((await stack.admin.showSet('lapse')).access, 'granted');
});

void test('a set is not created on two versions of one key', async (t) => {
  const keyUrl = await createKey(stack, 'same-key');
  const made = createSet(stack, 'same', {
    keyUrl,
    key2Url: (await stack.vault.key('same-key')).kid,
  });
  await t.rejects(made, { code: 'ERR_SET_OPTION' });
});

void test('a set is not created on a second key that is disabled', async (t) => {
  const { id: key2Url } = await stack.vault.createKey({ name: 'half-key2', enabled: false });
  await t.rejects(createSet(stack, 'half', { key2Url }), { code: 'ERR_KEY_DISABLED' });
  await t.rejects(stack.admin.showSet('half'), { code: 'ERR_SET_NOT_FOUND' });
});

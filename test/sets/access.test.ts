// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { DELETED, DISABLED, NO_ROLE, PROOF, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

async function withSet(t: Test, options: Parameters<World['createSet']>[0] = {}): Promise<World> {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await world.createSet(options);
  return world;
}

function access(world: World): string {
  return world.sets.get('s').access.kind;
}

function useKey(world: World): Promise<boolean> {
  return world.sets.get('s').useSetKey((key) => !key.wiped);
}

void test('the lease counts from the start of the probe', async (t) => {
  const world = await withSet(t);
  world.vault.latencyMs = 2000;
  await world.clock.advance(12_000);
  const set = world.sets.get('s');
  const lastStart = world.vault.probes.at(-1)?.startedBootMs ?? 0;
  t.equal(set.lease.deadlineBootMs(), lastStart + 15 * 60_000);
});

void test('a proof that took longer than the lease proves nothing', async (t) => {
  const world = await withSet(t, { probeIntervalMs: 1000, leaseMs: 3500 });
  world.vault.latencyMs = 5000;
  await world.clock.advance(9000);
  t.equal(access(world), 'lapsed');
  await world.clock.advance(30_000);
  t.equal(access(world), 'lapsed');
});

void test('a disabled key denies the set within one interval plus one second', async (t) => {
  const world = await withSet(t);
  world.vault.latencyMs = 100;
  await world.clock.advance(30_000);
  world.vault.behave(KEY_URL, DISABLED);
  await world.clock.advance(11_000);
  t.match(world.sets.get('s').access, {
    kind: 'denied',
    denial: { reason: 'key-disabled', keyVersion: 'v1', verdict: { code: 'KeyDisabled' } },
  });
});

void test('a denial ends the lease and wipes the set key, in either mode', async (t) => {
  for (const mode of ['immediate', 'restart'] as const) {
    const world = await withSet(t, { mode });
    t.equal(await useKey(world), true);
    world.vault.behave(KEY_URL, DISABLED);
    await world.during(world.sets.check('s'));
    t.equal(world.sets.get('s').lease.deadlineBootMs(), 0);
    t.equal(world.custody.liveKeys.length, 0);
    await t.rejects(useKey(world), { code: 'ERR_SET_DENIED', message: /key-disabled/ });
  }
});

void test('an unconfirmed denial leaves the lease alone', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, DISABLED, PROOF);
  await world.clock.advance(15_000);
  t.equal(access(world), 'granted');
  t.equal(await useKey(world), true);
  t.equal(world.setEvents('denied').length, 0);
});

void test('a missing role is suspected for five seconds, and the set serves on meanwhile', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, NO_ROLE);
  const before = world.vault.probes.length;
  while (world.vault.probes.length === before) await world.clock.advance(10);
  await world.clock.advance(4900);
  t.equal(access(world), 'granted');
  await world.clock.advance(200);
  t.equal(access(world), 'denied');
});

void test('a proof heals a denied set', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  world.vault.behave(KEY_URL, PROOF);
  await world.clock.advance(10_000);
  t.equal(access(world), 'granted');
  t.match(world.setEvents('granted').at(-1), { previous: 'denied' });
});

void test('a healed set unwraps its key again, once for all who ask', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  world.vault.behave(KEY_URL, PROOF);
  await world.during(world.sets.check('s'));
  world.vault.latencyMs = 500;
  const before = world.vault.unwraps.length;
  const uses = Promise.all(Array.from({ length: 20 }, () => useKey(world)));
  t.strictSame(new Set(await world.during(uses)), new Set([true]));
  t.equal(world.vault.unwraps.length - before, 1);
});

void test('a key that comes back while access is denied is wiped and not lent', async (t) => {
  const world = await withSet(t);
  world.sets
    .get('s')
    .useSetKey((key) => key.wipe())
    .catch(() => undefined);
  await world.clock.settle();
  world.vault.latencyMs = 300;
  const use = useKey(world);
  const refused = t.rejects(use, { code: 'ERR_SET_DENIED' });
  await world.clock.advance(100);
  world.vault.latencyMs = 10;
  const check = world.sets.check('s');
  world.vault.behave(KEY_URL, DISABLED, DISABLED, PROOF);
  await world.clock.advance(1000);
  await check;
  await refused;
  t.equal(world.custody.liveKeys.length, 0);
});

void test('an unwrap that is denied brings the next probe forward', async (t) => {
  const world = await withSet(t);
  await world.sets.get('s').useSetKey((key) => key.wipe());
  world.vault.behave(KEY_URL, DISABLED);
  await t.rejects(useKey(world), { code: 'ERR_KEY_UNWRAP_DENIED' });
  await world.clock.advance(10);
  t.equal(access(world), 'denied');
});

void test('an unwrap without an answer denies nothing', async (t) => {
  const world = await withSet(t);
  await world.sets.get('s').useSetKey((key) => key.wipe());
  world.vault.behave(KEY_URL, SILENT);
  await t.rejects(useKey(world), { code: 'ERR_KEY_UNWRAP_NO_ANSWER' });
  t.equal(access(world), 'granted');
});

void test('silence raises an alarm and changes nothing while the lease runs', async (t) => {
  const world = await withSet(t, { leaseMs: 60_000 });
  world.vault.behave(KEY_URL, SILENT);
  await world.clock.advance(50_000);
  t.equal(access(world), 'granted');
  t.match(world.sets.view('s'), { access: 'granted', alarm: true });
  t.equal(world.setEvents('alarm').length, 1, 'raised once');
  world.vault.behave(KEY_URL, PROOF);
  await world.clock.advance(10_000);
  t.equal(world.sets.view('s').alarm, false);
  t.match(world.setEvents('alarm').at(-1), { raised: false });
});

void test('silence until the lease ends lapses the set at its deadline, and wipes the key', async (t) => {
  const world = await withSet(t, { leaseMs: 60_000 });
  await useKey(world);
  const deadline = world.sets.get('s').lease.deadlineBootMs();
  world.vault.behave(KEY_URL, SILENT);
  await world.clock.advance(deadline - world.clock.bootMs() - 1);
  t.equal(access(world), 'granted');
  await world.clock.advance(1);
  t.equal(access(world), 'lapsed');
  t.equal(world.custody.liveKeys.length, 0);
  await t.rejects(useKey(world), { code: 'ERR_SET_LAPSED' });
  t.equal(world.setEvents('lapsed').length, 1);
});

void test('a lease that ended while timers slept is noticed at the next look', async (t) => {
  const world = await withSet(t, { leaseMs: 60_000 });
  const real = world.clock.bootMs.bind(world.clock);
  // The machine slept for an hour: boot time went on, timers did not.
  world.clock.bootMs = () => real() + 3_600_000;
  t.equal(access(world), 'lapsed');
  await t.rejects(useKey(world), { code: 'ERR_SET_LAPSED' });
});

void test('a jump of the wall clock moves no deadline', async (t) => {
  const world = await withSet(t, { leaseMs: 60_000 });
  const real = world.clock.nowMs.bind(world.clock);
  world.clock.nowMs = () => real() + 365 * 24 * 3_600_000;
  await world.clock.advance(50_000);
  t.equal(access(world), 'granted');
});

void test('a proof after the lapse heals', async (t) => {
  const world = await withSet(t, { leaseMs: 60_000 });
  world.vault.behave(KEY_URL, SILENT);
  await world.clock.advance(120_000);
  world.vault.behave(KEY_URL, PROOF);
  await world.clock.advance(10_000);
  t.equal(access(world), 'granted');
  t.equal(await useKey(world), true);
});

void test('the loss of the identity runs the lease out, and counts only then', async (t) => {
  const world = await withSet(t, { leaseMs: 60_000 });
  world.vault.behave(KEY_URL, { kind: 'identity-denied' });
  await world.clock.advance(59_000);
  t.match(world.sets.view('s'), { access: 'granted', alarm: true });
  await world.clock.advance(12_000);
  t.match(world.sets.get('s').access, { kind: 'denied', denial: { reason: 'identity-denied' } });
});

void test('a denial with another reason replaces the first, and keeps the time first seen', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  const [first] = world.setEvents('denied');
  await world.clock.advance(60_000);
  world.vault.behave(KEY_URL, DELETED);
  await world.during(world.sets.check('s'));
  const [, second, third] = world.setEvents('denied');
  t.match(second?.denial, { reason: 'key-deleted', firstSeenMs: first?.denial.firstSeenMs });
  t.equal(third, undefined, 'one event for each change');
});

void test('before the first verdict the key is refused', async (t) => {
  const world = await withSet(t);
  world.vault.behave(KEY_URL, SILENT);
  const reborn = await world.reborn();
  t.equal(access(reborn), 'unknown');
  await t.rejects(useKey(reborn), { code: 'ERR_SET_LAPSED', message: /not proved access yet/ });
});

void test('the view shows verdict, time and what the vault said', async (t) => {
  const world = await withSet(t, { mode: 'restart', probeIntervalMs: 5000 });
  t.match(world.sets.view('s'), {
    name: 's',
    mode: 'restart',
    access: 'granted',
    probeIntervalSeconds: 5,
    leaseSeconds: 900,
    suspendTimeoutSeconds: 300,
    identity: 'main',
    disks: [],
    keys: [{ id: KEY_URL, version: 'v1', verdict: 'PROOF', error: null }],
  });
  t.ok((world.sets.view('s').leaseSecondsLeft ?? 0) > 890);
  world.vault.behave(KEY_URL, DISABLED);
  t.match(await world.during(world.sets.check('s')), {
    set: 's',
    verdict: 'DENIED',
    access: 'denied',
    leaseSecondsLeft: null,
    keys: [
      {
        verdict: 'DENIED',
        since: /^\d{4}-.*Z$/,
        error: { code: 'KeyDisabled', message: 'refused: KeyDisabled', requestId: /^request-/ },
      },
    ],
  });
});

void test('closing wipes the set key and stops every timer of probing', async (t) => {
  const world = await withSet(t);
  await useKey(world);
  world.sets.close();
  t.equal(world.custody.liveKeys.length, 0);
  const before = world.vault.probes.length;
  await world.clock.advance(600_000);
  t.equal(world.vault.probes.length, before);
});

// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { type Behaviour, DISABLED, PROOF, SILENT } from '../support/fake-vault.js';
import { World } from '../support/world.js';

const FIRST = 'https://first.example/keys/a/v1';
const SECOND = 'https://second.example/keys/b/v1';

async function withTwo(
  t: Test,
  revokeWhen: 'any' | 'all',
  options: Parameters<World['createSet']>[0] = {},
): Promise<World> {
  const world = await World.withDisk({
    keyUrl: FIRST,
    key2Url: SECOND,
    revokeWhen,
    leaseMs: 60_000,
    ...options,
  });
  t.teardown(() => world.destroy());
  return world;
}

/** docs/KEYS.md section 3, row by row. */
const TABLE: ReadonlyArray<[string, Behaviour, Behaviour, string, string]> = [
  ['PROOF, PROOF', PROOF, PROOF, 'online', 'online'],
  ['PROOF, NO-ANSWER', PROOF, SILENT, 'online', 'online'],
  ['NO-ANSWER, PROOF', SILENT, PROOF, 'online', 'online'],
  ['PROOF, DENIED', PROOF, DISABLED, 'offline(key-disabled)', 'online'],
  ['DENIED, PROOF', DISABLED, PROOF, 'offline(key-disabled)', 'online'],
  ['NO-ANSWER, NO-ANSWER', SILENT, SILENT, 'suspended', 'suspended'],
  ['NO-ANSWER, DENIED', SILENT, DISABLED, 'offline(key-disabled)', 'suspended'],
  ['DENIED, DENIED', DISABLED, DISABLED, 'offline(key-disabled)', 'offline(key-disabled)'],
];

for (const [row, first, second, any, all] of TABLE) {
  for (const [revokeWhen, expected] of [
    ['any', any],
    ['all', all],
  ] as const) {
    void test(`${row} with revoke-when ${revokeWhen}: ${expected}`, async (t) => {
      const world = await withTwo(t, revokeWhen);
      world.vault.behave(FIRST, first);
      world.vault.behave(SECOND, second);
      await world.pass(90_000);
      t.equal(world.state(), expected);
    });
  }
}

void test('one key without an answer is a warning, not silence', async (t) => {
  const world = await withTwo(t, 'any');
  world.vault.behave(SECOND, SILENT);
  await world.pass(30_000);
  const view = world.sets.view('s');
  t.equal(view.alarm, true);
  t.match(view.warnings, [/key b version v1 gives no answer/]);
});

void test('a warning is raised once, not with every probe of the other key', async (t) => {
  const world = await withTwo(t, 'any');
  world.vault.behave(SECOND, SILENT);
  await world.pass(120_000);
  t.equal(world.setEvents('alarm').length, 1);
});

void test('one denied key of two is a warning where both must be denied', async (t) => {
  const world = await withTwo(t, 'all');
  world.vault.behave(FIRST, DISABLED);
  await world.pass(30_000);
  t.match(world.sets.view('s').warnings, [/key a version v1 is denied: KeyDisabled/]);
});

void test('a restarted daemon unwraps with the second key while the first is silent', async (t) => {
  const world = await withTwo(t, 'any');
  world.vault.behave(FIRST, SILENT);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(20_000);
  t.equal(reborn.state(), 'online');
  t.equal(reborn.vault.unwraps.at(-1), SECOND);
});

void test('a denied first key is not stepped over by the second: a denial of either wins', async (t) => {
  const world = await withTwo(t, 'any');
  world.vault.behave(FIRST, DISABLED);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(20_000);
  t.equal(reborn.state(), 'offline(key-disabled)');
});

void test('where both must be denied a restarted daemon steps over the denied one', async (t) => {
  const world = await withTwo(t, 'all');
  world.vault.behave(FIRST, DISABLED);
  const reborn = await world.reborn();
  t.teardown(() => reborn.destroy());
  await reborn.pass(20_000);
  t.equal(reborn.state(), 'online');
});

void test('the set heals when the denied one of two is enabled again', async (t) => {
  const world = await withTwo(t, 'any');
  world.vault.behave(FIRST, DISABLED);
  await world.pass(30_000);
  t.equal(world.state(), 'offline(key-disabled)');
  world.vault.behave(FIRST, PROOF);
  await world.pass(30_000);
  t.equal(world.state(), 'online');
});

void test('a second key that is the first one is refused', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await t.rejects(world.createSet({ keyUrl: FIRST, key2Url: FIRST }), { code: 'ERR_SET_OPTION' });
});

void test('revoke-when all with one key is refused', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await t.rejects(world.createSet({ keyUrl: FIRST, revokeWhen: 'all' }), {
    code: 'ERR_SET_OPTION',
  });
});

void test('a set is not created when its second key is denied', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  world.vault.behave(SECOND, DISABLED);
  await t.rejects(world.createSet({ keyUrl: FIRST, key2Url: SECOND }));
  t.strictSame(world.sets.views(), []);
  t.equal(world.custody.liveKeys.length, 0);
});

void test('the header carries the set key under both keys', async (t) => {
  const world = await withTwo(t, 'any');
  const [report] = await world.disks.ofSets.headers(world.sets.get('s').id);
  t.strictSame(report?.kids, [FIRST, SECOND]);
});

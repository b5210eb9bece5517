// SPDX-License-Identifier: Apache-2.0
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { KeyholdError } from '../../src/base/errors.js';
import type { CreateSetOptions } from '../../src/sets/create-set.js';
import { DISABLED, PROOF, SILENT } from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

async function empty(t: Test): Promise<World> {
  const world = await World.create();
  t.teardown(() => world.destroy());
  return world;
}

const OPTIONS: CreateSetOptions = {
  name: 's',
  keyUrl: KEY_URL,
  identity: 'main',
  mode: 'immediate',
};

/** Nothing of a set that could not be created: no file, no key, no probing. */
async function assertNothing(t: Test, world: World): Promise<void> {
  t.strictSame(await readdir(join(world.stateDir, 'sets')), [], 'no record');
  t.equal(world.custody.liveKeys.length, 0, 'no key in memory');
  t.strictSame(world.sets.views(), []);
  const probes = world.vault.probes.length;
  await world.clock.advance(60_000);
  t.equal(world.vault.probes.length, probes, 'no probing');
}

void test('a new set is granted, recorded, and needs no further vault call for its key', async (t) => {
  const world = await empty(t);
  await world.createSet();
  t.equal(world.sets.get('s').access.kind, 'granted');
  const before = world.vault.unwraps.length;
  t.equal(await world.sets.get('s').useSetKey((key) => key.wiped), false);
  t.equal(world.vault.unwraps.length, before);
  t.match(world.setEvents('created'), [{ set: { name: 's' }, kid: KEY_URL }]);
});

void test('the record holds no plaintext of the set key', async (t) => {
  const world = await empty(t);
  await world.createSet();
  const text = await readFile(join(world.stateDir, 'sets', 's.json'), 'utf8');
  for (const key of world.custody.keys.filter((candidate) => !candidate.wiped)) {
    for (const encoding of ['hex', 'base64', 'base64url'] as const) {
      t.notOk(text.includes(key.bytes.toString(encoding)), encoding);
    }
  }
});

void test('a key URL without a version is pinned to the version that the vault named', async (t) => {
  const world = await empty(t);
  await world.createSet({ keyUrl: 'https://vault.example/keys/k' });
  t.match(world.sets.get('s').record.keys, [{ kid: KEY_URL, keyVersion: 'v1', versionless: true }]);
  await world.createSet({ name: 'pinned' });
  t.match(world.sets.get('pinned').record.keys, [{ versionless: false }]);
});

void test('sets survive a restart', async (t) => {
  const world = await empty(t);
  await world.createSet({ mode: 'restart', leaseMs: 60_000, holdOnHeal: true });
  const before = world.sets.get('s').record;
  const reborn = await world.reborn();
  t.strictSame(reborn.sets.get('s').record, before);
  await reborn.clock.advance(10);
  t.equal(reborn.sets.get('s').access.kind, 'granted');
});

void test('a vault that unwraps to another key is refused', async (t) => {
  const world = await empty(t);
  world.custody.wrapOther = true;
  await t.rejects(world.during(world.sets.create(OPTIONS)), { code: 'ERR_SET_KEY_VERIFY' });
  await assertNothing(t, world);
});

void test('a key that cannot be read creates nothing', async (t) => {
  const world = await empty(t);
  world.vault.fetchCustomerKey = () => Promise.reject(new KeyholdError('ERR_X', 'EC key'));
  await t.rejects(world.during(world.sets.create(OPTIONS)), { code: 'ERR_X' });
  await assertNothing(t, world);
});

void test('an identity that may wrap but not unwrap creates nothing', async (t) => {
  const world = await empty(t);
  world.vault.behave(KEY_URL, DISABLED);
  await t.rejects(world.during(world.sets.create(OPTIONS)), { code: 'ERR_KEY_UNWRAP_DENIED' });
  await assertNothing(t, world);
});

void test('a canary that is not proved creates nothing', async (t) => {
  const world = await empty(t);
  world.vault.behave(KEY_URL, PROOF, DISABLED);
  await t.rejects(world.during(world.sets.create(OPTIONS)), {
    code: 'ERR_SET_PROBE',
    message: /expected PROOF, got DENIED KeyDisabled/,
  });
  await assertNothing(t, world);
});

void test('a vault that falls silent at the canary creates nothing', async (t) => {
  const world = await empty(t);
  world.vault.behave(KEY_URL, PROOF, SILENT);
  await t.rejects(world.during(world.sets.create(OPTIONS)), { message: /got NO-ANSWER TIMEOUT/ });
  await assertNothing(t, world);
});

void test('a record that cannot be written creates nothing', async (t) => {
  const world = await empty(t);
  const blocker = join(world.stateDir, 'sets', 's.json.tmp');
  await mkdir(blocker);
  await t.rejects(world.during(world.sets.create(OPTIONS)), { code: 'EISDIR' });
  t.equal(world.custody.liveKeys.length, 0);
  t.strictSame(world.sets.views(), []);
});

void test('a name is taken once', async (t) => {
  const world = await empty(t);
  await world.createSet();
  await t.rejects(world.during(world.sets.create(OPTIONS)), { code: 'ERR_SET_EXISTS' });
});

void test('two commands cannot create one name at once', async (t) => {
  const world = await empty(t);
  const both = [world.sets.create(OPTIONS), world.sets.create(OPTIONS)];
  const results = await world.during(Promise.allSettled(both));
  t.strictSame(results.map((result) => result.status).sort(), ['fulfilled', 'rejected']);
});

for (const [name, shown] of [
  ['', '""'],
  ['a/b', '"a/b"'],
  ['../up', '"../up"'],
  ['.hidden', '".hidden"'],
  ['bell\u0007', '"bell\\u0007"'],
  ['c1\u009b31m', '\\u{9b}'],
  ['bidi\u202eflip', '\\u{202e}'],
  ['x'.repeat(65), '(65 characters)'],
  ['ümlaut', 'ümlaut'],
] as const) {
  void test(`the name ${JSON.stringify(name)} is refused, shown escaped, with the rule`, async (t) => {
    const world = await empty(t);
    const refused = world.sets.create({ ...OPTIONS, name });
    await t.rejects(refused, { code: 'ERR_NAME' });
    const message = await refused.then(String, String);
    t.ok(message.includes(shown), message);
    t.match(message, /expected a letter or digit, then up to 63/);
    t.notMatch(message, /[\p{Cc}\p{Cf}]/u);
  });
}

void test('a lease no longer than interval plus timeout is refused, naming both', async (t) => {
  const world = await empty(t);
  await t.rejects(world.sets.create({ ...OPTIONS, probeIntervalMs: 10_000, leaseMs: 15_000 }), {
    code: 'ERR_SET_OPTION',
    message: /lease is 15s, expected more than 15s \(probe interval 10s plus probe timeout 5s\)/,
  });
});

for (const times of [
  { probeIntervalMs: 99 },
  { probeIntervalMs: 1.5 },
  { probeIntervalMs: Number.NaN },
  { suspendTimeoutMs: 0 },
  { leaseMs: 31 * 24 * 3_600_000 },
]) {
  void test(`times ${JSON.stringify(times)} are refused`, async (t) => {
    const world = await empty(t);
    await t.rejects(world.sets.create({ ...OPTIONS, ...times }), { code: 'ERR_SET_OPTION' });
  });
}

void test('a set with disks is not deleted', async (t) => {
  const world = await empty(t);
  await world.createSet();
  await world.createDisk();
  await t.rejects(world.during(world.sets.delete('s')), {
    code: 'ERR_SET_IN_USE',
    message: /: d$/,
  });
  t.equal(world.sets.view('s').access, 'granted');
});

void test('a deleted set is gone with record, key and probing', async (t) => {
  const world = await empty(t);
  await world.createSet();
  await world.during(world.sets.delete('s'));
  await assertNothing(t, world);
  t.throws(() => world.sets.get('s'), { code: 'ERR_SET_NOT_FOUND' });
});

void test('a set without access can be deleted', async (t) => {
  const world = await empty(t);
  await world.createSet();
  world.vault.behave(KEY_URL, DISABLED);
  await world.during(world.sets.check('s'));
  await world.during(world.sets.delete('s'));
  t.strictSame(world.sets.views(), []);
});

void test('an unknown set is not found, whatever its name', async (t) => {
  const world = await empty(t);
  t.throws(() => world.sets.get('nope'), {
    code: 'ERR_SET_NOT_FOUND',
    message: 'no encryption set "nope"',
  });
  await t.rejects(world.sets.check('a/b'), { code: 'ERR_SET_NOT_FOUND' });
  await t.rejects(world.sets.delete('__proto__'), { code: 'ERR_SET_NOT_FOUND' });
});

const damages: Array<[string, (text: string) => string, RegExp]> = [
  ['cut short', (text) => text.slice(0, 100), /JSON/],
  ['of a newer version', (text) => text.replace('"version": 1', '"version": 2'), /version/],
  [
    'under another name',
    (text) => text.replace('"name": "s"', '"name": "t"'),
    /expected s .* got t/,
  ],
  ['with an unknown field', (text) => text.replace('{', '{"extra": 1,'), /extra: unknown field/],
  ['without keys', (text) => text.replace(/"keys": \[[^\]]*\]/, '"keys": []'), /keys/],
];
for (const [what, damage, message] of damages) {
  void test(`a record ${what} breaks that set alone`, async (t) => {
    const world = await empty(t);
    await world.createSet();
    await world.createSet({ name: 'other' });
    const path = join(world.stateDir, 'sets', 's.json');
    await writeFile(path, damage(await readFile(path, 'utf8')));
    const reborn = await world.reborn();
    t.throws(() => reborn.sets.get('s'), { code: 'ERR_SET_RECORD', message });
    t.match(reborn.sets.broken(), [{ name: 's', path }]);
    t.equal(reborn.sets.view('other').name, 'other');
    await t.rejects(
      reborn.sets.create(OPTIONS),
      { code: 'ERR_SET_EXISTS' },
      'the name stays taken',
    );
  });
}

void test('a copied record does not give two sets one id', async (t) => {
  const world = await empty(t);
  await world.createSet();
  const text = await readFile(join(world.stateDir, 'sets', 's.json'), 'utf8');
  await writeFile(
    join(world.stateDir, 'sets', 't.json'),
    text.replace('"name": "s"', '"name": "t"'),
  );
  const reborn = await world.reborn();
  t.match(reborn.sets.broken(), [{ name: 't', message: /is also that of s/ }]);
});

void test('what a crash left of a write is cleared away', async (t) => {
  const world = await empty(t);
  await world.createSet();
  await writeFile(join(world.stateDir, 'sets', 's.json.tmp'), '{"half":');
  await world.reborn();
  t.strictSame(await readdir(join(world.stateDir, 'sets')), ['s.json']);
});

void test('records are for the owner only', async (t) => {
  const world = await empty(t);
  await world.createSet();

  t.equal((await stat(join(world.stateDir, 'sets', 's.json'))).mode & 0o777, 0o600);
});

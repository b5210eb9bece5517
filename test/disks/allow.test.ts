// SPDX-License-Identifier: Apache-2.0
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { AccessChange } from '../../src/disks/disk-access.js';
import type { DiskRecord } from '../../src/disks/record.js';
import type { ExportInfo, ExportRefusal } from '../../src/nbd/exports.js';
import type { Peer } from '../../src/nbd/peer.js';
import { World } from '../support/world.js';

function user(uid: number): Peer {
  return { address: { kind: 'unix', pid: 42, uid, gid: uid }, tls: null };
}

const ALICE = user(1000);
const BOB = user(2000);
const REMOTE: Peer = { address: { kind: 'tcp', address: '10.0.0.1', port: 4711 }, tls: null };

async function withDisk(t: Test): Promise<World> {
  const world = await World.withDisk();
  t.teardown(() => world.destroy());
  return world;
}

async function change(world: World, what: AccessChange, name = 'd'): Promise<number> {
  const { disconnected } = await world.during(world.disks.changeAllow(name, what));
  return disconnected;
}

function ask(world: World, peer: Peer, name = 'd'): ExportInfo | ExportRefusal {
  return world.disks.exportsFor(peer).find(name);
}

function sees(world: World, peer: Peer, name = 'd'): boolean {
  const listed = world.disks
    .exportsFor(peer)
    .list()
    .some((shown) => shown.name === name);
  const found = !('refused' in ask(world, peer, name));
  if (listed !== found) throw new Error(`listed: ${listed}, found: ${found}`);
  return found;
}

/** As a file says it: older ones lack some fields. */
type Recorded = Partial<Omit<DiskRecord, 'store'>> & {
  store: Partial<DiskRecord['store']>;
};

async function recorded(world: World): Promise<Recorded> {
  const path = join(world.stateDir, 'disks', 'd.json');
  return JSON.parse(await readFile(path, 'utf8')) as Recorded;
}

/** Makes the next writes of the record fail. */
async function breakWrites(world: World): Promise<() => Promise<void>> {
  const obstacle = join(world.stateDir, 'disks', 'd.json.tmp');
  await mkdir(obstacle);
  return () => rmdir(obstacle);
}

void test('a new disk is open to this machine and to no network', async (t) => {
  const world = await withDisk(t);
  t.ok(sees(world, ALICE));
  t.notOk(sees(world, REMOTE));
});

void test('LIST and every question for an export see only what the peer may use', async (t) => {
  const world = await withDisk(t);
  await world.createDisk({ name: 'e', allow: ['uid=2000'] });
  await world.during(world.disks.attach('e'));
  await change(world, { add: ['uid=1000'] });
  const names = (peer: Peer): string[] =>
    world.disks
      .exportsFor(peer)
      .list()
      .map(({ name }) => name);
  t.strictSame(names(ALICE), ['d']);
  t.strictSame(names(BOB), ['e']);
  t.strictSame(names(user(0)), [], 'root is a user like others');
  t.notOk(sees(world, ALICE, 'e'));
  t.notOk(sees(world, BOB, 'd'));
});

void test('a denied name is answered exactly like one that does not exist', async (t) => {
  const world = await withDisk(t);
  const unknown = ask(world, BOB);
  t.notMatch(unknown, { refused: 'unknown' }, 'the disk is there for Bob at first');
  await change(world, { add: ['uid=1000'] });
  const denied = ask(world, BOB);
  await world.during(world.disks.detach('d'));
  const deniedOffline = ask(world, BOB);
  await world.during(world.disks.delete('d', { deleteStore: true }));
  const missing = ask(world, BOB);
  t.strictSame(denied, missing);
  t.strictSame(deniedOffline, missing, 'nor does its state show');
  t.strictSame(missing, { refused: 'unknown', text: 'no export "d"' });
});

void test('a refusal is told with its true reason to those who watch', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  ask(world, BOB);
  ask(world, BOB, 'nope');
  await world.during(world.disks.detach('d'));
  ask(world, ALICE);
  t.strictSame(world.events('refused'), [
    { reason: 'denied', name: 'd', peer: BOB },
    { reason: 'unknown', name: 'nope', peer: BOB },
    { reason: 'offline', name: 'd', peer: ALICE },
  ]);
});

void test('refusals and lists ask neither the vault nor the data plane', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  const asked = (): number[] => [
    world.plane.opened,
    world.vault.probes.length,
    world.vault.unwraps.length,
  ];
  const before = asked();
  for (let turn = 0; turn < 100; turn += 1) {
    ask(world, BOB);
    world.disks.exportsFor(BOB).list();
  }
  await world.rest();
  t.strictSame(asked(), before);
});

void test('rules are kept in their one spelling, each once, in order', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['gid=7', ' cidr=10.0.0.1  and san=DNS:a ', 'gid=7'] });
  await change(world, { add: ['gid=7'] });
  const allow = ['gid=7', 'san=DNS:a and cidr=10.0.0.1/32'];
  t.strictSame((await recorded(world)).allow, allow);
  t.strictSame(world.disks.view('d').allow, allow);
});

void test('a change clears first, then removes, then adds', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1', 'uid=2'] });
  await change(world, { remove: ['uid=1'], add: ['uid=3', 'uid=1'] });
  t.strictSame(world.disks.view('d').allow, ['uid=2', 'uid=3', 'uid=1']);
  await change(world, { clear: true, add: ['uid=4'] });
  t.strictSame(world.disks.view('d').allow, ['uid=4']);
});

const BAD_CHANGES: ReadonlyArray<readonly [string, AccessChange, string, RegExp]> = [
  ['a bad rule', { add: ['uid=5', 'uid=x'] }, 'ERR_ACCESS_RULE', /condition uid: expected/],
  ['a bad rule to remove', { remove: ['uid=x'] }, 'ERR_ACCESS_RULE', /condition uid: expected/],
  [
    'a rule to remove that is not there',
    { remove: ['uid=1000', 'uid=9'], add: ['uid=5'] },
    'ERR_ACCESS_RULE_UNKNOWN',
    /disk d: the list has no rule "uid=9"/,
  ],
  [
    'a rule to remove after a clear',
    { clear: true, remove: ['uid=1000'] },
    'ERR_ACCESS_RULE_UNKNOWN',
    /no rule "uid=1000"/,
  ],
  [
    'more rules than a disk may have',
    { add: Array.from({ length: 32 }, (_, uid) => `uid=${uid}`) },
    'ERR_ACCESS_RULE',
    /33 rules, expected at most 32/,
  ],
];
for (const [what, bad, code, message] of BAD_CHANGES) {
  void test(`${what} changes nothing`, async (t) => {
    const world = await withDisk(t);
    await change(world, { add: ['uid=1000'] });
    world.planeDisk().connect(ALICE);
    await t.rejects(change(world, bad), { code, message });
    t.strictSame((await recorded(world)).allow, ['uid=1000']);
    t.ok(sees(world, ALICE));
    t.notOk(sees(world, user(5)));
    t.equal(world.planeDisk().connected.size, 1);
  });
}

void test('a disk that is created with a bad rule is not created', async (t) => {
  const world = await withDisk(t);
  await t.rejects(world.createDisk({ name: 'e', allow: ['cidr=10.0.0.1/8'] }), {
    code: 'ERR_ACCESS_RULE',
  });
  t.match(world.disks.views(), [{ name: 'd' }]);
});

void test('while a list is being written, a newcomer must be admitted by both', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000', 'uid=3000'] });
  const changing = world.disks.changeAllow('d', { remove: ['uid=1000'], add: ['uid=2000'] });
  const during = [ALICE, BOB, user(3000)].map((peer) => sees(world, peer));
  t.strictSame((await recorded(world)).allow, ['uid=1000', 'uid=3000'], 'not written yet');
  t.strictSame(during, [false, false, true], 'neither the old rule nor the new one counts');
  await world.during(changing);
  t.strictSame((await recorded(world)).allow, ['uid=3000', 'uid=2000']);
  t.strictSame(
    [ALICE, BOB, user(3000)].map((peer) => sees(world, peer)),
    [false, true, true],
  );
});

void test('a list that cannot be written stays as it was, and so do the sessions', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  world.planeDisk().connect(ALICE);
  const repair = await breakWrites(world);
  await t.rejects(change(world, { remove: ['uid=1000'], add: ['uid=2000'] }));
  t.ok(sees(world, ALICE));
  t.notOk(sees(world, BOB));
  t.equal(world.planeDisk().connected.size, 1);
  t.strictSame(world.disks.view('d').allow, ['uid=1000']);
  await repair();
  t.equal(await change(world, { remove: ['uid=1000'], add: ['uid=2000'] }), 1, 'works again');
});

void test('a daemon killed while it wrote a list has the old one or the new one', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  await writeFile(join(world.stateDir, 'disks', 'd.json.tmp'), '{"version":1,"allow":[]}');
  const reborn = await world.reborn({ crash: true });
  t.strictSame(reborn.disks.view('d').allow, ['uid=1000']);
  t.notOk(sees(reborn, BOB));
  await reborn.destroy();
});

void test('a list that shrinks closes the sessions of those it no longer admits', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000', 'uid=2000'] });
  const alice = world.planeDisk().connect(ALICE);
  world.planeDisk().connect(BOB);
  world.planeDisk().connect(BOB);
  t.equal(await change(world, { remove: ['uid=2000'] }), 2);
  t.strictSame([...world.planeDisk().connected.keys()], [alice]);
  t.strictSame(
    world.events('client-expelled').map(({ peer }) => peer),
    [BOB, BOB],
  );
  t.equal(world.state(), 'online');
});

void test('sessions are closed only when the list is durable', async (t) => {
  const world = await withDisk(t);
  world.planeDisk().connect(BOB);
  const changing = world.disks.changeAllow('d', { add: ['uid=1000'] });
  t.equal(world.planeDisk().connected.size, 1);
  await world.during(changing);
  t.equal(world.planeDisk().connected.size, 0);
});

void test('a list that widens closes nothing', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  world.planeDisk().connect(ALICE);
  t.equal(await change(world, { add: ['uid=2000'] }), 0);
  t.equal(world.planeDisk().connected.size, 1);
});

void test('the first rule closes the sessions of everybody else of this machine', async (t) => {
  const world = await withDisk(t);
  world.planeDisk().connect(ALICE);
  world.planeDisk().connect(BOB);
  t.equal(await change(world, { add: ['uid=1000'] }), 1);
  t.equal(await change(world, { clear: true }), 0);
  t.ok(sees(world, BOB), 'an empty list is open to this machine again');
});

void test('a session that starts after its rule has gone is closed at once', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  world.planeDisk().connect(BOB);
  await world.rest();
  t.equal(world.planeDisk().connected.size, 0);
  t.match(world.events('client-expelled'), [{ peer: BOB }]);
});

void test('a change that changes nothing tells nothing', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  await change(world, { add: ['uid=1000'] });
  t.match(world.events('allow-changed'), [{ added: ['uid=1000'], removed: [] }]);
  t.equal(world.events('allow-changed').length, 1);
});

void test('an offline disk takes rules, and they outlive a restart', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.detach('d'));
  await change(world, { add: ['uid=1000'] });
  const reborn = await world.reborn();
  await reborn.during(reborn.disks.attach('d'));
  t.ok(sees(reborn, ALICE));
  t.notOk(sees(reborn, BOB));
  await reborn.destroy();
});

void test('a change of state does not lose the rules', async (t) => {
  const world = await withDisk(t);
  await change(world, { add: ['uid=1000'] });
  await world.during(world.disks.restart('d'));
  t.strictSame((await recorded(world)).allow, ['uid=1000']);
});

void test('a record from before there were lists and direct stores is open to this machine', async (t) => {
  const world = await withDisk(t);
  const path = join(world.stateDir, 'disks', 'd.json');
  const record = await recorded(world);
  delete record.store.direct;
  const old = Object.entries(record).filter(
    ([field]) => !['allow', 'rotational', 'description'].includes(field),
  );
  await writeFile(path, JSON.stringify(Object.fromEntries(old)));
  const reborn = await world.reborn();
  await reborn.during(reborn.disks.attach('d'));
  t.ok(sees(reborn, ALICE));
  t.notOk(sees(reborn, REMOTE));
  t.match(reborn.disks.view('d'), {
    allow: [],
    rotational: false,
    direct: false,
    description: '',
  });
  await reborn.destroy();
});

const BAD_LISTS: ReadonlyArray<readonly [string, unknown, RegExp]> = [
  ['a rule that cannot be read', ['uid=root'], /allow\[0\].*condition uid/],
  ['an empty rule', [''], /allow\[0\]/],
  ['a rule in another spelling', ['cidr=10.0.0.1'], /allow\[0\]: expected cidr=10\.0\.0\.1\/32/],
  ['rules that are no text', [{ uid: 0 }], /allow\[0\]/],
  ['null', null, /allow/],
];
for (const [what, allow, message] of BAD_LISTS) {
  void test(`a record with ${what} breaks the disk instead of opening it`, async (t) => {
    const world = await withDisk(t);
    const path = join(world.stateDir, 'disks', 'd.json');
    await writeFile(path, JSON.stringify({ ...(await recorded(world)), allow }));
    const reborn = await world.reborn();
    t.match(reborn.disks.broken(), [{ name: 'd', message }]);
    t.notOk(sees(reborn, ALICE));
    await reborn.destroy();
  });
}

void test('a rotational disk says so to its clients', async (t) => {
  const world = await withDisk(t);
  await world.createDisk({ name: 'e', rotational: true });
  await world.during(world.disks.attach('e'));
  t.match(ask(world, ALICE, 'e'), { rotational: true });
  t.match(ask(world, ALICE), { rotational: false });
});

void test('a described disk tells its clients, in LIST and in the facts of the export', async (t) => {
  const world = await withDisk(t);
  const description = 'Bestellungen – 2019';
  await world.createDisk({ name: 'e', description });
  await world.during(world.disks.attach('e'));
  t.match(ask(world, ALICE, 'e'), { description });
  t.match(ask(world, ALICE), { description: '' });
  t.strictSame(world.disks.exportsFor(ALICE).list(), [
    { name: 'd', description: '' },
    { name: 'e', description },
  ]);
});

void test('a record whose description has two lines breaks the disk', async (t) => {
  const world = await withDisk(t);
  const path = join(world.stateDir, 'disks', 'd.json');
  await writeFile(path, JSON.stringify({ ...(await recorded(world)), description: 'a\nb' }));
  const reborn = await world.reborn();
  t.match(reborn.disks.broken(), [{ name: 'd', message: /description: found U\+000a at index 1/ }]);
  await reborn.destroy();
});

void test('a list that nobody can change any more is refused as closed', async (t) => {
  const world = await withDisk(t);
  await world.during(world.disks.close());
  await t.rejects(change(world, { add: ['uid=1'] }), { code: 'ERR_DISK_CLOSED' });
});

void test('the list of a disk that does not exist is not found', async (t) => {
  const world = await withDisk(t);
  await t.rejects(change(world, { add: ['uid=1'] }, 'nope'), { code: 'ERR_DISK_NOT_FOUND' });
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { inChild, outputOf } from './child.js';

/** A plane with a disk, and a way to name what a promise or a call ends with. */
const DISK = `
  const dir = scratch();
  const plane = createPlane();
  process.on('exit', () => plane.stop());
  const lease = addon.createLease();
  lease.renew(addon.bootTimeMs(), 60000);
  const openDisk = (name = 'store') => plane.openDisk(diskOptions(createStore(dir, name)), lease);
  const disk = openDisk();
  const key = addon.generateSetKey();
  const aad = new Uint8Array(8);
  const { sealed, digest } = key.createDek(aad);
  const stay = setInterval(() => {}, 1000);
  const end = async (call) => {
    try { await call(); return 'resolved'; } catch (error) { return error.nativeCode; }
  };
  const print = (value) => { clearInterval(stay); console.log(value); };
`;

for (const call of [
  'disk.suspend()',
  'disk.goOffline()',
  'disk.disconnectClients()',
  'disk.close()',
  'disk.unlock(key, sealed, aad, digest)',
] as const) {
  void test(`${call} after close is refused as closed`, async (t) => {
    const output = await outputOf(`${DISK}
      await disk.close();
      print(await end(() => ${call}));
    `);
    t.equal(output, 'Closed');
  });

  void test(`${call} after the plane's stop is refused as closed`, async (t) => {
    const output = await outputOf(`${DISK}
      plane.stop();
      print(await end(() => ${call}));
    `);
    t.equal(output, 'Closed');
  });
}

for (const call of [
  `plane.listenUnix(path.join(dir, 'late'), 0o600)`,
  `plane.listenTcp('127.0.0.1', 0)`,
  `openDisk('late')`,
] as const) {
  void test(`${call} after stop is refused as closed`, async (t) => {
    const output = await outputOf(`${DISK}
      plane.stop();
      print(await end(() => ${call}));
    `);
    t.equal(output, 'Closed');
  });
}

void test('what a stopped plane is asked or told beyond that changes nothing', async (t) => {
  const output = await outputOf(`${DISK}
    plane.stop();
    plane.respond(1, null, { kind: 'close' });
    plane.closeConnection(1);
    plane.closeListener(1);
    plane.failShard(0);
    plane.stop();
    addon.runShard(plane.id, 0);
    print(plane.connections().length + disk.stats().connections);
  `);
  t.equal(output, '0');
});

void test('a disk that serves cannot be closed', async (t) => {
  const output = await outputOf(`${DISK}
    disk.unlock(key, sealed, aad, digest);
    print(await end(() => disk.close()));
  `);
  t.equal(output, 'State');
});

void test('a locked disk cannot be suspended', async (t) => {
  const output = await outputOf(`${DISK} print(await end(() => disk.suspend()));`);
  t.equal(output, 'State');
});

void test('a disk that serves cannot be unlocked again', async (t) => {
  const output = await outputOf(`${DISK}
    disk.unlock(key, sealed, aad, digest);
    print(await end(() => disk.unlock(key, sealed, aad, digest)));
  `);
  t.equal(output, 'State');
});

void test('a stop wipes the key of every disk before it returns', async (t) => {
  const output = await outputOf(`${DISK}
    disk.unlock(key, sealed, aad, digest);
    const before = disk.stats().keyPresent;
    plane.stop();
    print([before, disk.stats().keyPresent]);
  `);
  t.equal(output, '[ true, false ]');
});

void test('a promise that is pending when the plane stops rejects', async (t) => {
  const output = await outputOf(`${DISK}
    const shards = runShards(plane);
    await sleep(300);
    disk.unlock(key, sealed, aad, digest);
    const offline = end(() => disk.goOffline());
    plane.stop();
    print(await offline);
  `);
  t.equal(output, 'Closed');
});

void test('without shards every order of a disk is carried out at once', async (t) => {
  const output = await outputOf(`${DISK}
    disk.unlock(key, sealed, aad, digest);
    await disk.suspend();
    const receipt = await disk.goOffline();
    await disk.close();
    print(receipt.connections + ' ' + typeof receipt.flushError);
  `);
  t.equal(output, '0 string', 'and the receipt says that nobody could flush');
});

void test('collecting every kind of object, in use or not, does not crash', async (t) => {
  const { status, stderr } = await inChild(`${DISK}
    runShards(plane);
    await sleep(200);
    for (let round = 0; round < 30; round += 1) {
      const short = addon.createLease();
      short.renew(addon.bootTimeMs(), 20);
      const bound = addon.generateSetKey();
      bound.bindLease(short);
      const one = plane.openDisk(diskOptions(createStore(dir, 'n' + round)), short);
      try { one.unlock(key, sealed, aad, digest); } catch {}
      if (round % 3 === 0) one.goOffline().catch(() => {});
      createPlane();
      gc();
      await sleep(5);
    }
    await sleep(100);
    gc();
    await sleep(100);
    process.exit(0);`);
  t.same({ status, stderr }, { status: 0, stderr: '' });
});

void test('a disk keeps its plane alive when a script forgets the plane', async (t) => {
  const output = await outputOf(`
    const dir = scratch();
    const disk = createPlane().openDisk(diskOptions(createStore(dir, 's')), addon.createLease());
    gc();
    await sleep(20);
    gc();
    console.log(disk.stats().inFlight, (await Promise.allSettled([disk.close()]))[0].status);
  `);
  t.match(output, /^0/);
});

void test('200 disks opened and closed leave no descriptor behind', async (t) => {
  const output = await outputOf(`${DISK}
    const count = () => fs.readdirSync('/proc/self/fd').length;
    const before = count();
    for (let round = 0; round < 200; round += 1) await openDisk('round').close();
    print(count() - before);
  `);
  t.equal(output, '0');
});

void test('200 refused openings leave no descriptor behind', async (t) => {
  const output = await outputOf(`${DISK}
    const count = () => fs.readdirSync('/proc/self/fd').length;
    const before = count();
    const small = createStore(dir, 'small');
    for (let round = 0; round < 200; round += 1) {
      thrownBy(() => plane.openDisk(diskOptions(small, { sizeBytes: 2 ** 30 }), lease));
      thrownBy(() => plane.openDisk(diskOptions(small, { sizeBytes: 100 }), lease));
    }
    print(count() - before);
  `);
  t.equal(output, '0');
});

void test('200 planes with listeners leave no descriptor behind once collected', async (t) => {
  const output = await outputOf(`${DISK}
    const count = () => fs.readdirSync('/proc/self/fd').length;
    const before = count();
    const openAndStop = () => {
      const one = createPlane();
      one.listenUnix(path.join(dir, 'p'), 0o600);
      one.listenTcp('127.0.0.1', 0);
      one.stop();
    };
    for (let round = 0; round < 200; round += 1) openAndStop();
    for (let round = 0; round < 5; round += 1) { gc(); await sleep(20); }
    print(count() - before);
  `);
  t.equal(output, '0');
});

void test('a listening socket is closed by stop itself, not only when collected', async (t) => {
  const output = await outputOf(`${DISK}
    const { port } = plane.listenTcp('127.0.0.1', 0);
    plane.stop();
    const second = createPlane();
    print(second.listenTcp('127.0.0.1', port).port === port);
  `);
  t.equal(output, 'true');
});

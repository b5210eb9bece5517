// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { outputOf } from './child.js';

/** An object of every class, and what a script may do with them that the types forbid. */
const OBJECTS = `
  const key = addon.generateSetKey();
  const lease = addon.createLease();
  const plane = createPlane();
  const disk = plane.openDisk(diskOptions(createStore(scratch(), 's')), addon.createLease());
  const platform = addon.createPlatformKeyFile(scratch() + '/platform.key');
  const outerAad = new Uint8Array(8);
  const outerDek = platform.createDek(outerAad);
  const outer = addon.openOuterCipher(platform, outerDek.sealed, outerAad, outerDek.digest, 512);
  const objects = { key, lease, plane, disk, platform, outer };
  const prototypeOf = (object) => Object.getPrototypeOf(object);
`;

void test('no method of a class runs on an object of another class', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const ran = [];
    for (const [own, object] of Object.entries(objects)) {
      for (const [name, { value }] of Object.entries(
        Object.getOwnPropertyDescriptors(prototypeOf(object)))) {
        if (typeof value !== 'function' || name === 'constructor') continue;
        const receivers = { ...objects, plain: {}, none: undefined };
        for (const [other, receiver] of Object.entries(receivers)) {
          if (other === own) continue;
          try { value.call(receiver, 1, 2, 3); ran.push(own + '.' + name + ' on ' + other); }
          catch (error) { if (!(error instanceof TypeError)) ran.push(String(error)); }
        }
      }
    }
    console.log(JSON.stringify(ran));
  `);
  t.equal(output, '[]');
});

void test('no accessor of a class reads an object of another class', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const ran = [];
    let accessors = 0;
    for (const [own, object] of Object.entries(objects)) {
      for (const { get } of Object.values(Object.getOwnPropertyDescriptors(prototypeOf(object)))) {
        if (get === undefined) continue;
        accessors += 1;
        for (const [other, receiver] of Object.entries({ ...objects, plain: {}, text: 'x' })) {
          if (other === own) continue;
          try { ran.push(own + ' on ' + other + ' gave ' + get.call(receiver)); }
          catch (error) { if (!(error instanceof TypeError)) ran.push(String(error)); }
        }
      }
    }
    console.log(accessors, JSON.stringify(ran));
  `);
  t.equal(output, '5 []');
});

void test('scripts cannot construct objects of the native classes', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const made = [];
    for (const object of Object.values(objects)) {
      const Class = object.constructor;
      for (const make of [() => new Class(), () => new Class({}), () => new Class(object),
        () => Reflect.construct(Class, [], Array), () => new (class extends Class {})()]) {
        if (!thrownBy(make).startsWith('TypeError')) made.push(Class.name);
      }
    }
    console.log(JSON.stringify(made));
  `);
  t.equal(output, '[]');
});

for (const [what, disguise] of [
  ['with the prototype of a set key', 'Object.create(prototypeOf(key))'],
  ['that inherits from a set key', 'Object.create(key)'],
  ['that is a proxy of a set key', 'new Proxy(key, {})'],
  [
    'that is a lease under the prototype of a set key',
    'Object.setPrototypeOf(lease, prototypeOf(key))',
  ],
] as const) {
  void test(`an object ${what} is no set key`, async (t) => {
    const output = await outputOf(`${OBJECTS}
      const disguised = ${disguise};
      console.log(thrownBy(() => key.equals(disguised)));
    `);
    t.equal(output, 'TypeError: other: expected a NativeSetKey');
  });
}

void test('a set key whose prototype was taken away is a set key all the same', async (t) => {
  const output = await outputOf(`${OBJECTS}
    console.log(key.equals(Object.setPrototypeOf(addon.generateSetKey(), null)));
  `);
  t.equal(output, 'false');
});

void test('a field whose getter throws passes that exception on', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const options = { get shards() { throw new RangeError('mine'); } };
    console.log(thrownBy(() => addon.createPlane(options, () => {})));
  `);
  t.equal(output, 'RangeError: mine');
});

void test('a getter that throws undefined does not abort the process', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const options = { get shards() { throw undefined; } };
    try { addon.createPlane(options, () => {}); } catch (error) { console.log(error); }
  `);
  t.equal(output, 'undefined');
});

void test('a getter that detaches another argument leaves nothing to read', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const aad = new Uint8Array(4096);
    const { sealed, digest } = key.createDek(aad);
    const thief = { ...digest, get salt() {
      structuredClone(aad.buffer, { transfer: [aad.buffer] });
      gc();
      return digest.salt;
    } };
    try { disk.unlock(key, sealed, aad, thief); } catch (error) { console.log(error.nativeCode); }
  `);
  t.equal(output, 'Unseal', 'the detached data counts as empty');
});

void test('bytes in a detached buffer count as none', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const modulus = new Uint8Array(256).fill(255);
    structuredClone(modulus.buffer, { transfer: [modulus.buffer] });
    console.log(thrownBy(() => key.wrap(modulus, new Uint8Array([1, 0, 1]))));
  `);
  t.match(output, /rsa modulus has 0 bits/);
});

void test('bytes of a shared buffer are read like any other', async (t) => {
  const output = await outputOf(`${OBJECTS}
    const aad = new Uint8Array(new SharedArrayBuffer(32));
    const { sealed, digest } = key.createDek(aad);
    console.log(thrownBy(() => disk.unlock(key, sealed, new Uint8Array(32), digest)));
  `);
  t.match(output, /its lease has ended/, 'the seal was opened');
});

void test('a number of 100 MB as modulus is refused before it is used', async (t) => {
  const output = await outputOf(`${OBJECTS}
    console.log(thrownBy(() => key.wrap(new Uint8Array(1e8), new Uint8Array([3]))));
  `);
  t.match(output, /have 100000000 and 1 bytes, at most 513/);
});

void test('a listener that throws ends as an uncaught exception, not as an abort', async (t) => {
  const output = await outputOf(`
    process.on('uncaughtException', (error) => { console.log(error.message); process.exit(0); });
    const plane = createPlane(() => { throw new Error('from the listener'); });
    process.on('exit', () => plane.stop());
    const workers = runShards(plane);
    const socket = path.join(scratch(), 's');
    plane.listenUnix(socket, 0o600);
    require('node:net').connect(socket);
    await sleep(8000);
  `);
  t.equal(output, 'from the listener');
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { inChild, outputOf } from './child.js';

const LOAD = `'require(process.env.KEYHOLD_ADDON)'`;

void test('the addon loads in a worker alone', async (t) => {
  const output = await outputOf(`
    delete require.cache[process.env.KEYHOLD_ADDON];
    const worker = new Worker(${LOAD} + '.generateSetKey(); console.log("loaded")', { eval: true });
    worker.on('exit', (code) => console.log(code));
  `);
  t.equal(output, 'loaded\n0');
});

void test('main thread and workers use the addon at once', async (t) => {
  const output = await outputOf(`
    const body = 'const a = ' + ${LOAD} + ';' +
      'for (let i = 0; i < 300; i += 1) a.generateSetKey().createDek(new Uint8Array(40));';
    const exits = [0, 1].map(() => new Promise((resolve) =>
      new Worker(body, { eval: true }).on('exit', resolve)));
    for (let i = 0; i < 300; i += 1) addon.generateSetKey().createDek(new Uint8Array(40));
    console.log(await Promise.all(exits));
  `);
  t.equal(output, '[ 0, 0 ]');
});

void test('the main thread outlives a terminated worker with native objects', async (t) => {
  const output = await outputOf(`
    const worker = new Worker('const a = ' + ${LOAD} + '; const keep = [a.generateSetKey(),' +
      'a.createLease(), a.createPlane({ shards: 1, xts: "auto", engine: "auto", ' +
      'cipherThreads: 0, busyPollUs: 0 }, () => {})];' +
      'require("node:worker_threads").parentPort.postMessage("up"); setInterval(() => keep, 1000);',
      { eval: true });
    await new Promise((resolve) => worker.once('message', resolve));
    await worker.terminate();
    gc();
    const key = addon.generateSetKey();
    console.log(key.equals(key));
  `);
  t.equal(output, 'true');
});

void test('a plane of a terminated worker stops, so that its shards end', async (t) => {
  const output = await outputOf(`
    const worker = new Worker('const a = ' + ${LOAD} + ';' +
      'const plane = a.createPlane({ shards: 2, xts: "auto", engine: "auto", ' +
      'cipherThreads: 0, busyPollUs: 0 }, () => {});' +
      'require("node:worker_threads").parentPort.postMessage(plane.id);' +
      'setInterval(() => plane, 1000);', { eval: true });
    const id = await new Promise((resolve) => worker.once('message', resolve));
    const shards = runShards({ id });
    const ends = shards.map((shard) => new Promise((resolve) => shard.on('exit', resolve)));
    const starts = shards.map((shard) => new Promise((go) => shard.once('message', go)));
    await Promise.all(starts);
    await sleep(300);
    await worker.terminate();
    console.log(await Promise.all(ends));
  `);
  t.equal(output, '[ 0, 0 ]');
});

void test('a native object does not pass to another thread', async (t) => {
  const output = await outputOf(`
    const worker = new Worker('require("node:worker_threads").parentPort.on("message",' +
      ' (key) => { console.log(typeof key.wrap); process.exit(0); })', { eval: true });
    worker.postMessage(addon.generateSetKey());
  `);
  t.equal(output, 'undefined', 'what arrives is an empty object');
});

void test('a worker that ends while it waits for a set key takes nothing down', async (t) => {
  const output = await outputOf(`
    const worker = new Worker('const a = ' + ${LOAD} + '; const { readFd } = a.createPipe();' +
      'a.receiveSetKey(readFd, 600).catch(() => {});' +
      'require("node:worker_threads").parentPort.postMessage("up")', { eval: true });
    await new Promise((resolve) => worker.once('message', resolve));
    await worker.terminate();
    await sleep(800);
    console.log('alive');
  `);
  t.equal(output, 'alive');
});

/** A plane with running shards, a listener, and a client in negotiation. */
const RUNNING = `
  const plane = createPlane();
  process.on('exit', () => plane.stop());
  const dir = scratch();
  runShards(plane);
  plane.listenUnix(path.join(dir, 's'), 0o600);
  const disk = plane.openDisk(diskOptions(createStore(dir, 'store')), addon.createLease());
  const client = require('node:net').connect(path.join(dir, 's'));
  await sleep(300);
`;

void test('process.exit with running shards ends the process', async (t) => {
  const { status } = await inChild(`${RUNNING} process.exit(7);`);
  t.equal(status, 7);
});

void test('an uncaught exception with running shards ends the process', async (t) => {
  const { status, stderr } = await inChild(`${RUNNING} throw new Error('nobody caught this');`);
  t.equal(status, 1);
  t.match(stderr, /nobody caught this/);
});

void test('a process whose work is done ends once its shards were told to stop', async (t) => {
  const { status } = await inChild(`${RUNNING} plane.stop(); client.destroy();`);
  t.equal(status, 0);
});

void test('SIGTERM with running shards ends the process', async (t) => {
  const { signal } = await inChild(
    `${RUNNING} process.kill(process.pid, 'SIGTERM'); await sleep(5000);`,
  );
  t.equal(signal, 'SIGTERM');
});

void test('events in the queue at the exit of the process are dropped', async (t) => {
  const { status } = await inChild(`${RUNNING}
    const net = require('node:net');
    for (let i = 0; i < 20; i += 1) net.connect(path.join(dir, 's'));
    setImmediate(() => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
      process.exit(7);
    });
    await sleep(5000);`);
  t.equal(status, 7);
});

void test('a plane without shards does not keep the process alive', async (t) => {
  const { status } = await inChild('globalThis.plane = createPlane();');
  t.equal(status, 0);
});

void test('a promise that is pending at the end of the process does not abort it', async (t) => {
  const { status } = await inChild(`
    const store = createStore(scratch(), 's');
    const disk = createPlane().openDisk(diskOptions(store), addon.createLease());
    await disk.goOffline();`);
  t.equal(status, 0);
});

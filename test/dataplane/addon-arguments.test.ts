// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { addon, temporaryDirectory } from './rig.js';
import { outputOf } from './child.js';

/** A call with arguments that the types forbid. */
type AnyCall = (...values: readonly unknown[]) => unknown;

function method(object: object, name: string): AnyCall {
  const found = (object as Record<string, AnyCall>)[name];
  if (found === undefined) throw new Error(`there is no ${name}`);
  return (...values) => found.apply(object, [...values]);
}

const setKey = addon.generateSetKey();
const lease = addon.createLease();
const plane = addon.createPlane(
  { shards: 1, xts: 'auto', engine: 'auto', cipherThreads: 0, busyPollUs: 0 },
  () => undefined,
);

const fresh = method(addon, 'createPlane');
const wrap = method(setKey, 'wrap');
const exportDek = method(setKey, 'exportDek');
const created = setKey.createDek(new Uint8Array(4));
const renew = method(lease, 'renew');
const respond = method(plane, 'respond');
const openDisk = method(plane, 'openDisk');
const bytes = new Uint8Array(4);
const ignore = (): void => undefined;
const disk = {
  name: 'd',
  sizeBytes: 512,
  sectorSizeBytes: 512,
  storePath: '/nowhere',
  dataOffsetBytes: 0,
  readOnly: false,
  holes: true,
  direct: false,
  leaseEnforced: true,
};
const transmission = {
  kind: 'transmission',
  diskId: 1,
  replies: 'extended',
  allocationContextId: 1,
  leftover: bytes,
};

/** What is called, with what, and what the TypeError must name. */
const REFUSED: readonly (readonly [what: string, call: () => unknown, names: RegExp])[] = [
  ['peerCredentials without a descriptor', method(addon, 'peerCredentials'), /^fd: /],
  ['peerCredentials of text', () => method(addon, 'peerCredentials')('3'), /^fd: /],
  ['peerCredentials of a fraction', () => method(addon, 'peerCredentials')(1.5), /^fd: /],
  ['peerCredentials past 32 bits', () => method(addon, 'peerCredentials')(2 ** 31), /^fd: /],
  ['closeFd of NaN', () => method(addon, 'closeFd')(Number.NaN), /^fd: /],
  ['closeFd of a BigInt', () => method(addon, 'closeFd')(3n), /^fd: /],
  ['receiveSetKey without a pipe', () => method(addon, 'receiveSetKey')(), /^readFd: /],
  ['runShard without a plane', () => method(addon, 'runShard')(undefined, 0), /^planeId: /],
  ['runShard of a negative shard', () => method(addon, 'runShard')(1, -1), /^index: /],
  ['shardTicks of text', () => method(addon, 'shardTicks')('1'), /^planeId: /],
  ['shardCpuSeconds of text', () => method(addon, 'shardCpuSeconds')('1'), /^planeId: /],
  ['stallShard without a shard', () => method(addon, 'stallShard')(plane.id), /^index: /],
  ['stallShard without an end', () => method(addon, 'stallShard')(plane.id, 0), /^durationMs: /],
  ['notify of nobody', () => method(addon, 'notify')(undefined, 'READY=1'), /^socketPath: /],
  ['notify of nothing', () => method(addon, 'notify')('/nowhere'), /^state: /],
  ['createPlane without options', () => fresh(), /^options: /],
  [
    'createPlane without a listener',
    () => fresh({ shards: 1, xts: 'auto', engine: 'auto', cipherThreads: 0, busyPollUs: 0 }),
    /^onEvent: /,
  ],
  [
    'createPlane with half a shard',
    () =>
      fresh({ shards: 0.5, xts: 'auto', engine: 'auto', cipherThreads: 0, busyPollUs: 0 }, ignore),
    /^shards: /,
  ],
  ['createPlane without an engine', () => fresh({ shards: 1, xts: 'auto' }, ignore), /^engine: /],
  [
    'createPlane with half a microsecond',
    () =>
      fresh({ shards: 1, xts: 'auto', engine: 'auto', cipherThreads: 0, busyPollUs: 0.5 }, ignore),
    /^busyPollUs: /,
  ],
  ['createPlane with a kernel number', () => fresh({ shards: 1, xts: 7 }, ignore), /^xts: /],
  ['wrap without a modulus', () => wrap(), /^modulus: /],
  ['wrap with an array', () => wrap([1, 2, 3], bytes), /^modulus: .*Uint8Array/],
  ['wrap with a wider view', () => wrap(new Uint16Array(128), bytes), /^modulus: .*Uint8Array/],
  ['wrap with a bare ArrayBuffer', () => wrap(new ArrayBuffer(256), bytes), /^modulus: /],
  ['wrap without an exponent', () => wrap(bytes, null), /^exponent: /],
  ['equals of a lease', () => method(setKey, 'equals')(lease), /^other: .*NativeSetKey/],
  ['equals of nothing', () => method(setKey, 'equals')(null), /^other: .*NativeSetKey/],
  ['bindLease of a set key', () => method(setKey, 'bindLease')(setKey), /^lease: .*NativeLease/],
  ['createDek without data', () => method(setKey, 'createDek')(), /^aad: /],
  ['createDek of text', () => method(setKey, 'createDek')('aad'), /^aad: /],
  ['exportDek of nothing', () => exportDek(), /^sealed: /],
  ['exportDek without data', () => exportDek(created.sealed, null, created.digest, '/x'), /^aad: /],
  ['exportDek without a digest', () => exportDek(created.sealed, bytes, 7, '/x'), /^digest: /],
  ['exportDek to nowhere', () => exportDek(created.sealed, bytes, created.digest), /^path: /],
  ['exportDek to bytes', () => exportDek(created.sealed, bytes, created.digest, bytes), /^path: /],
  ['renew without a start', () => renew(), /^proofStartBootMs: /],
  ['renew from a negative start', () => renew(-1, 1), /^proofStartBootMs: /],
  ['renew for NaN', () => renew(0, Number.NaN), /^durationMs: /],
  ['renew for ever', () => renew(0, Number.POSITIVE_INFINITY), /^durationMs: /],
  ['renew past what nanoseconds hold', () => renew(0, 1e13), /^durationMs: /],
  ['listenUnix of a number', () => method(plane, 'listenUnix')(7, 0o600), /^path: /],
  ['listenUnix without a mode', () => method(plane, 'listenUnix')('/tmp/x'), /^mode: /],
  ['listenTcp without a host', () => method(plane, 'listenTcp')(undefined, 0), /^host: /],
  ['listenTcp on a port in text', () => method(plane, 'listenTcp')('::1', '80'), /^port: /],
  ['listenTcp on a negative port', () => method(plane, 'listenTcp')('::1', -1), /^port: /],
  ['closeListener of text', () => method(plane, 'closeListener')('1'), /^listenerId: /],
  ['closeConnection of nothing', method(plane, 'closeConnection'), /^connectionId: /],
  ['failShard of text', () => method(plane, 'failShard')('0'), /^index: /],
  ['respond to nobody', () => respond(undefined, null, { kind: 'read' }), /^connectionId: /],
  ['respond with text', () => respond(1, 'hello', { kind: 'read' }), /^send: /],
  ['respond without a next step', () => respond(1, null), /^next: /],
  ['respond with an unknown step', () => respond(1, null, { kind: 'wait' }), /^next\.kind: .*wait/],
  ['respond with a step in no words', () => respond(1, null, {}), /^kind: /],
  [
    'respond with a disk in text',
    () => respond(1, null, { ...transmission, diskId: '1' }),
    /^diskId: /,
  ],
  [
    'respond with unknown replies',
    () => respond(1, null, { ...transmission, replies: 'short' }),
    /^replies: .*extended, got short/,
  ],
  [
    'respond with a negative context',
    () => respond(1, null, { ...transmission, allocationContextId: -1 }),
    /^allocationContextId: /,
  ],
  [
    'respond with leftovers in an array',
    () => respond(1, null, { ...transmission, leftover: [1] }),
    /^leftover: /,
  ],
  ['openDisk without options', () => openDisk(undefined, lease), /^options: /],
  ['openDisk without a lease', () => openDisk(disk, undefined), /^lease: .*NativeLease/],
  ['openDisk with a set key as lease', () => openDisk(disk, setKey), /^lease: .*NativeLease/],
  [
    'openDisk with a size past 2^53',
    () => openDisk({ ...disk, sizeBytes: 2 ** 53 }, lease),
    /^sizeBytes: /,
  ],
  [
    'openDisk with a negative size',
    () => openDisk({ ...disk, sizeBytes: -512 }, lease),
    /^sizeBytes: /,
  ],
  [
    'openDisk with a BigInt size',
    () => openDisk({ ...disk, sizeBytes: 512n }, lease),
    /^sizeBytes: /,
  ],
  [
    'openDisk without a sector size',
    () => openDisk({ ...disk, sectorSizeBytes: null }, lease),
    /^sectorSizeBytes: /,
  ],
  [
    'openDisk with half an offset',
    () => openDisk({ ...disk, dataOffsetBytes: 0.5 }, lease),
    /^dataOffsetBytes: /,
  ],
  ['openDisk with a name of bytes', () => openDisk({ ...disk, name: bytes }, lease), /^name: /],
  [
    'openDisk with a store of bytes',
    () => openDisk({ ...disk, storePath: bytes }, lease),
    /^storePath: /,
  ],
  ['openDisk with 1 for true', () => openDisk({ ...disk, readOnly: 1 }, lease), /^readOnly: /],
  ['openDisk with direct in text', () => openDisk({ ...disk, direct: 'yes' }, lease), /^direct: /],
  ['openDisk with holes in text', () => openDisk({ ...disk, holes: 'yes' }, lease), /^holes: /],
  [
    'openDisk without the lease rule',
    () => openDisk({ ...disk, leaseEnforced: undefined }, lease),
    /^leaseEnforced: /,
  ],
];

for (const [what, call, names] of REFUSED) {
  void test(`${what} is a TypeError that names the argument`, (t) => {
    t.throws(() => call(), { name: 'TypeError', message: names });
    t.end();
  });
}

/** Values of the right type that no call can use: an error with a code and both sides. */
const OUT_OF_RANGE: readonly (readonly [what: string, call: () => unknown, message: RegExp])[] = [
  [
    'no shard',
    () =>
      fresh({ shards: 0, xts: 'auto', engine: 'auto', cipherThreads: 0, busyPollUs: 0 }, ignore),
    /0 shards: 1 to 64/,
  ],
  [
    '65 shards',
    () =>
      fresh({ shards: 65, xts: 'auto', engine: 'auto', cipherThreads: 0, busyPollUs: 0 }, ignore),
    /65 shards: 1 to 64/,
  ],
  [
    'an unknown kernel',
    () =>
      fresh({ shards: 1, xts: 'rot13', engine: 'auto', cipherThreads: 0, busyPollUs: 0 }, ignore),
    /"rot13".*auto/,
  ],
  [
    'an unknown engine',
    () => fresh({ shards: 1, xts: 'auto', engine: 'aio', cipherThreads: 0, busyPollUs: 0 }, ignore),
    /"aio".*epoll/,
  ],
  ['port 65536', () => method(plane, 'listenTcp')('::1', 65536), /65536: 0 to 65535/],
  ['a host name', () => method(plane, 'listenTcp')('example.org', 0), /example\.org.*IP address/],
  ['an empty socket path', () => method(plane, 'listenUnix')('', 0o600), /0 bytes/],
  [
    'a socket path of 108 bytes',
    () => method(plane, 'listenUnix')('/'.padEnd(108, 'x'), 0o600),
    /108 bytes.* 1 to 107/,
  ],
  [
    'a mode with more than permissions',
    () => method(plane, 'listenUnix')('/tmp/x', 0o4600),
    /0777/,
  ],
  [
    'a sector size of 1024',
    () => openDisk({ ...disk, storePath: '/dev/null', sectorSizeBytes: 1024 }, lease),
    /dev\/null/,
  ],
];

for (const [what, call, message] of OUT_OF_RANGE) {
  void test(`${what} is refused as invalid, with what is possible`, (t) => {
    t.throws(call, { nativeCode: 'InvalidArgument', message });
    t.end();
  });
}

void test('a path with a zero byte is refused and not cut there', async (t) => {
  const dir = await temporaryDirectory(t);
  const storePath = `${dir}\0/store`;
  t.throws(() => openDisk({ ...disk, storePath }, lease), { message: /^storePath: .*zero bytes/ });
});

void test('receiveSetKey closes the descriptor of a call that it refuses', (t) => {
  const { readFd, writeFd } = addon.createPipe();
  t.throws(() => method(addon, 'receiveSetKey')(readFd, 'soon'), { message: /^timeoutMs: / });
  t.throws(() => addon.closeFd(readFd), {
    name: 'Error',
    nativeCode: 'System',
    errnoName: 'EBADF',
  });
  addon.closeFd(writeFd);
  t.end();
});

void test('closing a closed descriptor gives the errno by name', (t) => {
  t.throws(() => addon.closeFd(-1), { name: 'Error', nativeCode: 'System', errnoName: 'EBADF' });
  t.end();
});

void test('peer credentials of a pipe are refused', (t) => {
  const { readFd, writeFd } = addon.createPipe();
  t.throws(() => addon.peerCredentials(readFd), {
    name: 'Error',
    nativeCode: 'System',
    errnoName: 'ENOTSOCK',
  });
  addon.closeFd(readFd);
  addon.closeFd(writeFd);
  t.end();
});

void test('running a shard of an unknown plane is refused as closed', (t) => {
  t.throws(() => addon.runShard(4_000_000_000, 0), { nativeCode: 'Closed', message: /4000000000/ });
  t.end();
});

void test('running a shard that the plane does not have is refused', (t) => {
  t.throws(() => addon.runShard(plane.id, 1), {
    nativeCode: 'InvalidArgument',
    message: /1 shards/,
  });
  t.end();
});

void test('every call without arguments leaves the process alive', async (t) => {
  const output = await outputOf(`
    const dir = scratch();
    const key = addon.generateSetKey();
    const plane = createPlane();
    const disk = plane.openDisk(diskOptions(createStore(dir, 's')), addon.createLease());
    const stay = setInterval(() => {}, 1000);
    let calls = 0;
    for (const object of [addon, key, addon.createLease(), disk, plane]) {
      const names = object === addon ? Object.keys(addon)
        : Object.getOwnPropertyNames(Object.getPrototypeOf(object));
      for (const name of names) {
        if (name === 'constructor' || typeof object[name] !== 'function') continue;
        calls += 1;
        try { await object[name](); } catch { /* which error is tested elsewhere */ }
      }
    }
    clearInterval(stay);
    console.log(calls > 25);
  `);
  t.equal(output, 'true');
});

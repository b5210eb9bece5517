// SPDX-License-Identifier: Apache-2.0
import { stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'tap';
import { startAdminServer } from '../../src/admin/server.js';
import { defineErrors, KeyholdError, type ErrorKind } from '../../src/base/errors.js';
import { createSilentLogger } from '../../src/base/logger.js';
import { createFakeServices, DISK, DISK_DETAIL } from './fake-services.js';
import { clock, errorOf, raw, ROOT, startFixture, temporaryDirectory } from './support.js';

const failures = defineErrors({
  ERR_TEST_CONFLICT: { kind: 'conflict', summary: 's', hint: 'h' },
  ERR_TEST_KEY: { kind: 'key-inaccessible', summary: 's', hint: 'h' },
  ERR_TEST_SPACE: { kind: 'no-space', summary: 's', hint: 'h' },
  ERR_TEST_MISSING: { kind: 'not-found', summary: 's', hint: 'h' },
  ERR_TEST_SILENT: { kind: 'unavailable', summary: 's', hint: 'h' },
});

const createDisk = (fields: object): string =>
  JSON.stringify({ name: 'd1', set: 's1', sizeBytes: 1024, ...fields });

void test('a request with every field reaches the service as it was sent', async (t) => {
  const { socketPath, services } = await startFixture(t);
  const body = createDisk({ store: '/x', sectorSizeBytes: 4096, dmCrypt: true, readOnly: false });
  const answer = await raw(socketPath, 'POST', '/v1/disks', body);
  t.equal(answer.status, 201);
  t.same(JSON.parse(answer.text), DISK);
  t.same(services.calls, [`createDisk(${body})`]);
});

void test('an unknown field is refused with the nearest known name', async (t) => {
  const { socketPath, services } = await startFixture(t);
  const answer = await raw(socketPath, 'POST', '/v1/disks', createDisk({ sectorSizeByte: 512 }));
  t.equal(answer.status, 400);
  t.equal(
    errorOf(answer).message,
    'POST /v1/disks: body: sectorSizeByte: unknown field, did you mean sectorSizeBytes?',
  );
  t.same(services.calls, []);
});

void test('a value out of range is refused with both sides', async (t) => {
  const { socketPath } = await startFixture(t);
  const answer = await raw(socketPath, 'POST', '/v1/disks', createDisk({ sectorSizeBytes: 1024 }));
  t.equal(
    errorOf(answer).message,
    'POST /v1/disks: body: sectorSizeBytes: expected one of 512|4096, got 1024',
  );
});

void test('a missing field is refused by name', async (t) => {
  const { socketPath } = await startFixture(t);
  const answer = await raw(socketPath, 'POST', '/v1/disks', '{"name":"d","set":"s"}');
  t.equal(errorOf(answer).message, 'POST /v1/disks: body: sizeBytes: missing: expected number');
});

for (const [claim, body, headers, status, code] of [
  ['broken JSON', '{"name":', undefined, 400, 'ERR_ADMIN_REQUEST'],
  ['an array where an object belongs', '[]', undefined, 400, 'ERR_ADMIN_REQUEST'],
  ['an empty body', '', undefined, 400, 'ERR_ADMIN_REQUEST'],
  ['a prototype in the body', '{"__proto__":{"a":1}}', undefined, 400, 'ERR_ADMIN_REQUEST'],
  [
    'a form',
    'name=d',
    { 'content-type': 'application/x-www-form-urlencoded' },
    415,
    'ERR_ADMIN_REQUEST',
  ],
  ['a body above the limit', `"${'x'.repeat(70_000)}"`, undefined, 413, 'ERR_ADMIN_TOO_LARGE'],
] as const) {
  void test(`${claim} is refused as JSON and reaches no service`, async (t) => {
    const { socketPath, services } = await startFixture(t);
    const answer = await raw(socketPath, 'POST', '/v1/disks', body, headers);
    t.equal(answer.status, status);
    t.equal(errorOf(answer).code, code);
    t.same(services.calls, []);
  });
}

for (const [path, body] of [
  ['/v1/disks', { name: 'd', set: 's', sizeBytes: 0 }],
  ['/v1/disks', { name: 'd', set: 's', sizeBytes: 2 ** 53 }],
  ['/v1/disks', { name: 'd', set: 's', sizeBytes: 1.5 }],
  ['/v1/disks', { name: 'd', set: 's', sizeBytes: '1024' }],
  ['/v1/disks', { name: '', set: 's', sizeBytes: 512 }],
  ['/v1/disks', { name: 'x'.repeat(256), set: 's', sizeBytes: 512 }],
  ['/v1/disks', { name: 'd', set: 's', sizeBytes: 512, store: 'relative' }],
  ['/v1/sets', { name: 's', keyUrl: 'https://v/keys/k', mode: 'sometimes' }],
  ['/v1/sets', { name: 's', keyUrl: 'https://v/keys/k' }],
  ['/v1/sets', { name: 's', keyUrl: 'https://v/keys/k', mode: 'restart', leaseMs: -1 }],
  ['/v1/sets', { name: 's', keyUrl: 'https://v/keys/k', mode: 'restart', identity: null }],
] as const) {
  void test(`POST ${path} refuses ${JSON.stringify(body).slice(0, 80)}`, async (t) => {
    const { socketPath, services } = await startFixture(t);
    const answer = await raw(socketPath, 'POST', path, JSON.stringify(body));
    t.equal(answer.status, 400);
    t.equal(errorOf(answer).kind, 'invalid');
    t.same(services.calls, []);
  });
}

for (const [code, status] of [
  ['ERR_TEST_CONFLICT', 409],
  ['ERR_TEST_KEY', 423],
  ['ERR_TEST_SPACE', 507],
  ['ERR_TEST_MISSING', 404],
  ['ERR_TEST_SILENT', 503],
] as const) {
  void test(`code, message and fields of an error are kept: ${code} is ${status}`, async (t) => {
    const { socketPath, services } = await startFixture(t);
    services.failure = new KeyholdError(failures[code], 'it failed', { fields: { a: 1 } });
    const answer = await raw(socketPath, 'GET', '/v1/disks/d1');
    t.equal(answer.status, status);
    t.match(errorOf(answer), { code, message: 'it failed', fields: { a: 1 } });
  });
}

void test('an unforeseen error tells the caller nothing of its text', async (t) => {
  const { socketPath, services } = await startFixture(t);
  services.failure = new TypeError('secret detail');
  const answer = await raw(socketPath, 'GET', '/v1/status');
  t.equal(answer.status, 500);
  t.equal(errorOf(answer).code, 'ERR_ADMIN_INTERNAL');
  t.notMatch(answer.text, /secret detail/);
});

void test('a field that the document does not name never leaves', async (t) => {
  const { socketPath, services } = await startFixture(t);
  services.showDisk = () => Promise.resolve({ ...DISK_DETAIL, dek: 'oops' });
  t.notMatch((await raw(socketPath, 'GET', '/v1/disks/d1')).text, /oops/);
});

void test('a change of an allow list with an unknown field is refused', async (t) => {
  const { socketPath, services } = await startFixture(t);
  const body = JSON.stringify({ added: ['uid=1'] });
  const answer = await raw(socketPath, 'PATCH', '/v1/disks/d1/allow', body);
  t.equal(answer.status, 400);
  t.match(errorOf(answer).message, /added: unknown field, expected one of add, clear, remove/);
  t.same(services.calls, []);
});

void test('an unknown path is 404 as JSON', async (t) => {
  const { socketPath } = await startFixture(t);
  const answer = await raw(socketPath, 'GET', '/v2/disks');
  t.equal(answer.status, 404);
  t.equal(errorOf(answer).code, 'ERR_ADMIN_ROUTE');
});

void test('a known path with another method is 405 and names what is allowed', async (t) => {
  const { socketPath } = await startFixture(t);
  const answer = await raw(socketPath, 'PUT', '/v1/disks/d1', '{}');
  t.equal(answer.status, 405);
  t.equal(answer.headers['allow'], 'GET, DELETE');
  t.equal(errorOf(answer).code, 'ERR_ADMIN_METHOD');
});

void test('a path with a broken escape is refused as JSON', async (t) => {
  const { socketPath } = await startFixture(t);
  const answer = await raw(socketPath, 'GET', '/v1/disks/%zz');
  t.equal(answer.status, 400);
  t.equal(errorOf(answer).code, 'ERR_ADMIN_REQUEST');
});

void test('bytes that are no HTTP are answered as JSON and cut off', async (t) => {
  const { socketPath } = await startFixture(t);
  const text = await new Promise<string>((resolve, reject) => {
    let received = '';
    const socket = connect({ path: socketPath }, () => socket.write('\0\0NBDMAGIC\r\n\r\n'));
    socket.on('data', (chunk) => (received += chunk.toString()));
    socket.on('close', () => resolve(received));
    socket.on('error', reject);
  });
  t.match(text, /^HTTP\/1\.1 400 /);
  t.match(text, /ERR_ADMIN_REQUEST/);
});

void test('a name of 255 characters of four bytes reaches the service', async (t) => {
  const { socketPath, services } = await startFixture(t);
  const name = '𝕜'.repeat(127);
  await raw(socketPath, 'GET', `/v1/disks/${encodeURIComponent(name)}`);
  t.same(services.calls, [`showDisk(${JSON.stringify(name)})`]);
});

void test('a slash in a name is data, not a path', async (t) => {
  const { socketPath, services } = await startFixture(t);
  await raw(socketPath, 'POST', '/v1/disks/a%2Fb/attach');
  t.same(services.calls, ['attachDisk("a/b",0)']);
});

void test('deleting a store must be asked for in so many words', async (t) => {
  const { socketPath, services } = await startFixture(t);
  t.equal((await raw(socketPath, 'DELETE', '/v1/disks/d1')).status, 204);
  t.equal((await raw(socketPath, 'DELETE', '/v1/disks/d1?deleteStore=true')).status, 204);
  t.equal((await raw(socketPath, 'DELETE', '/v1/disks/d1?deleteStore=yes')).status, 400);
  t.equal((await raw(socketPath, 'DELETE', '/v1/disks/d1?deletestore=true')).status, 400);
  t.same(services.calls, [
    'deleteDisk("d1",{"deleteStore":false})',
    'deleteDisk("d1",{"deleteStore":true})',
  ]);
});

void test('the socket may be opened by owner and group only', async (t) => {
  const { socketPath } = await startFixture(t);
  t.equal((await stat(socketPath)).mode & 0o777, 0o660);
});

void test('close removes the socket', async (t) => {
  const { socketPath, server } = await startFixture(t);
  await server.close();
  await t.rejects(stat(socketPath), { code: 'ENOENT' });
});

void test('close waits for a request under way', async (t) => {
  const { socketPath, server, services } = await startFixture(t);
  let finish: (() => void) | undefined;
  services.showDisk = () => new Promise((resolve) => (finish = () => resolve(DISK_DETAIL)));
  const answer = raw(socketPath, 'GET', '/v1/disks/d1');
  while (finish === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
  const closed = server.close();
  finish();
  t.equal((await answer).status, 200);
  await closed;
});

const serve = (socketPath: string) =>
  startAdminServer({
    socketPath,
    services: createFakeServices(),
    peerCredentials: () => ROOT,
    logger: createSilentLogger(),
    clock,
    version: '0.1.0',
  });

void test('a stale socket is replaced', async (t) => {
  const path = join(await temporaryDirectory(t), 'admin.sock');
  // A listener whose file outlives it, as after kill -9.
  const stale = createServer().listen({ path: `${path}.old` });
  await new Promise((resolve) => stale.once('listening', resolve));
  const { rename } = await import('node:fs/promises');
  await rename(`${path}.old`, path);
  await new Promise((resolve) => stale.close(resolve));
  t.equal((await stat(path)).isSocket(), true);
  const server = await serve(path);
  t.teardown(() => server.close());
  t.equal((await raw(path, 'GET', '/v1/status')).status, 200);
});

void test('a socket that another daemon serves is left alone', async (t) => {
  const { socketPath } = await startFixture(t);
  await t.rejects(serve(socketPath), { code: 'ERR_ADMIN_SOCKET', message: /another process/ });
  t.equal((await raw(socketPath, 'GET', '/v1/status')).status, 200);
});

void test('a file that is no socket is left alone', async (t) => {
  const path = join(await temporaryDirectory(t), 'admin.sock');
  await writeFile(path, 'data');
  await t.rejects(serve(path), { code: 'ERR_ADMIN_SOCKET', message: /not a socket/ });
  t.equal((await stat(path)).size, 4);
});

void test('a directory that is missing is named with the errno', async (t) => {
  const path = join(await temporaryDirectory(t), 'missing', 'admin.sock');
  await t.rejects(serve(path), { code: 'ERR_ADMIN_SOCKET', message: /missing: ENOENT/ });
});

void test('a path longer than the kernel takes is refused with both lengths', async (t) => {
  const path = join(await temporaryDirectory(t), 'x'.repeat(120));
  await t.rejects(serve(path), { code: 'ERR_ADMIN_SOCKET', message: /at most 107 bytes, got \d+/ });
});

void test('every kind of error has a status that HTTP calls an error', async (t) => {
  const { toHttpError } = await import('../../src/admin/http-errors.js');
  const { ERROR_KINDS } = await import('../../src/admin/api.js');
  class Sample extends KeyholdError {
    readonly #kind: ErrorKind;
    constructor(kind: ErrorKind) {
      super('ERR_SAMPLE', 'x');
      this.#kind = kind;
    }
    override get kind(): ErrorKind {
      return this.#kind;
    }
  }
  for (const kind of ERROR_KINDS) {
    const { status } = toHttpError(new Sample(kind));
    t.ok(status >= 400 && status < 600, kind);
  }
});

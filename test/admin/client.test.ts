// SPDX-License-Identifier: Apache-2.0
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { test } from 'tap';
import { AdminAnswerError } from '../../src/admin/client-link.js';
import { createAdminClient, type AdminClient } from '../../src/admin/client.js';
import { defineErrors, KeyholdError } from '../../src/base/errors.js';
import {
  ALLOW_RESULT,
  CHECK,
  CONNECTION,
  DISK,
  DISK_DETAIL,
  SET,
  STATUS,
} from './fake-services.js';
import { startFixture, temporaryDirectory } from './support.js';

const failures = defineErrors({
  ERR_TEST_CLIENT: { kind: 'key-inaccessible', summary: 's', hint: 'h' },
});

void test('every method asks the service that it is named after', async (t) => {
  const { client, services } = await startFixture(t);
  t.same(await client.status(), STATUS);
  t.same(await client.listConnections(), [CONNECTION]);
  t.same(await client.listSets(), [SET]);
  t.same(await client.showSet('a b'), SET);
  t.same(await client.createSet({ name: 's1', keyUrl: 'https://v', mode: 'restart' }), SET);
  t.same(await client.checkSet('s1'), CHECK);
  await client.deleteSet('s1');
  t.same(await client.listDisks(), [DISK]);
  t.same(await client.showDisk('d/1'), DISK_DETAIL);
  t.same(await client.createDisk({ name: 'd1', set: 's1', sizeBytes: 512 }), DISK);
  t.same(await client.attachDisk('d1'), DISK);
  t.same(await client.detachDisk('d1'), DISK);
  t.same(await client.restartDisk('d1'), DISK);
  t.same(await client.changeAllow('d1', { add: ['uid=1'], clear: true }), ALLOW_RESULT);
  await client.deleteDisk('d1');
  await client.deleteDisk('d1', { deleteStore: true });
  t.match(await client.verifyAudit(), { ok: true, records: 3 });
  t.same(await client.reload(), { files: [{ part: 'psk', path: '/p' }], changed: [] });
  t.same(services.calls, [
    'status()',
    'listConnections()',
    'listSets()',
    'showSet("a b")',
    'createSet({"name":"s1","keyUrl":"https://v","mode":"restart"})',
    'checkSet("s1")',
    'deleteSet("s1")',
    'listDisks()',
    'showDisk("d/1")',
    'createDisk({"name":"d1","set":"s1","sizeBytes":512})',
    'attachDisk("d1",0)',
    'detachDisk("d1")',
    'restartDisk("d1")',
    'changeAllow("d1",{"clear":true,"add":["uid=1"]})',
    'deleteDisk("d1",{"deleteStore":false})',
    'deleteDisk("d1",{"deleteStore":true})',
    'verifyAudit()',
    'reload()',
  ]);
});

void test("the daemon's error arrives with its code, kind, message and fields", async (t) => {
  const { client, services } = await startFixture(t);
  services.failure = new KeyholdError(failures.ERR_TEST_CLIENT, 'key is disabled', {
    fields: { requestId: 'r-1' },
  });
  const error = await client.attachDisk('d1').catch((thrown: unknown) => thrown);
  t.ok(error instanceof KeyholdError);
  t.match(error, {
    code: 'ERR_TEST_CLIENT',
    kind: 'key-inaccessible',
    message: 'key is disabled',
    fields: { requestId: 'r-1' },
  });
});

void test('a kind is kept even for a code that this process never heard of', (t) => {
  t.equal(new AdminAnswerError('conflict', 'ERR_FROM_THE_FUTURE', 'm', {}).kind, 'conflict');
  t.end();
});

void test('a socket that does not exist is unreachable, with path and errno', async (t) => {
  const socketPath = join(await temporaryDirectory(t), 'none.sock');
  const error: unknown = await createAdminClient({ socketPath })
    .status()
    .catch((e: unknown) => e);
  t.match(error, {
    code: 'ERR_ADMIN_UNREACHABLE',
    fields: { socket: socketPath, errno: 'ENOENT' },
  });
  t.match(String(error), `on admin socket ${socketPath}: connect ENOENT`);
});

void test('a daemon that is gone is unreachable', async (t) => {
  const { client, server } = await startFixture(t);
  await server.close();
  await t.rejects(client.status(), { code: 'ERR_ADMIN_UNREACHABLE' });
});

async function withServer(
  t: Parameters<typeof temporaryDirectory>[0],
  listener: RequestListener,
  timeoutMs = 2000,
): Promise<AdminClient> {
  const socketPath = join(await temporaryDirectory(t), 'a.sock');
  const server = createServer(listener).listen(socketPath);
  await new Promise((resolve) => server.once('listening', resolve));
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return createAdminClient({ socketPath, timeoutMs });
}

void test('a daemon that hangs ends in a timeout', async (t) => {
  const client = await withServer(t, () => undefined, 50);
  await t.rejects(client.status(), { code: 'ERR_ADMIN_TIMEOUT', message: /within 50 ms/ });
});

void test('a daemon that hangs in the middle of an answer ends in a timeout', async (t) => {
  const client = await withServer(t, (_, response) => void response.write('{"pid":'), 50);
  await t.rejects(client.status(), { code: 'ERR_ADMIN_TIMEOUT' });
});

void test('a connection that breaks in the middle of an answer is unreachable', async (t) => {
  const client = await withServer(t, (_, response) => {
    response.write('{"pid":', () => response.destroy());
  });
  await t.rejects(client.status(), { code: 'ERR_ADMIN_UNREACHABLE' });
});

for (const [claim, status, text] of [
  ['no JSON', 200, '<html>'],
  ['another form', 200, '{"name":"d"}'],
  ['an error that is none of ours', 502, '{"error":"Bad Gateway"}'],
  ['an error of an unknown kind', 400, '{"error":{"code":"X","kind":"odd","message":"m"}}'],
] as const) {
  void test(`an answer with ${claim} is refused`, async (t) => {
    const client = await withServer(t, (_, response) => {
      response.statusCode = status;
      response.end(text);
    });
    await t.rejects(client.showDisk('d'), { code: 'ERR_ADMIN_RESPONSE' });
  });
}

void test('fields that a newer daemon adds do not disturb', async (t) => {
  const client = await withServer(t, (_, response) => {
    response.end(JSON.stringify({ ...DISK_DETAIL, colour: 'green' }));
  });
  t.same(await client.showDisk('d'), DISK_DETAIL);
});

void test('an answer without end is cut off', async (t) => {
  const client = await withServer(
    t,
    (_, response) => {
      const megabyte = Buffer.alloc(2 ** 20, 'x');
      const more = (): void => {
        if (!response.destroyed) response.write(megabyte, more);
      };
      more();
    },
    60_000,
  );
  await t.rejects(client.status(), { code: 'ERR_ADMIN_RESPONSE', message: /at most 67108864/ });
});

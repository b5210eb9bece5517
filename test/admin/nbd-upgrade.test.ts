// SPDX-License-Identifier: Apache-2.0
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'tap';
import { KeyholdError } from '../../src/base/errors.js';
import { ROOT, startFixture } from './support.js';

/** Asks for an upgrade in raw bytes; everything that comes back. */
async function ask(socketPath: string, head: string, after = ''): Promise<string> {
  const socket = connect(socketPath);
  socket.write(`${head}\r\nhost: x\r\n\r\n${after}`);
  return text(socket);
}

const UPGRADE = 'connection: Upgrade\r\nupgrade: nbd';

void test('a caller gets its own connection back, with NBD from the first byte', async (t) => {
  const { client, services } = await startFixture(t);
  const socket = await client.serveDisk('d1');
  t.equal(await text(socket), 'NBDMAGIC');
  t.same(services.calls, ['serveDisk("d1",0)']);
});

void test('names are percent-decoded', async (t) => {
  const { client, services } = await startFixture(t);
  await text(await client.serveDisk('a/ä?'));
  t.same(services.calls, ['serveDisk("a/ä?",0)']);
});

void test('a refusal of the daemon is an error of the client', async (t) => {
  const { client, services } = await startFixture(t);
  services.failure = new KeyholdError('ERR_SERVE_OFFLINE', 'serving disk d1: it is offline');
  await t.rejects(client.serveDisk('d1'), {
    code: 'ERR_SERVE_OFFLINE',
    message: 'serving disk d1: it is offline',
  });
});

void test('a failure that nobody foresaw is not told to the caller', async (t) => {
  const { client, services } = await startFixture(t);
  services.failure = new Error('secret');
  await t.rejects(client.serveDisk('d1'), { code: 'ERR_ADMIN_INTERNAL', message: /see its log/ });
});

for (const [who, peer] of [
  ['who may only see the status', { uid: 1234, gid: 1234, pid: 1 }],
  ['whom the kernel does not name', 'unknown'],
] as const) {
  void test(`a caller ${who} is refused`, async (t) => {
    const { client, services } = await startFixture(t, peer);
    await t.rejects(client.serveDisk('d1'), { code: 'ERR_ADMIN_FORBIDDEN' });
    t.same(services.calls, []);
  });
}

for (const [what, head, after, says] of [
  [
    'another protocol',
    'GET /v1/disks/d1/nbd HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: h2c',
    '',
    /400[\s\S]*expected Upgrade: nbd, got \\"h2c\\"/,
  ],
  [
    'another path',
    `GET /v1/status HTTP/1.1\r\n${UPGRADE}`,
    '',
    /404[\s\S]*cannot upgrade GET \/v1\/status/,
  ],
  [
    'another method',
    `POST /v1/disks/d1/nbd HTTP/1.1\r\n${UPGRADE}`,
    '',
    /404[\s\S]*cannot upgrade POST/,
  ],
  [
    'a broken escape',
    `GET /v1/disks/%zz/nbd HTTP/1.1\r\n${UPGRADE}`,
    '',
    /400[\s\S]*percent-encoded/,
  ],
  [
    'bytes that come too early',
    `GET /v1/disks/d1/nbd HTTP/1.1\r\n${UPGRADE}`,
    'early',
    /400[\s\S]*bytes were sent before the answer/,
  ],
] as const) {
  void test(`an upgrade with ${what} is refused`, async (t) => {
    const { socketPath, services } = await startFixture(t, ROOT);
    t.match(await ask(socketPath, head, after), says);
    t.same(services.calls, []);
  });
}

void test('the path without an upgrade says what it is for', async (t) => {
  const { socketPath } = await startFixture(t);
  const answer = await new Promise<string>((resolve, reject) => {
    const outgoing = request({ socketPath, path: '/v1/disks/d1/nbd', agent: false }, (incoming) => {
      text(incoming).then(resolve, reject);
    });
    outgoing.on('error', reject);
    outgoing.end();
  });
  t.match(answer, /expected the header Upgrade: nbd/);
});

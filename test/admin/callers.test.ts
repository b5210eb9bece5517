// SPDX-License-Identifier: Apache-2.0
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { groupId } from '../../src/admin/callers.js';
import { startAdminServer } from '../../src/admin/server.js';
import { createSilentLogger } from '../../src/base/logger.js';
import { createFakeServices } from './fake-services.js';
import {
  clock,
  DAEMON_UID,
  errorOf,
  OPERATOR_GID,
  raw,
  ROOT,
  startFixture,
  temporaryDirectory,
} from './support.js';

type Operation = readonly [method: string, path: string, body?: string];
const STATUS: Operation = ['GET', '/v1/status'];
const LIST: Operation = ['GET', '/v1/disks'];
const ATTACH: Operation = ['POST', '/v1/disks/d1/attach'];
const DELETE: Operation = ['DELETE', '/v1/disks/d1'];
const CONNECTIONS: Operation = ['GET', '/v1/connections'];
const ALLOW: Operation = ['PATCH', '/v1/disks/d1/allow', '{"clear":true}'];
const EXPORT: Operation = [
  'POST',
  '/v1/disks/d1/export-key',
  JSON.stringify({ confirm: 'd1', file: '/key' }),
];
const OPERATIONS = [STATUS, LIST, CONNECTIONS, ATTACH, ALLOW, EXPORT, DELETE];

const procStatus = (uid: number, groups: string): string =>
  `Name:\tsh\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nGid:\t1\t1\t1\t1\nGroups:\t${groups} \n`;

for (const [claim, peer, status, allowed] of [
  ['root may do all', ROOT, undefined, [200, 200, 200, 200, 200, 200, 204]],
  [
    "the daemon's user may do all",
    { uid: DAEMON_UID, gid: 5, pid: 1 },
    undefined,
    [200, 200, 200, 200, 200, 200, 204],
  ],
  [
    'a member by primary group operates, but lets nobody in, takes no key and deletes nothing',
    { uid: 1000, gid: OPERATOR_GID, pid: 1 },
    undefined,
    [200, 200, 200, 200, 403, 403, 403],
  ],
  [
    'a member by supplementary group operates, but lets nobody in, takes no key and deletes nothing',
    { uid: 1000, gid: 1000, pid: 4242 },
    procStatus(1000, `4 ${OPERATOR_GID}`),
    [200, 200, 200, 200, 403, 403, 403],
  ],
  [
    'others read the status and nothing else',
    { uid: 1000, gid: 1000, pid: 4242 },
    procStatus(1000, '4 24 1000'),
    [200, 403, 403, 403, 403, 403, 403],
  ],
  [
    "groups of a process with another user do not count: the caller's pid was reused",
    { uid: 1000, gid: 1000, pid: 4242 },
    procStatus(1001, `${OPERATOR_GID}`),
    [200, 403, 403, 403, 403, 403, 403],
  ],
  [
    'a caller whose process is gone has no supplementary groups',
    { uid: 1000, gid: 1000, pid: 4243 },
    procStatus(1000, `${OPERATOR_GID}`),
    [200, 403, 403, 403, 403, 403, 403],
  ],
  [
    'a caller of another pid namespace has no supplementary groups',
    { uid: 1000, gid: 1000, pid: 0 },
    procStatus(1000, `${OPERATOR_GID}`),
    [200, 403, 403, 403, 403, 403, 403],
  ],
  [
    'a caller that the kernel does not name may do nothing',
    'unknown',
    undefined,
    [403, 403, 403, 403, 403, 403, 403],
  ],
] as const) {
  void test(claim, async (t) => {
    const { socketPath, services } = await startFixture(t, peer, status);
    const answers = [];
    for (const [method, path, body] of OPERATIONS) {
      answers.push(await raw(socketPath, method, path, body));
    }
    t.same(
      answers.map((answer) => answer.status),
      allowed,
    );
    t.equal(services.calls.length, allowed.filter((one) => one < 300).length);
  });
}

void test('a refusal names the user, the operation and both roles', async (t) => {
  const { socketPath } = await startFixture(t, { uid: 1000, gid: OPERATOR_GID, pid: 1 });
  t.equal(
    errorOf(await raw(socketPath, ...DELETE)).message,
    'user 1000 may not DELETE /v1/disks/:name: it needs role admin, the caller has operate',
  );
});

void test('the role is checked before the body', async (t) => {
  const { socketPath } = await startFixture(t, { uid: 1000, gid: OPERATOR_GID, pid: 1 });
  t.equal((await raw(socketPath, 'POST', '/v1/disks', '{broken')).status, 403);
});

void test('an operator may subscribe to events, others may not', async (t) => {
  const { socketPath } = await startFixture(t, { uid: 1000, gid: 1000, pid: 0 });
  t.equal((await raw(socketPath, 'GET', '/v1/events')).status, 403);
});

void test('the caller is handed to the service', async (t) => {
  const { socketPath, services } = await startFixture(t, { uid: 1000, gid: OPERATOR_GID, pid: 1 });
  await raw(socketPath, ...ATTACH);
  t.same(services.calls, ['attachDisk("d1",1000)']);
});

void test('a group that is missing, or a group file that is, gives nobody rights', (t) => {
  t.equal(groupId('/nonexistent', 'keyhold'), undefined);
  t.equal(groupId('/dev/null', 'keyhold'), undefined);
  t.equal(groupId('/etc/group', 'root'), 0);
  t.end();
});

void test('the descriptor that is asked about is the one of the connection', async (t) => {
  const directory = await temporaryDirectory(t);
  const socketPath = join(directory, 'admin.sock');
  const links: string[] = [];
  const server = await startAdminServer({
    socketPath,
    services: createFakeServices(),
    peerCredentials(fd) {
      links.push(readlinkSync(`/proc/self/fd/${fd}`));
      return ROOT;
    },
    logger: createSilentLogger(),
    clock,
    version: '0.1.0',
  });
  t.teardown(() => server.close());
  await raw(socketPath, ...STATUS);
  await raw(socketPath, ...STATUS);
  t.equal(links.length, 2);
  for (const link of links) t.match(link, /^socket:\[\d+\]$/);
  t.not(links[0], links[1]);
});

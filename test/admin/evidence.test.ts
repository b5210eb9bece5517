// SPDX-License-Identifier: Apache-2.0
import { Readable } from 'node:stream';
import { test } from 'tap';
import { DAEMON_UID, errorOf, OPERATOR_GID, raw, startFixture } from './support.js';

const OPERATOR = { uid: 1000, gid: OPERATOR_GID, pid: 1 };
const STRANGER = { uid: 1000, gid: 100, pid: 1 };
const EXPORT = '/v1/audit/export';

void test('an operator is sent the pieces of an export as they are', async (t) => {
  const { socketPath, services } = await startFixture(t, OPERATOR);
  const path = `${EXPORT}?since=2026-01-01T00:00:00.000Z&kind=verdict`;
  const answer = await raw(socketPath, 'GET', path);
  t.match(answer, { status: 200, text: '{"records":[]}' });
  t.match(answer.headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store' });
  t.same(services.calls, [
    'exportAudit({"since":"2026-01-01T00:00:00.000Z","kind":"verdict"},1000)',
  ]);
});

void test('who is neither operator nor the daemon gets no export and no examination', async (t) => {
  const { socketPath, services } = await startFixture(t, STRANGER);
  t.equal((await raw(socketPath, 'GET', EXPORT)).status, 403);
  t.equal((await raw(socketPath, 'POST', '/v1/doctor', '{}')).status, 403);
  t.same(services.calls, []);
});

for (const query of ['since=yesterday', 'since=2026-01-01', 'kind=', 'disc=a', 'set=a&set=b']) {
  void test(`an export with ${query} is refused`, async (t) => {
    const { socketPath, services } = await startFixture(t, OPERATOR);
    const answer = await raw(socketPath, 'GET', `${EXPORT}?${query}`);
    t.equal(answer.status, 400);
    t.equal(errorOf(answer).code, 'ERR_ADMIN_REQUEST');
    t.same(services.calls, []);
  });
}

void test('an export is not made by POST', async (t) => {
  const { socketPath } = await startFixture(t, OPERATOR);
  t.match(await raw(socketPath, 'POST', EXPORT, '{}'), { status: 405, headers: { allow: 'GET' } });
});

void test('an export that cannot begin is an ordinary error', async (t) => {
  const { socketPath, services } = await startFixture(t, OPERATOR);
  services.failure = new Error('oops');
  const answer = await raw(socketPath, 'GET', EXPORT);
  t.equal(answer.status, 500);
  t.notMatch(answer.text, /oops/);
});

void test('an export that fails on its way breaks off, and is no whole answer', async (t) => {
  const fixture = await startFixture(t, OPERATOR);
  fixture.services.exportAudit = () => {
    async function* pieces(): AsyncGenerator<string> {
      await Promise.resolve();
      yield '{"records":[\n';
      throw new Error('the disk is gone');
    }
    return Promise.resolve(Readable.from(pieces()));
  };
  await t.rejects(raw(fixture.socketPath, 'GET', EXPORT));
  const read = async (): Promise<void> => {
    for await (const piece of await fixture.client.exportAudit({})) t.ok(piece.length > 0);
  };
  await t.rejects(read(), { code: 'ERR_ADMIN_UNREACHABLE' });
});

for (const [claim, body] of [
  ['a set and a key', { set: 's1', key: 'https://v/keys/k' }],
  ['an identity without a key', { set: 's1', identity: 'prod' }],
  ['a set without a name', { set: '' }],
  ['a field that is unknown', { sets: 's1' }],
] as const) {
  void test(`an examination of ${claim} is refused`, async (t) => {
    const { socketPath, services } = await startFixture(t, OPERATOR);
    const answer = await raw(socketPath, 'POST', '/v1/doctor', JSON.stringify(body));
    t.equal(answer.status, 400);
    t.same(services.calls, []);
  });
}

void test('an examination reaches the services with its caller', async (t) => {
  const { client, services } = await startFixture(t, { uid: DAEMON_UID, gid: 1, pid: 1 });
  t.same(await client.doctor({ set: 's1' }), { targets: [], host: [] });
  t.same(services.calls, [`doctor({"set":"s1"},${DAEMON_UID})`]);
});

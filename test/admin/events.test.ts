// SPDX-License-Identifier: Apache-2.0
import { connect } from 'node:net';
import { test } from 'tap';
import type { AdminEvent } from '../../src/admin/api.js';
import { startFixture, type Fixture } from './support.js';

const event = (seq: number, extra: object = {}): AdminEvent => ({
  seq,
  time: '2026-01-01T00:00:00.000Z',
  kind: 'disk-offline',
  ...extra,
});

function emit({ services }: Fixture, one: AdminEvent): void {
  for (const listener of services.listeners) listener(one);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

void test('events arrive in order with everything that they carry', async (t) => {
  const fixture = await startFixture(t);
  const events = await fixture.client.events();
  const sent = [event(1), event(2, { disk: 'd\n1', receipt: { connections: 3 } })];
  for (const one of sent) emit(fixture, one);
  await fixture.server.close();
  const received: AdminEvent[] = [];
  for await (const one of events) received.push(one);
  t.same(received, sent);
});

void test('a subscription that is awaited misses nothing', async (t) => {
  const fixture = await startFixture(t);
  const iterator = (await fixture.client.events())[Symbol.asyncIterator]();
  emit(fixture, event(7));
  t.match(await iterator.next(), { value: { seq: 7 } });
  await iterator.return?.();
});

void test('the stream ends without error when the daemon stops', async (t) => {
  const fixture = await startFixture(t);
  const iterator = (await fixture.client.events())[Symbol.asyncIterator]();
  await fixture.server.close();
  t.same(await iterator.next(), { value: undefined, done: true });
});

void test('a signal ends the stream and the daemon forgets the subscriber', async (t) => {
  const fixture = await startFixture(t);
  const controller = new AbortController();
  const iterator = (await fixture.client.events(controller.signal))[Symbol.asyncIterator]();
  const next = iterator.next();
  controller.abort();
  t.same(await next, { value: undefined, done: true });
  await until(() => fixture.services.listeners.size === 0);
});

void test('leaving the loop ends the subscription', async (t) => {
  const fixture = await startFixture(t);
  const events = await fixture.client.events();
  emit(fixture, event(1));
  for await (const one of events) {
    t.equal(one.seq, 1);
    break;
  }
  await until(() => fixture.services.listeners.size === 0);
});

void test('a subscriber that does not read is cut off and others are not', async (t) => {
  const fixture = await startFixture(t);
  const lazy = connect({ path: fixture.socketPath });
  lazy.pause();
  lazy.on('error', () => undefined);
  lazy.write('GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n');
  await until(() => fixture.services.listeners.size === 1);
  const iterator = (await fixture.client.events())[Symbol.asyncIterator]();
  const padding = 'x'.repeat(50_000);
  for (let seq = 1; fixture.services.listeners.size === 2; seq += 1) {
    emit(fixture, event(seq, { padding }));
    t.match(await iterator.next(), { value: { seq } });
    if (seq > 1000) throw new Error('nobody was cut off');
  }
  lazy.destroy();
  emit(fixture, event(5000));
  t.match(await iterator.next(), { value: { seq: 5000 } });
  await iterator.return?.();
});

void test('a reader that was cut off learns that the stream broke', async (t) => {
  const fixture = await startFixture(t);
  const iterator = (await fixture.client.events())[Symbol.asyncIterator]();
  // All in one turn of the event loop, so that nothing can be read in between.
  for (let seq = 1; seq <= 200; seq += 1)
    emit(fixture, event(seq, { padding: 'x'.repeat(50_000) }));
  await t.rejects(
    (async () => {
      for (;;) if ((await iterator.next()).done === true) return;
    })(),
    { code: 'ERR_ADMIN_UNREACHABLE' },
  );
});

void test('one subscriber too many is refused and leaves no listener behind', async (t) => {
  const fixture = await startFixture(t);
  for (let index = 0; index < 64; index += 1) await fixture.client.events();
  await t.rejects(fixture.client.events(), { code: 'ERR_ADMIN_BUSY', kind: 'unavailable' });
  t.equal(fixture.services.listeners.size, 64);
});

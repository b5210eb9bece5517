// SPDX-License-Identifier: Apache-2.0
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Test, test } from 'tap';
import { Rig } from './support/rig.js';

interface Proxy {
  readonly url: string;
  readonly seen: IncomingMessage[];
}

/** A CONNECT proxy; `status` other than 200 refuses, 0 never answers. */
async function startProxy(t: Test, status = 200): Promise<Proxy> {
  const seen: IncomingMessage[] = [];
  const sockets = new Set<Duplex>();
  const server: Server = createServer();
  server.on('connect', (request: IncomingMessage, client: Duplex) => {
    seen.push(request);
    sockets.add(client);
    client.on('error', () => undefined);
    if (status === 0) return;
    client.write(`HTTP/1.1 ${status} X\r\n\r\n`);
    if (status !== 200) return;
    const [host, port] = (request.url ?? '').split(':');
    const upstream = connect(Number(port), host ?? '');
    upstream.on('error', () => undefined);
    sockets.add(upstream);
    client.pipe(upstream).pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `http://user:p%40ss@127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

async function start(t: Test): Promise<Rig> {
  const rig = await Rig.start();
  t.teardown(() => rig.stop());
  return rig;
}

void test('vault and authority are reached through the proxy and checked', async (t) => {
  const rig = await start(t);
  const proxy = await startProxy(t);
  const access = rig.access({ transport: { proxy: proxy.url } });
  t.match(await rig.probe(access), { kind: 'PROOF' });
  t.ok(proxy.seen.length >= 2);
  t.equal(proxy.seen[0]?.url, `127.0.0.1:${rig.vault.port}`);
  const expected = `Basic ${Buffer.from('user:p@ss').toString('base64')}`;
  t.equal(proxy.seen[0]?.headers['proxy-authorization'], expected);
});

void test('through the proxy an unknown authority is still refused', async (t) => {
  const rig = await start(t);
  const proxy = await startProxy(t);
  const timeoutMs = 2000;
  const access = rig.accessWith({ verifyChallengeResource: false, timeoutMs, proxy: proxy.url });
  t.match(await rig.probe(access), { class: 'no-answer', code: /SIGNATURE|SELF_SIGNED|ISSUER/ });
  t.equal(rig.vault.requests.length, 0);
});

void test('a proxy that refuses is no denial of the vault', async (t) => {
  const rig = await start(t);
  const proxy = await startProxy(t, 403);
  const verdict = await rig.probe(rig.access({ transport: { proxy: proxy.url } }));
  t.match(verdict, { kind: 'NO-ANSWER', class: 'no-answer', code: 'EPROXY', message: /403/ });
});

void test('a proxy that never answers ends at the limit', async (t) => {
  const rig = await start(t);
  const proxy = await startProxy(t, 0);
  const access = rig.access({ transport: { proxy: proxy.url } });
  const verdict = await rig.probe(access, { timeoutMs: 400 });
  t.match(verdict, { class: 'no-answer', code: 'TIMEOUT' });
  t.ok(verdict.durationMs < 1500);
});

void test('a proxy that is not there is no answer', async (t) => {
  const rig = await start(t);
  const access = rig.access({ transport: { proxy: 'http://127.0.0.1:1' } });
  t.match(await rig.probe(access), { class: 'no-answer', code: 'ECONNREFUSED' });
});

void test('proxy variables of the environment are not obeyed', async (t) => {
  const rig = await start(t);
  process.env['HTTPS_PROXY'] = 'http://127.0.0.1:1';
  t.teardown(() => delete process.env['HTTPS_PROXY']);
  t.match(await rig.probe(rig.access()), { kind: 'PROOF' });
});

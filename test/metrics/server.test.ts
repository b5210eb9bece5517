// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { createSilentLogger } from '../../src/base/logger.js';
import { Metrics } from '../../src/metrics/metrics.js';
import { startMetricsServer, type MetricsServer } from '../../src/metrics/server.js';
import { parseExposition } from './exposition.js';

interface Situation {
  trouble?: string;
  scrapeFails?: boolean;
}

async function start(
  t: { teardown(run: () => Promise<unknown>): void },
  { trouble, scrapeFails }: Situation = {},
): Promise<MetricsServer> {
  const metrics = new Metrics({
    version: '0.1.0',
    sources: {
      disks() {
        if (scrapeFails === true) throw new Error('private detail');
        return [];
      },
      sets: () => [],
      connections: () => ({ total: 0, negotiating: 0 }),
      vaults: () => [],
      shards: () => ({ total: 1, alive: 1, restarts: 0, cpuSeconds: [0] }),
    },
  });
  const server = await startMetricsServer({
    listen: { host: '127.0.0.1', port: 0 },
    metrics,
    logger: createSilentLogger(),
    trouble: () => trouble ?? null,
  });
  t.teardown(() => server.close());
  return server;
}

const at = ({ url }: MetricsServer, path: string): string => new URL(path, url).href;

void test('GET /metrics gives the text with its content type', async (t) => {
  const server = await start(t);
  const answer = await fetch(server.url);
  t.equal(answer.status, 200);
  t.equal(answer.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  t.ok(parseExposition(await answer.text()).has('keyhold_build_info'));
});

void test('GET /healthz says ok', async (t) => {
  const answer = await fetch(at(await start(t), '/healthz'));
  t.equal(answer.status, 200);
  t.equal(await answer.text(), 'ok\n');
});

void test('GET /healthz says what is wrong', async (t) => {
  const answer = await fetch(at(await start(t, { trouble: 'shard 1 is dead' }), '/healthz'));
  t.equal(answer.status, 503);
  t.equal(await answer.text(), 'shard 1 is dead\n');
});

for (const path of ['/', '/metrics/', '/metrics%00', '/v1/status', '//metrics']) {
  void test(`GET ${path} is 404`, async (t) => {
    t.equal((await fetch(new URL(`.${path}`, (await start(t)).url).href)).status, 404);
  });
}

for (const method of ['POST', 'PUT', 'DELETE', 'HEAD']) {
  void test(`${method} /metrics is 405`, async (t) => {
    const answer = await fetch((await start(t)).url, { method });
    t.equal(answer.status, 405);
    t.equal(answer.headers.get('allow'), 'GET');
  });
}

void test('a scrape that fails is 500 and tells nothing', async (t) => {
  const answer = await fetch((await start(t, { scrapeFails: true })).url);
  t.equal(answer.status, 500);
  t.notMatch(await answer.text(), /private/);
});

void test('an address that is taken is refused with the errno', async (t) => {
  const { url } = await start(t);
  await t.rejects(
    startMetricsServer({
      listen: { host: '127.0.0.1', port: Number(new URL(url).port) },
      metrics: { scrape: () => Promise.resolve(''), contentType: 'text/plain' },
      logger: createSilentLogger(),
      trouble: () => null,
    }),
    {
      code: 'ERR_METRICS_LISTEN',
      message: /^cannot serve metrics on 127.0.0.1 port \d+: EADDRINUSE$/,
    },
  );
});

void test('close cuts off a scraper that keeps its connection', async (t) => {
  const server = await start(t);
  await (await fetch(server.url)).text();
  await t.resolves(server.close());
  await t.rejects(fetch(server.url));
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { filledIn, readDashboard } from '../support/dashboard.js';
import { Prometheus } from '../support/prometheus.js';
import { exportedNames, metricNames } from '../support/promql.js';

const dashboard = await readDashboard();
const queries = [
  ...dashboard.panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }) => [title, expr] as const),
  ),
  ...dashboard.annotations.list.map(({ name, expr }) => [name, expr] as const),
];

void test('the data source is a variable, and so are the instances', (t) => {
  t.same(
    dashboard.templating.list.map(({ name, type }) => [name, type]),
    [
      ['datasource', 'datasource'],
      ['instance', 'query'],
    ],
  );
  t.end();
});

void test('ids of panels are unique', (t) => {
  const ids = dashboard.panels.map(({ id }) => id);
  t.equal(new Set(ids).size, ids.length);
  t.end();
});

void test('queries of a panel have ids of their own', (t) => {
  for (const { title, targets } of dashboard.panels) {
    t.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
  }
  t.end();
});

void test('panels lie within the grid and on no other', (t) => {
  const taken = new Map<string, string>();
  for (const { title, gridPos } of dashboard.panels) {
    t.ok(gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        t.equal(taken.get(`${x},${y}`), undefined, `${title} at ${x},${y}`);
        taken.set(`${x},${y}`, title);
      }
    }
  }
  t.end();
});

for (const title of [
  ...['Throughput', 'IOPS', 'Latency', 'In flight', 'Disks by state', 'Lease left'],
  ...['Probe verdicts', 'Revocation receipts', 'Shard utilisation', 'Vault budget', 'Errors'],
]) {
  void test(`there is a panel about ${title}`, (t) => {
    t.equal(dashboard.panels.filter((panel) => panel.title === title).length, 1);
    t.end();
  });
}

void test('queries use only metrics that exist', (t) => {
  const known = exportedNames();
  for (const [title, expr] of queries) {
    const names = metricNames(filledIn(expr, '1m')).filter((name) => name !== 'vector');
    t.ok(names.length > 0, title);
    for (const name of names) t.ok(known.has(name), `${title}: ${name}`);
  }
  t.end();
});

void test('every query is limited to the chosen instances, or is about alerts', (t) => {
  for (const [title, expr] of queries) {
    const selectors = expr.match(/\b\w+\{[^}]*\}/g) ?? [];
    t.ok(selectors.length > 0, title);
    for (const one of selectors) {
      t.ok(one.includes('instance=~"$instance"') || one.startsWith('ALERTS'), `${title}: ${one}`);
    }
  }
  t.end();
});

void test('Prometheus parses every query', async (t) => {
  const prometheus = await Prometheus.start({ target: 'http://127.0.0.1:1/', interval: '1s' });
  t.teardown(() => prometheus.stop());
  for (const [title, expr] of queries) {
    await t.resolves(prometheus.query(filledIn(expr, '1m')), title);
  }
  await t.rejects(prometheus.query('sum by ('), { message: /parse error/ });
});

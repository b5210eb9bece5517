// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { filledIn, readDashboard } from '../support/dashboard.js';
import { eventually, run, runOk } from '../support/process.js';
import { Prometheus } from '../support/prometheus.js';
import { Stack } from '../support/stack.js';

/** fio until it is ended or refused. */
const load = (uri: string): Promise<unknown> =>
  run('fio', [
    ...['--name=load', '--ioengine=nbd', `--uri=${uri}`, '--rw=randrw', '--bs=4k', '--iodepth=4'],
    ...['--size=32M', '--time_based', '--runtime=120', '--rate_iops=500'],
  ]);

void test('a real Prometheus sees a real run and a revocation', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'db', setArgs: ['--probe-interval', '1s', '--lease', '60s'] });
  const { metrics: target } = await stack.admin.status();
  if (target === null) throw new Error('the daemon serves no metrics');
  const prometheus = await Prometheus.start({ target, interval: '1s' });
  t.teardown(() => prometheus.stop());
  const loading = load(stack.uri('db'));
  const holds = (what: string, expr: string): Promise<void> =>
    eventually(what, async () => ((await prometheus.value(expr)) ?? 0) > 0, 60_000);
  const firing = async (name: string): Promise<boolean> =>
    (await prometheus.alerts()).some(({ labels }) => labels['alertname'] === name);

  await t.test('it is up', async () => {
    await holds('up', 'up{job="keyhold"} == 1');
  });

  await t.test('a recording rule has the throughput', async () => {
    await holds('written', 'instance_command:keyhold_nbd_bytes:rate1m{command="write"}');
    await holds('read', 'instance_command:keyhold_nbd_bytes:rate1m{command="read"}');
  });

  await t.test('a recording rule has the latency of the set', async () => {
    const p99 = 'instance_set_command:keyhold_nbd_request_duration_seconds:p99';
    await holds('p99', `${p99}{set="db-set",command="read"}`);
  });

  await t.test('a recording rule has what shards use', async () => {
    await holds('shards', 'sum(instance_shard:keyhold_shard_cpu_seconds:rate1m)');
  });

  await t.test('promtool check metrics has nothing to say about the page', async (t) => {
    const page = await (await fetch(target)).text();
    const { status, stdout, stderr } = await run('promtool', ['check', 'metrics'], { input: page });
    const ours = (stdout + stderr).split('\n').filter((line) => line.startsWith('keyhold_'));
    t.same(ours, []);
    // 3: lints, of which only those of prom-client's own metrics are left.
    t.ok(status === 0 || status === 3, stdout + stderr);
  });

  await t.test('no alert is there while everything is well', async (t) => {
    t.same(await prometheus.alerts(), []);
  });

  await t.test('every query of the dashboard that tells of traffic has an answer', async (t) => {
    const rest = /Next key|receipts|wiped/;
    const panels = (await readDashboard()).panels.filter(({ title }) => !rest.test(title));
    for (const { title, targets } of panels) {
      for (const { expr } of targets) {
        const series = await prometheus.query(filledIn(expr, '1m'));
        t.ok(series.length > 0, `${title}: ${expr}`);
      }
    }
  });

  await stack.ok('vault', 'disable', 'db-key');
  await loading;

  await t.test('after a revocation the alert of the denied key fires', async (t) => {
    await eventually('it fires', () => firing('KeyholdKeyDenied'), 60_000);
    const alert = (await prometheus.alerts()).find(
      ({ labels }) => labels['alertname'] === 'KeyholdKeyDenied',
    );
    t.match(alert, {
      state: 'firing',
      labels: { set: 'db-set', severity: 'critical' },
      annotations: { description: /`keyhold set show db-set`/ },
    });
  });

  await t.test('the dashboard counts the receipt of the revocation', async (t) => {
    const panels = (await readDashboard()).panels;
    const receipts = panels.find(({ title }) => title === 'Revocation receipts');
    const expr = filledIn(receipts?.targets[0]?.expr ?? '', '1m');
    await holds('receipts', expr);
    t.match((await prometheus.query(expr))[0]?.metric, { set: 'db-set', reason: 'key-disabled' });
  });

  await t.test('the disk that is offline is pending, since it may yet come back', async () => {
    await eventually('pending', () => firing('KeyholdDiskOffline'), 60_000);
  });

  await t.test('when the key returns, the alert ends', async () => {
    await stack.ok('vault', 'enable', 'db-key');
    await eventually('it ends', async () => !(await firing('KeyholdKeyDenied')), 60_000);
  });
});

void test('promtool check metrics complains where there is reason to', async (t) => {
  const page = '# HELP keyhold_wrong A counter.\n# TYPE keyhold_wrong counter\nkeyhold_wrong 1\n';
  const { status, stdout, stderr } = await run('promtool', ['check', 'metrics'], { input: page });
  t.equal(status, 3);
  t.match(stdout + stderr, /keyhold_wrong counter metrics should have "_total" suffix/);
  await runOk('promtool', ['--version']);
});

// SPDX-License-Identifier: Apache-2.0
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { run } from '../support/process.js';
import { MONITORING, Prometheus } from '../support/prometheus.js';
import { exportedNames, metricNames } from '../support/promql.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;
const read = (name: string): Promise<string> => readFile(join(MONITORING, name), 'utf8');
const alertsText = await read('alerts.yml');
const testsText = await read('alerts_test.yml');
/** The text of each alert, by its name. */
const alerts = new Map(
  alertsText
    .split(/^ {6}- alert: /m)
    .slice(1)
    .map((text) => [/^\w+/.exec(text)?.[0] ?? '', text.replaceAll(/\s+/g, ' ')]),
);
const cases = testsText.split(/^ {2}- name: /m).slice(1);

/** promtool in a copy of docs/monitoring in which something was changed. */
async function judgeChanged(
  t: { teardown(run: () => Promise<unknown>): void },
  change: { file: string; from: string; to: string },
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-rules-'));
  t.teardown(() => rm(dir, { recursive: true }));
  for (const name of ['alerts.yml', 'recording.yml', 'alerts_test.yml']) {
    await copyFile(join(MONITORING, name), join(dir, name));
  }
  const text = await read(change.file);
  if (!text.includes(change.from)) throw new Error(`${change.file} has no ${change.from}`);
  await writeFile(join(dir, change.file), text.replace(change.from, change.to));
  return run('promtool', ['test', 'rules', join(dir, 'alerts_test.yml')]);
}

void test('promtool check rules takes both rule files', async (t) => {
  const files = ['recording.yml', 'alerts.yml'].map((name) => join(MONITORING, name));
  const { status, stdout, stderr } = await run('promtool', ['check', 'rules', ...files]);
  t.equal(status, 0, stdout + stderr);
  t.notMatch(stdout + stderr, /FAILED|duplicate/);
});

void test('promtool check config takes the documented configuration', async (t) => {
  const file = join(MONITORING, 'prometheus.yml');
  const { status, stdout, stderr } = await run('promtool', ['check', 'config', file]);
  t.equal(status, 0, stdout + stderr);
  t.match(stdout, /2 rule files found/);
});

void test('promtool test rules passes', async (t) => {
  const file = join(MONITORING, 'alerts_test.yml');
  const { status, stdout, stderr } = await run('promtool', ['test', 'rules', file]);
  t.equal(status, 0, stdout + stderr);
});

const changes = [
  ['an alert that waits longer', 'alerts.yml', 'for: 30s', 'for: 10m'],
  ['an alert that waits no more', 'alerts.yml', 'for: 15m', 'for: 0s'],
  ['a threshold that is met early', 'alerts.yml', '0.5 * keyhold', '0.51 * keyhold'],
  ['another quantile', 'recording.yml', '0.99,', '0.9,'],
] as const;
for (const [what, file, from, to] of changes) {
  void test(`the tests of the rules notice ${what}`, async (t) => {
    const { status, stdout, stderr } = await judgeChanged(t, { file, from, to });
    t.not(status, 0);
    t.match(stdout + stderr, /FAILED/);
  });
}

void test('every alert has a case in which it fires', (t) => {
  t.ok(alerts.size > 20, `${String(alerts.size)} alerts`);
  for (const name of alerts.keys()) {
    const fires = cases.some(
      (text) => text.includes(`alertname: ${name}\n`) && text.includes('- exp_labels:'),
    );
    t.ok(fires, name);
  }
  t.end();
});

void test('every alert has a case that comes near and must not fire', (t) => {
  for (const name of alerts.keys()) {
    const near = cases.some(
      (text) =>
        text.startsWith(`'${name} does not fire: `) &&
        text.includes(`alertname: ${name}\n        exp_alerts: []`),
    );
    t.ok(near, name);
  }
  t.end();
});

void test('every alert has a severity, a summary and a next step', (t) => {
  for (const [name, text] of alerts) {
    t.match(text, /severity: (critical|warning) /, name);
    t.match(text, / summary: '[^']{10,}'/, name);
    t.match(text, / description: >- .*`(keyhold|systemctl|promtool|journalctl|df) ?[^`]*`/, name);
  }
  t.end();
});

void test('commands of the descriptions exist, with their options', async (t) => {
  const commands = new Set(
    [...alertsText.replaceAll(/\s+/g, ' ').matchAll(/`keyhold ([^`]+)`/g)].map(([, c]) => c ?? ''),
  );
  t.ok(commands.size > 8);
  for (const command of commands) {
    const words = /^[a-z-]+(?: [a-z-]+)*(?= |$)/.exec(command)?.[0].split(' ') ?? [];
    const path = words.filter((word) => !word.startsWith('-'));
    const help = await run(process.execPath, [main, ...path, '--help']);
    t.equal(help.status, 0, command);
    t.match(help.stdout, new RegExp(`^Usage: keyhold ${path.join(' ')}\\b`), command);
    for (const [option] of command.matchAll(/--[a-z-]+/g)) {
      t.ok(help.stdout.includes(option), `${command}: ${option}`);
    }
  }
});

void test('rules use only metrics that exist', async (t) => {
  const prometheus = await Prometheus.start({ target: 'http://127.0.0.1:1/', interval: '1s' });
  t.teardown(() => prometheus.stop());
  const rules = await prometheus.rules();
  t.equal(rules.size, alerts.size + (await read('recording.yml')).split('- record:').length - 1);
  const known = new Set([...exportedNames(), ...rules.keys()]);
  for (const [name, expr] of rules) {
    const names = metricNames(expr);
    t.ok(names.length > 0, name);
    for (const one of names) t.ok(known.has(one), `${name}: ${one}`);
  }
});

void test('the tests of the rules use only metrics that exist', (t) => {
  const known = exportedNames();
  const names = new Set(
    [...testsText.matchAll(/- series: '([a-z_]+)/g)].map(([, name]) => name ?? ''),
  );
  for (const name of names) t.ok(known.has(name), name);
  t.end();
});

void test('names of metrics are found in an expression, and nothing else is', (t) => {
  const expr =
    'sum by (set) (rate(a_total{b="c_total"}[5m])) / on (job) group_left (d) x:y or e > 5';
  t.same(metricNames(expr), ['a_total', 'x:y', 'e']);
  t.end();
});

void test('the page about monitoring lists every alert and no other', async (t) => {
  const table = (await read('README.md'))
    .split('\n')
    .filter((line) => line.startsWith('| `Keyhold'));
  const listed = table.flatMap((line) => line.match(/`Keyhold\w+`/g) ?? []);
  t.same(listed.map((name) => name.slice(1, -1)).sort(), [...alerts.keys()].sort());
});

void test('the page says the severity and the duration of every alert', async (t) => {
  const seconds = (text: string): string => text.replace(' ', '').replace(/^–$/, 'none');
  const cells = (line: string): string[] => line.split('|').map((cell) => cell.trim());
  for (const line of (await read('README.md')).split('\n')) {
    if (!line.startsWith('| `Keyhold')) continue;
    const [, names = '', severities = '', durations = ''] = cells(line);
    for (const [index, name] of names.split(', ').entries()) {
      const at = (list: string): string => list.split(', ')[index] ?? list.split(', ')[0] ?? '';
      const text = alerts.get(name.slice(1, -1)) ?? '';
      t.ok(text.includes(`severity: ${at(severities)} `), `${name} is ${at(severities)}`);
      const held = / for: (\w+)/.exec(text)?.[1] ?? 'none';
      t.equal(held, seconds(at(durations)), name);
    }
  }
});

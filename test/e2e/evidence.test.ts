// SPDX-License-Identifier: Apache-2.0
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import tap, { type Test, test } from 'tap';
import type { DoctorReport } from '../../src/admin/api-doctor.js';
import { Stack } from '../support/stack.js';

async function start(t: Test): Promise<Stack> {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  return stack;
}

/** For tests that leave its configuration alone; each has a set of its own. */
const shared = await Stack.start();
tap.teardown(() => shared.stop());

async function createSet(stack: Stack, set: string): Promise<void> {
  const key = `${set}-key`;
  await stack.ok('vault', 'key', 'create', key);
  await stack.ok('set', 'create', set, '--key', await stack.keyUrl(key));
}

function checksOf({ targets }: DoctorReport): Record<string, string> {
  const checks = targets.flatMap((target) => target.checks);
  return Object.fromEntries(checks.map(({ id, verdict }) => [id, verdict]));
}

void test('doctor finds nothing wrong with a fresh set', async (t) => {
  await createSet(shared, 'fresh');
  const report = await shared.admin.doctor({ set: 'fresh' });
  t.same(new Set(Object.values(checksOf(report))), new Set(['ok']));
  t.notOk(report.host.some(({ verdict, id }) => verdict === 'fail' && id !== 'locked-memory'));
});

void test('doctor names the cause and the cure of a disabled key, and changes nothing', async (t) => {
  await createSet(shared, 'disabled');
  await shared.ok('vault', 'disable', 'disabled-key');
  const { status, stdout } = await shared.cli('doctor', 'disabled');
  t.equal(status, 5);
  t.match(stdout, /unwrap\s+fail\s+KeyDisabled/);
  t.match(
    stdout,
    /to do about key-enabled, unwrap, canary:\n {2}keyhold vault enable disabled-key\n/,
  );
  await shared.ok('vault', 'enable', 'disabled-key');
  t.equal((await shared.cli('doctor', 'disabled')).status, 0);
});

void test('doctor knows a key that no set uses', async (t) => {
  await shared.ok('vault', 'key', 'create', 'k2');
  const report = await shared.json<DoctorReport>('doctor', '--key', await shared.keyUrl('k2'));
  t.match(checksOf(report), { key: 'ok', unwrap: 'ok' });
  t.match(report.targets, [{ set: null, identityKind: 'embedded-vault' }]);
});

void test('doctor of an unknown set is an error', async (t) => {
  t.match(await shared.cli('doctor', 'nobody'), { status: 3, stderr: /ERR_SET_NOT_FOUND/ });
});

void test('an export of a live log verifies, and says who asked for it', async (t) => {
  await createSet(shared, 'exported');
  const file = join(shared.dir, 'export.json');
  await shared.ok('audit', 'export', '--set', 'exported', '--output', file);
  t.equal((await stat(file)).mode & 0o777, 0o600);
  t.match(await shared.ok('audit', 'verify', file), /\(export\): sound/);
  const all = JSON.parse(await shared.ok('audit', 'export')) as { records: { target?: string }[] };
  t.ok(all.records.some(({ target }) => target === '{"set":"exported"}'));
});

void test('a log that was written anew while no daemon ran is found by its anchors', async (t) => {
  const stack = await start(t);
  await stack.reconfigure((text) => `${text}\n[audit]\nanchor_interval = "1s"\n`);
  await createSet(stack, 's1');
  await stack.stopDev();
  const anchors = join(stack.dir, 'anchors');
  await writeFile(anchors, await readFile(join(stack.dir, 'daemon.log')));
  await stack.startDev();
  t.equal((await stack.cli('audit', 'verify', '--anchors', anchors)).status, 0);
  await stack.stopDev();
  await writeFile(join(stack.dir, 'state', 'audit', 'audit.jsonl'), '');
  await stack.startDev();
  t.match(await stack.ok('audit', 'verify'), 'sound');
  const { status, stdout } = await stack.cli('audit', 'verify', '--anchors', anchors);
  t.equal(status, 8);
  t.match(stdout, 'CONTRADICTED');
});

void test('a syslog that does not take anchors is an alarm, and the daemon serves on', async (t) => {
  const stack = await start(t);
  await stack.reconfigure(
    (text) =>
      `${text}\n[audit]\nanchor_interval = "1s"\nanchor = "syslog"\n` +
      'anchor_socket = "/nonexistent/log"\n',
  );
  let alarms: string[] = [];
  for (let turn = 0; turn < 50 && alarms.length === 0; turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    alarms = (await stack.admin.status()).alarms.map(({ name }) => name);
  }
  t.same(alarms, ['audit anchor']);
  await createSet(stack, 's1');
});

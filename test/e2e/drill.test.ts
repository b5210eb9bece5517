// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { DrillReport } from '../../src/cli/drill/report.js';
import { Stack } from '../support/stack.js';

/* `keyhold set drill` as an operator uses it: a real daemon, real disks, the embedded vault. */

async function start(t: Test): Promise<Stack> {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'd1', setArgs: ['--probe-interval', '1s'] });
  return stack;
}

async function drill(
  stack: Stack,
  ...args: string[]
): Promise<{ report: DrillReport; status: number | null }> {
  const { stdout, status } = await stack.cli('set', 'drill', 'd1-set', '--json', ...args);
  return { report: JSON.parse(stdout) as DrillReport, status };
}

void test('a drill', async (t) => {
  const stack = await start(t);
  const isBack = async (s: Test): Promise<void> => {
    s.equal((await stack.disk('d1')).state, 'online');
  };

  await t.test('in the embedded vault is as foretold, and disks come back', async (s) => {
    const { report, status } = await drill(stack);
    s.equal(status, 0);
    s.match(report, {
      by: 'embedded-vault',
      passed: true,
      disks: [{ disk: 'd1', foretold: 'goes-offline', observed: 'offline(key-disabled)' }],
    });
    await isBack(s);
  });

  await t.test('of a deletion recovers the key at the end', async (s) => {
    const { report } = await drill(stack, '--scenario', 'delete');
    s.match(report, { passed: true, disks: [{ observed: 'offline(key-deleted)' }] });
    await isBack(s);
  });

  await t.test('that is simulated leaves the key in the vault alone', async (s) => {
    const before = await stack.ok('vault', 'show', 'd1-key', '--json');
    const { report } = await drill(stack, '--live');
    s.match(report, { by: 'simulation', passed: true });
    s.equal(await stack.ok('vault', 'show', 'd1-key', '--json'), before);
    await isBack(s);
  });

  await t.test('writes its report where it is asked to', async (s) => {
    const path = join(stack.dir, 'report.md');
    await stack.ok('set', 'drill', 'd1-set', '--live', '--report', path);
    const text = await readFile(path, 'utf8');
    s.match(text, /^# Drill of encryption set d1-set: disable/);
    s.match(text, /\| d1 \| online \| goes-offline \| offline\(key-disabled\)/);
  });

  await t.test(
    'of an outage shorter than the lease says that it was not as foretold',
    async (s) => {
      const { report, status } = await drill(
        stack,
        '--scenario',
        'outage',
        '--live',
        '--timeout',
        '2s',
      );
      s.equal(status, 4);
      s.match(report, { passed: false, disks: [{ asForetold: false, afterMs: null }] });
      await isBack(s);
    },
  );

  await t.test('of a set that does not exist names it', async (s) => {
    const { status, stderr } = await stack.cli('set', 'drill', 'nobody', '--live');
    s.equal(status, 3);
    s.match(stderr, /no encryption set "nobody"/);
  });

  await t.test('is on record, beginning and end', async (s) => {
    const log = await readFile(join(stack.dir, 'state', 'audit', 'audit.jsonl'), 'utf8');
    s.match(log, /"kind":"drill-began"/);
    s.match(log, /"kind":"drill-ended"/);
  });
});

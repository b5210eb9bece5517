// SPDX-License-Identifier: Apache-2.0
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { eventually } from '../support/process.js';
import { Stack } from '../support/stack.js';

void test('the config of a running daemon', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'demo', size: '8M' });
  const path = join(stack.dir, 'keyhold.toml');
  const original = await readFile(path, 'utf8');
  const edit = async (change: (text: string) => string): Promise<void> =>
    writeFile(path, change(original));
  const online = async (): Promise<boolean> => (await stack.disk('demo')).state === 'online';

  await t.test('another identity can be used after a reload', async (t) => {
    const [, section = ''] = /(\[identity\.[^]*?)\n\n/.exec(original) ?? [];
    await edit((text) => `${text}\n${section.replace(/^\[identity\.\w+/, '[identity.second')}\n`);
    t.match(await stack.ok('reload'), /^changed identity\n/);
    const { out } = { out: await stack.ok('doctor', '--json') };
    t.match(out, /demo/);
  });

  await t.test('a proxy that leads nowhere is asked at once, and the way back too', async (t) => {
    await edit((text) => text.replace('[vault]', '[vault]\nproxy = "http://127.0.0.1:1"'));
    t.match(await stack.ok('reload'), /^changed identity\nchanged vault.proxy\n/m);
    await eventually('a probe fails', async () =>
      /NO-ANSWER/.test((await stack.cli('set', 'check', 'demo')).stdout),
    );
    await edit((text) => text);
    await stack.ok('reload');
    t.match((await stack.cli('set', 'check', 'demo')).stdout, /PROOF/);
    t.ok(await online());
  });

  await t.test('a key that needs a restart is refused by name, with all others', async (t) => {
    await edit((text) =>
      `${text}\n[disks]\nlinger = "1s"\n`.replace(
        '[vault]',
        '[vault]\nproxy = "http://127.0.0.1:1"',
      ),
    );
    const { status, stderr } = await stack.cli('reload');
    t.not(status, 0);
    t.match(stderr, /disks\.linger cannot change while the daemon runs; vault\.proxy could/);
    t.match(stderr, /ERR_RELOAD_RESTART/);
    t.match((await stack.cli('set', 'check', 'demo')).stdout, /PROOF/);
    t.match(await stack.ok('status'), /not reloaded, the old one stays in force/);
  });

  await t.test('SIGHUP reloads it too, and the audit log has it', async (t) => {
    await edit((text) => `${text}\n[audit]\nanchor_interval = "1h"\n`);
    process.kill(await stack.daemonPid(), 'SIGHUP');
    await eventually('it is recorded', async () =>
      /"config-reloaded".*"audit\.anchor_interval"/.test(
        await readFile(join(stack.dir, 'state/audit/audit.jsonl'), 'utf8'),
      ),
    );
    t.notMatch(await stack.ok('status'), /not reloaded/);
  });
});

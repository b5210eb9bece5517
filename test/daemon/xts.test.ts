// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { createAdminClient } from '../../src/admin/client.js';
import { Launcher } from '../support/launcher.js';
import { eventually } from '../support/process.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

/** A daemon whose config says `xts = "aesni"`, with `KEYHOLD_XTS` in its environment. */
async function launch(t: Test, kernel: string): Promise<{ launcher: Launcher; admin: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-xts-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const config = join(dir, 'keyhold.toml');
  const admin = join(dir, 'a.sock');
  const lines = [
    `state_dir = "${dir}/state"`,
    `[nbd]\nsocket = "${dir}/nbd.sock"`,
    `[admin]\nsocket = "${dir}/unused.sock"`,
    '[metrics]\nlisten = ""',
    '[data_plane]\nshards = 1\nxts = "aesni"',
  ];
  await writeFile(config, lines.join('\n'));
  const command = [process.execPath, main, 'daemon', '--config', config];
  const forced = ['env', `KEYHOLD_XTS=${kernel}`, ...command];
  const launcher = await Launcher.bind([`admin=unix:${admin}`], forced);
  t.teardown(() => launcher.close());
  await launcher.start();
  return { launcher, admin };
}

for (const [kernel, runs, what] of [
  ['evp', 'evp', 'wins over the config'],
  ['', 'aesni', 'says nothing when it is empty'],
] as const) {
  void test(`KEYHOLD_XTS=${kernel} ${what}, and the status shows ${runs}`, async (t) => {
    const { launcher, admin } = await launch(t, kernel);
    await eventually('the daemon is ready', () => launcher.output.includes('"ready"'));
    t.match(await createAdminClient({ socketPath: admin }).status(), { xtsKernel: runs });
  });
}

void test('a kernel that is not here is refused, naming those that are', async (t) => {
  const { launcher } = await launch(t, 'rot13');
  t.not(await launcher.finish('wait'), 0);
  t.match(launcher.output, /kernel "rot13": this machine runs auto, .*evp/);
});

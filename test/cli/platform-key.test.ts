// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { parseConfig } from '../../src/config/config.js';
import { run } from '../support/process.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

async function keyFile(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-cli-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return join(dir, 'platform.key');
}

function keyhold(...args: string[]): ReturnType<typeof run> {
  return run(process.execPath, [main, ...args], { env: { NO_COLOR: '' } });
}

void test('platform-key init makes a file for its owner alone', async (t) => {
  const path = await keyFile(t);
  t.equal((await keyhold('platform-key', 'init', path)).status, 0);
  const { size, mode } = await stat(path);
  t.same([size, mode & 0o777], [32, 0o600]);
});

void test('platform-key init prints the lines that the config needs', async (t) => {
  const path = await keyFile(t);
  const { stdout } = await keyhold('platform-key', 'init', path);
  const lines = stdout.slice(stdout.indexOf('[platform_key]'));
  t.same(parseConfig(lines, '/c').platformKey, { kind: 'file', path });
});

void test('platform-key init --json prints id and file', async (t) => {
  const path = await keyFile(t);
  const { stdout } = await keyhold('platform-key', 'init', path, '--json');
  t.match(JSON.parse(stdout), { id: /^[0-9a-f]{32}$/, file: path });
});

void test('platform-key init prints nothing of the key', async (t) => {
  const path = await keyFile(t);
  const { stdout, stderr } = await keyhold('platform-key', 'init', path);
  const key = await readFile(path);
  t.notOk(`${stdout}${stderr}`.includes(key.toString('hex')));
  t.notOk(`${stdout}${stderr}`.includes(key.toString('base64')));
});

void test('platform-key init overwrites nothing', async (t) => {
  const path = await keyFile(t);
  await writeFile(path, 'mine');
  const { status, stderr } = await keyhold('platform-key', 'init', path);
  t.not(status, 0);
  t.match(stderr, /platform\.key.*\[ERR_PLATFORM_KEY_FILE\]\nhint: /);
  t.equal(await readFile(path, 'utf8'), 'mine');
});

void test('platform-key without a command is a usage error', async (t) => {
  t.equal((await keyhold('platform-key')).status, 2);
});

void test('platform-key init without a file is a usage error', async (t) => {
  t.equal((await keyhold('platform-key', 'init')).status, 2);
});

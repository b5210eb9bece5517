// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { endProcess, eventually, run, runOk } from '../support/process.js';

const repository = new URL('../../', import.meta.url).pathname;

void test('the npm package', { timeout: 900_000 }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-npm-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const prefix = join(dir, 'prefix');
  const keyhold = join(prefix, 'bin/keyhold');
  await runOk('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', dir], {
    cwd: repository,
  });
  const [name = ''] = await readdir(dir);
  const all = (await runOk('tar', ['-tzf', join(dir, name)])).split('\n');
  const files = all.filter((path) => !path.startsWith('package/node_modules/'));

  await t.test('holds nothing that was built for this machine, no test and no source map', (t) => {
    t.strictSame(
      files.filter((path) => /\.(node|o|a|map|tgz|deb)$|\/(build|test|fuzz|bench)\//.test(path)),
      [],
    );
    t.end();
  });

  await t.test('holds the versions of other packages that were tested', async (t) => {
    const lock = JSON.parse(await readFile(join(repository, 'package-lock.json'), 'utf8')) as {
      packages: Readonly<Record<string, { dev?: boolean; optional?: boolean }>>;
    };
    const production = Object.entries(lock.packages).filter(
      ([path, { dev }]) => path !== '' && dev !== true,
    );
    const manifest = /^package\/((?:node_modules\/(?:@[^/]+\/)?[^/]+\/?)+)\/package\.json$/;
    const held = all.flatMap((path) => manifest.exec(path)?.[1] ?? []);
    for (const path of held)
      t.ok(
        production.some(([name]) => name === path),
        path,
      );
    // Optional ones are for one kind of machine each.
    for (const [path, { optional }] of production) {
      if (optional !== true) t.ok(held.includes(path), path);
    }
  });

  await t.test('holds every source of the addon', async (t) => {
    const sources = await runOk('git', ['ls-files', 'native/core', 'native/binding'], {
      cwd: repository,
    });
    for (const path of sources.trim().split('\n')) t.ok(files.includes(`package/${path}`), path);
  });

  // Nothing of this folder helps, and no compiler's cache.
  await runOk('npm', ['install', '--global', '--prefix', prefix, join(dir, name)], {
    cwd: dir,
    env: { CMAKE_CXX_COMPILER_LAUNCHER: '' },
    timeoutMs: 800_000,
  });

  await t.test('builds its addon at installation', async (t) => {
    const path = 'lib/node_modules/keyhold/native/build/release/keyhold.node';
    t.ok((await stat(join(prefix, path))).size > 0);
    t.match(await runOk(keyhold, ['--version']), /^\d+\.\d+\.\d+/);
  });

  await t.test('serves a disk with the embedded vault', async (t) => {
    const state = join(dir, 'state');
    const dev = spawn(keyhold, ['dev', '--state', state, '--metrics-port', '0'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => endProcess(dev, 'SIGINT'));
    let output = '';
    dev.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const ended = once(dev, 'exit').then(() => true);
    await eventually('it is ready', () => /^ready$/m.test(output), 60_000);
    const uri = `nbd+unix:///demo?socket=${join(state, 'nbd.sock')}`;
    t.equal(await runOk('nbdinfo', ['--size', uri]), `${2 ** 30}\n`);
    const write = ['-f', 'raw', '-c', 'write -P 0x5a 1M 1M', '-c', 'read -P 0x5a 1M 1M', uri];
    t.match(await runOk('qemu-io', write), /read 1048576\/1048576 bytes/);
    const wrong = await run('qemu-io', ['-f', 'raw', '-c', 'read -P 0x5b 1M 1M', uri]);
    t.match(wrong.stdout, /Pattern verification failed/);
    await endProcess(dev, 'SIGINT');
    t.ok(await ended);
  });
});

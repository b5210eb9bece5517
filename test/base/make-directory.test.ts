// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type Test } from 'tap';
import { makeDirectory } from '../../src/base/make-directory.js';

async function scratch(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-mkdir-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

void test('missing directories are made with the mode, up to the first that exists', async (t) => {
  const root = await scratch(t);
  await makeDirectory(join(root, 'a', 'b'), { mode: 0o700 });
  const modes = await Promise.all(
    ['a', 'a/b'].map(async (part) => (await stat(join(root, part))).mode & 0o777),
  );
  t.same(modes, [0o700, 0o700]);
});

void test('a directory that exists stays as it is, also behind a link', async (t) => {
  const root = await scratch(t);
  await makeDirectory(join(root, 'a'), { mode: 0o755 });
  await symlink(join(root, 'a'), join(root, 'link'));
  await makeDirectory(join(root, 'link'), { mode: 0o700 });
  t.equal((await stat(join(root, 'a'))).mode & 0o777, 0o755);
});

void test('two that make the same directory at once both succeed', async (t) => {
  const path = join(await scratch(t), 'a', 'b', 'c');
  await t.resolves(
    Promise.all([makeDirectory(path, { mode: 0o700 }), makeDirectory(path, { mode: 0o700 })]),
  );
});

void test('a file in the way is an error', async (t) => {
  const path = join(await scratch(t), 'file');
  await writeFile(path, '');
  await t.rejects(makeDirectory(path, { mode: 0o700 }), { code: 'EEXIST' });
  await t.rejects(makeDirectory(join(path, 'below'), { mode: 0o700 }), { code: 'ENOTDIR' });
});

void test('a file system that takes no directories is an error, not an endless loop', async (t) => {
  await t.rejects(makeDirectory('/proc/keyhold/state', { mode: 0o700 }), { code: 'ENOENT' });
});

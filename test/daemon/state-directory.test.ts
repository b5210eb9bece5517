// SPDX-License-Identifier: Apache-2.0
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { openStateDirectory } from '../../src/daemon/state-directory.js';

void test('a second daemon on the same directory is refused', async (t) => {
  const dir = join(t.testdir(), 'state');
  const lock = await openStateDirectory(dir);
  await t.rejects(openStateDirectory(dir), { code: 'ERR_STATE_LOCKED', message: dir });
  await lock.release();
});

void test('the same directory under another name is the same', async (t) => {
  const root = t.testdir();
  const lock = await openStateDirectory(join(root, 'state'));
  await symlink(join(root, 'state'), join(root, 'alias'));
  await t.rejects(openStateDirectory(join(root, 'alias')), { code: 'ERR_STATE_LOCKED' });
  await lock.release();
});

void test('a released directory can be taken again', async (t) => {
  const dir = join(t.testdir(), 'state');
  await (await openStateDirectory(dir)).release();
  await (await openStateDirectory(dir)).release();
});

void test('a directory that cannot be made is named', async (t) => {
  const root = t.testdir();
  await writeFile(join(root, 'file'), '');
  await t.rejects(openStateDirectory(join(root, 'file', 'state')), {
    code: 'ERR_STATE_DIR',
    message: /file\/state/,
  });
});

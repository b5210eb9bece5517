// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { syncDirectory } from '../../src/base/atomic-file.js';

/** A directory, and how many syncs of anything began since. */
async function counted(t: Test): Promise<{ dir: string; syncs: () => number }> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-sync-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const handle = await open(dir, 'r');
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  let syncs = 0;
  // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its own this
  const { sync } = prototype;
  prototype.sync = function (this: FileHandle): Promise<void> {
    syncs += 1;
    return sync.call(this);
  };
  t.teardown(() => {
    prototype.sync = sync;
  });
  return { dir, syncs: () => syncs };
}

void test('a thousand calls at once cost two syncs', async (t) => {
  const { dir, syncs } = await counted(t);
  await Promise.all(Array.from({ length: 1000 }, () => syncDirectory(dir)));
  t.equal(syncs(), 2);
});

void test('a call never shares a sync that began before it', async (t) => {
  const { dir, syncs } = await counted(t);
  const first = syncDirectory(dir);
  const second = syncDirectory(dir);
  t.not(first, second);
  await first;
  t.equal(syncs(), 1);
  await second;
  t.equal(syncs(), 2);
});

void test('calls one after the other each sync', async (t) => {
  const { dir, syncs } = await counted(t);
  await syncDirectory(dir);
  await syncDirectory(dir);
  t.equal(syncs(), 2);
});

void test('a directory that is not there fails for all who asked, and only for them', async (t) => {
  const { dir } = await counted(t);
  const missing = join(dir, 'missing');
  const calls = [syncDirectory(missing), syncDirectory(missing), syncDirectory(missing)];
  for (const call of calls) await t.rejects(call, { code: 'ENOENT' });
  await t.rejects(syncDirectory(missing), { code: 'ENOENT' });
});

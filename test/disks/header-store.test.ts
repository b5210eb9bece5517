// SPDX-License-Identifier: Apache-2.0
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { HeaderStore } from '../../src/disks/header-store.js';
import { platformKeySource } from '../../src/sets/platform.js';
import { type DiskRecord, diskRecordSchema } from '../../src/disks/record.js';
import { DATA_OFFSET_BYTES, HEADER_BYTES } from '../../src/luks2/layout.js';
import type { HeaderMetadata } from '../../src/luks2/metadata.js';
import { FakePlatformKey } from '../support/fake-seal.js';
import { fixedRandom } from '../support/fixed-random.js';
import { World } from '../support/world.js';

interface Subject {
  readonly headers: HeaderStore;
  readonly record: DiskRecord;
  readonly innerOffset: number;
  /** Both copies as they lie in the store. */
  readonly stored: () => Promise<Buffer>;
}

/** A disk that was created and is offline, and a header store of its own. */
async function subject(t: Test, double: boolean): Promise<Subject> {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await world.createSet();
  world.platform = new FakePlatformKey();
  Object.assign(world.sets.get('s').record, { double });
  await world.createDisk();
  const json = await readFile(join(world.stateDir, 'disks', 'd.json'), 'utf8');
  const record = diskRecordSchema.parse(JSON.parse(json));
  const headers = new HeaderStore({
    random: fixedRandom(),
    plane: world.plane,
    platform: platformKeySource(world.platform),
  });
  const innerOffset = double ? DATA_OFFSET_BYTES : 0;
  const stored = async (): Promise<Buffer> =>
    (await readFile(record.store.path)).subarray(innerOffset, innerOffset + 2 * HEADER_BYTES);
  return { headers, record, innerOffset, stored };
}

function renamed(metadata: HeaderMetadata): HeaderMetadata {
  return { ...metadata, token: { ...metadata.token, diskName: 'renamed' } };
}

for (const double of [false, true]) {
  const what = double ? 'two layers' : 'one layer';

  void test(`${what}: a change is read back`, async (t) => {
    const { headers, record } = await subject(t, double);
    const before = await headers.read(record);
    await headers.update(record, renamed);
    t.strictSame(await headers.read(record), renamed(before));
  });

  void test(`${what}: a change writes both copies`, async (t) => {
    const { headers, record, innerOffset } = await subject(t, double);
    await headers.update(record, renamed);
    const file = await open(record.store.path, 'r+');
    await file.write(Buffer.alloc(64), 0, 64, innerOffset);
    await file.close();
    t.equal((await headers.read(record)).token.diskName, 'renamed', 'from the secondary alone');
  });

  void test(`${what}: when the change throws the header is as it was`, async (t) => {
    const { headers, record, stored } = await subject(t, double);
    const before = await stored();
    const refuse = (): never => {
      throw new Error('no');
    };
    await t.rejects(headers.update(record, refuse), /no/);
    t.ok(before.equals(await stored()));
  });

  void test(`${what}: a change that no header can hold leaves it as it was`, async (t) => {
    const { headers, record, stored } = await subject(t, double);
    const before = await stored();
    const empty = (metadata: HeaderMetadata): HeaderMetadata => ({
      ...metadata,
      token: { ...metadata.token, wrappedSetKeys: [] },
    });
    await t.rejects(headers.update(record, empty), { code: 'ERR_LUKS2_METADATA' });
    t.ok(before.equals(await stored()));
  });

  void test(`${what}: reading repairs nothing`, async (t) => {
    const { headers, record, innerOffset, stored } = await subject(t, double);
    const file = await open(record.store.path, 'r+');
    await file.write(Buffer.from('damage'), 0, 6, innerOffset + 100);
    await file.close();
    const before = await stored();
    await headers.read(record);
    t.ok(before.equals(await stored()));
  });

  void test(`${what}: a store that is gone is ERR_STORE_READ`, async (t) => {
    const { headers, record } = await subject(t, double);
    const gone = { ...record, store: { ...record.store, path: `${record.store.path}.gone` } };
    await t.rejects(headers.update(gone, renamed), { code: 'ERR_STORE_READ' });
  });
}

// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dekOf, HeaderStore } from '../../src/disks/header-store.js';
import { type DiskRecord, diskRecordSchema } from '../../src/disks/record.js';
import type { HeaderMetadata } from '../../src/luks2/metadata.js';
import { encodeSetKeyAad } from '../../src/luks2/set-key-aad.js';
import { type SetRecord, setRecordSchema } from '../../src/sets/record.js';
import { type FakePlatformKey, openFakeDek, unseal } from './fake-seal.js';
import { fixedRandom } from './fixed-random.js';
import type { World } from './world.js';

/** What a crash at this moment would leave, opened with every key there is. */
export interface Durable {
  /** By id. */
  readonly sets: ReadonlyMap<string, SetRecord>;
  readonly disks: ReadonlyArray<{
    readonly record: DiskRecord;
    /** Undefined when the store is away, or was erased. */
    readonly header: HeaderMetadata | undefined;
    /** One for each wrapped set key in the header. */
    readonly setKeys: readonly Buffer[];
    readonly dek: Buffer | undefined;
  }>;
}

export async function readDurable(world: World, platformKey: FakePlatformKey): Promise<Durable> {
  const sets = await readRecords(join(world.stateDir, 'sets'), (value) =>
    setRecordSchema.parse(value),
  );
  const records = await readRecords(join(world.stateDir, 'disks'), (value) =>
    diskRecordSchema.parse(value),
  );
  const headers = new HeaderStore({
    random: fixedRandom(),
    platform: () => platformKey,
    plane: world.plane,
  });
  const disks = await Promise.all(
    records.map(async (record) => {
      const header = await headers.read(record).catch(() => undefined);
      const setKeys = header === undefined ? [] : setKeysOf(world, header, platformKey);
      return { record, header, setKeys, dek: dekIn(header, setKeys[0]) };
    }),
  );
  return { sets: new Map(sets.map((set) => [set.id, set])), disks };
}

async function readRecords<T>(directory: string, parse: (value: unknown) => T): Promise<T[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith('.json'));
  return Promise.all(
    files.map(async (file) => parse(JSON.parse(await readFile(join(directory, file), 'utf8')))),
  );
}

function setKeysOf(
  world: World,
  { token }: HeaderMetadata,
  platformKey: FakePlatformKey,
): Buffer[] {
  const { set, setKeyGeneration } = token;
  const aad = encodeSetKeyAad({ purpose: 'platform', setId: set.id, setKeyGeneration });
  return token.wrappedSetKeys.map(({ alg, value }) => {
    if (alg === 'RSA-OAEP-256') return world.vault.reveal(value);
    const bytes = Buffer.from(value);
    const sealed = {
      nonce: bytes.subarray(0, 12),
      ciphertext: bytes.subarray(12, -16),
      tag: bytes.subarray(-16),
    };
    return unseal(platformKey.bytes, sealed, aad) ?? Buffer.of();
  });
}

function dekIn(header: HeaderMetadata | undefined, key: Buffer | undefined): Buffer | undefined {
  if (header === undefined || key === undefined) return undefined;
  try {
    return openFakeDek(key, dekOf(header));
  } catch {
    return undefined;
  }
}

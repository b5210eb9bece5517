// SPDX-License-Identifier: Apache-2.0
import { createHash, randomBytes } from 'node:crypto';
import { copyFile, open, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { HeaderStore } from '../../src/disks/header-store.js';
import { encodeDekAad, encodeOuterDekAad } from '../../src/luks2/dek-aad.js';
import type { HeaderMetadata, OuterHeaderMetadata } from '../../src/luks2/metadata.js';
import { fixedRandom } from '../support/fixed-random.js';
import { Guest } from '../support/vm/guest.js';
import {
  addon,
  createPlatformKeyFile,
  digestDek,
  knownSetKey,
  MIB,
  Rig,
  sealDek,
} from '../dataplane/rig.js';

const DISK_UUID = '6fa459ea-ee8a-4ca4-894e-db77e160355e';
const INNER_UUID = '1b4e28ba-2fa1-11d2-883f-0016d3cca427';
const SET_UUID = '886313e1-3b8a-4372-9b90-0c9aee199e5d';
const SIZE_BYTES = 8 * MIB;
const DATA_OFFSET_BYTES = 32 * MIB;

/** A disk that is encrypted twice, without the hole rule, and the two DEKs. */
async function doubleDisk(rig: Rig) {
  const keyFile = join(rig.dir, 'platform.key');
  const platform = createPlatformKeyFile(addon, keyFile);
  const [setKeyBytes, innerDek, outerDek] = [randomBytes(32), randomBytes(64), randomBytes(64)];
  const generations = { setKeyGeneration: 1, dekGeneration: 1 };
  const aad = encodeDekAad({ diskUuid: DISK_UUID, setId: SET_UUID, ...generations });
  const outerAad = encodeOuterDekAad({ diskUuid: DISK_UUID, dekGeneration: 1 });
  const inner = { sealed: sealDek(setKeyBytes, innerDek, aad), aad, digest: digestDek(innerDek) };
  const outer = {
    sealed: sealDek(await readFile(keyFile), outerDek, outerAad),
    aad: outerAad,
    digest: digestDek(outerDek),
  };
  const container = { label: 'demo', sectorSizeBytes: 4096, holes: false } as const;
  const disk = { version: 1, diskUuid: DISK_UUID, diskName: 'demo', dekGeneration: 1 } as const;
  const metadata: HeaderMetadata = {
    ...container,
    uuid: INNER_UUID,
    digest: inner.digest,
    token: {
      ...disk,
      set: { id: SET_UUID, name: 's' },
      setKeyGeneration: 1,
      wrappedSetKeys: [
        { kid: 'https://v/keys/k/1', alg: 'RSA-OAEP-256', value: new Uint8Array(256) },
      ],
      sealedDek: inner.sealed,
    },
  };
  const outerMetadata: OuterHeaderMetadata = {
    ...container,
    uuid: DISK_UUID,
    digest: outer.digest,
    token: { ...disk, layer: 'outer', platformKeyId: platform.id, sealedDek: outer.sealed },
  };
  const headers = new HeaderStore({
    random: fixedRandom(),
    plane: rig.plane,
    platform: () => platform,
  });
  const setKey = await knownSetKey(setKeyBytes);
  return { headers, metadata, outerMetadata, platform, setKey, inner, outer, innerDek, outerDek };
}

void test('the kernel opens a disk that is encrypted twice, one container in the other', async (t) => {
  const rig = await Rig.start(t, { shards: 1 });
  const made = await doubleDisk(rig);
  const storePath = join(rig.dir, 'double.img');
  const file = await open(storePath, 'w+');
  await truncate(storePath, DATA_OFFSET_BYTES + SIZE_BYTES);
  await made.headers.create(file, { metadata: made.metadata, outer: made.outerMetadata });
  await file.close();

  const served = await rig.serve('d', {
    locked: true,
    sizeBytes: SIZE_BYTES,
    sectorSizeBytes: 4096,
    dataOffsetBytes: DATA_OFFSET_BYTES,
    storePath,
  });
  served.disk.unlock(made.setKey, made.inner, { platform: made.platform, dek: made.outer });
  const client = await rig.client(rig.listen(), 'd');
  const plaintext = randomBytes(SIZE_BYTES);
  for (let at = 0; at < SIZE_BYTES; at += MIB) {
    await client.write(at, plaintext.subarray(at, at + MIB));
  }
  await client.flush();
  client.destroy();

  const image = join(rig.dir, 'guest.img'); // the store itself is locked while the disk is open
  await copyFile(storePath, image);
  const guest = await Guest.boot({
    modules: ['dm_crypt', 'xts'],
    programs: ['cryptsetup'],
    drives: [image],
  });
  t.teardown(() => guest.stop());
  await guest.ok(`
    export DM_DISABLE_UDEV=1
    mkdir -p /run/cryptsetup
    echo ${made.outerDek.toString('base64')} | base64 -d > /tmp/outer
    echo ${made.innerDek.toString('base64')} | base64 -d > /tmp/inner
    cryptsetup open --type luks2 -s 512 --volume-key-file /tmp/outer /dev/vda outer
    cryptsetup open --type luks2 -s 512 --volume-key-file /tmp/inner /dev/mapper/outer inner
  `);
  const [sum = ''] = (await guest.ok('sha256sum < /dev/mapper/inner')).split(' ');
  t.equal(sum.trim(), createHash('sha256').update(plaintext).digest('hex'));
  const swapped = await guest.run(
    'cryptsetup open --type luks2 -s 512 --volume-key-file /tmp/inner /dev/vda wrong',
  );
  t.not(swapped.status, 0, 'the inner DEK does not open the outer container');
});

// SPDX-License-Identifier: Apache-2.0
import { pbkdf2Sync, randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { test } from 'tap';
import { decodeHeaderPair } from '../../src/luks2/header-pair.js';
import type { DecodedHeaderPair } from '../../src/luks2/header-pair.js';
import { DATA_OFFSET_BYTES, HEADER_BYTES, KEYSLOTS_BYTES } from '../../src/luks2/layout.js';
import type { HeaderMetadata } from '../../src/luks2/metadata.js';
import { run as runProcess } from '../support/process.js';
import { encode, filled, jsonOf, patched, SAMPLE } from './sample.js';

/*
 * cryptsetup and blkid as outside readers and writers of the header. They work on plain files; only
 * `cryptsetup open` without --test-passphrase needs the kernel's device-mapper, and is not used
 * here.
 */

interface Outcome {
  readonly status: number | null;
  readonly output: string;
}

async function run(command: string, ...args: string[]): Promise<Outcome> {
  const { status, stdout, stderr } = await runProcess(command, args);
  return { status, output: `${stdout}${stderr}` };
}

async function directory(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'keyhold-luks2-'));
  t.teardown(() => rm(path, { recursive: true }));
  return path;
}

/** Paths of a store with the sample's header, and of a file with the DEK that its digest is for. */
async function store(t: Test, changes: Partial<HeaderMetadata>): Promise<[string, string]> {
  const path = await directory(t);
  const dek = randomBytes(64);
  const salt = randomBytes(32);
  const digest = { salt, iterations: 1000, digest: pbkdf2Sync(dek, salt, 1000, 32, 'sha256') };
  const { primary, secondary } = encode({ ...SAMPLE, digest, ...changes }, 4);
  const image = Buffer.alloc(DATA_OFFSET_BYTES + 4096);
  image.set(primary, 0);
  image.set(secondary, HEADER_BYTES);
  await writeFile(join(path, 'store'), image);
  await writeFile(join(path, 'key'), dek);
  return [join(path, 'store'), join(path, 'key')];
}

async function decode(path: string): Promise<DecodedHeaderPair> {
  const image = await readFile(path);
  return decodeHeaderPair(
    image.subarray(0, HEADER_BYTES),
    image.subarray(HEADER_BYTES, 2 * HEADER_BYTES),
  );
}

async function overwrite(path: string, offset: number, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, offset);
  await file.close();
}

for (const holes of [true, false]) {
  for (const sectorSizeBytes of [512, 4096] as const) {
    void test(`luksDump reads a header: holes ${holes}, sectors of ${sectorSizeBytes}`, async (t) => {
      const [path] = await store(t, { holes, sectorSizeBytes });
      const dump = await run('cryptsetup', 'luksDump', path);
      t.equal(dump.status, 0);
      t.match(dump.output, /UUID:\s+1b4e28ba-2fa1-11d2-883f-0016d3cca427/);
      t.match(dump.output, /Label:\s+demo\nSubsystem:\s+keyhold/);
      t.match(dump.output, new RegExp(`Keyslots area:\\s+${KEYSLOTS_BYTES} \\[bytes\\]`));
      t.match(dump.output, /offset: 16777216 \[bytes\]/);
      t.match(dump.output, new RegExp(`sector: ${sectorSizeBytes} \\[bytes\\]`));
      t.match(dump.output, /Tokens:\n\s+0: keyhold/);
      t.equal(/Requirements:\s+keyhold-holes/.test(dump.output), holes);
    });
  }
}

void test('luksDump prints the JSON that was written', async (t) => {
  const [path] = await store(t, {});
  const dump = await run('cryptsetup', 'luksDump', '--dump-json-metadata', path);
  t.strictSame(JSON.parse(dump.output), jsonOf((await readFile(path)).subarray(0, HEADER_BYTES)));
});

void test('token export gives the keyhold token', async (t) => {
  const [path] = await store(t, {});
  const exported = await run('cryptsetup', 'token', 'export', '--token-id', '0', path);
  t.match(JSON.parse(exported.output), {
    type: 'keyhold',
    diskName: 'demo',
    set: { name: 'prod' },
  });
});

void test('blkid knows uuid, label and subsystem', async (t) => {
  const [path] = await store(t, {});
  const { output } = await run('blkid', '-p', '-o', 'export', path);
  t.match(output, /^VERSION=2$/m);
  t.match(output, /^UUID=1b4e28ba-2fa1-11d2-883f-0016d3cca427$/m);
  t.match(output, /^LABEL=demo$/m);
  t.match(output, /^SUBSYSTEM=keyhold$/m);
  t.match(output, /^TYPE=crypto_LUKS$/m);
});

void test('a longest label of several-byte characters is read by blkid', async (t) => {
  const label = `${'é'.repeat(23)}x`;
  const [path] = await store(t, { label });
  const { output } = await run('blkid', '-p', '-o', 'value', '-s', 'LABEL', path);
  t.equal(output.trim(), label);
});

void test('luksHeaderBackup saves the whole header', async (t) => {
  const [path] = await store(t, {});
  const backup = `${path}.backup`;
  const saved = await run('cryptsetup', 'luksHeaderBackup', '--header-backup-file', backup, path);
  t.equal(saved.status, 0, saved.output);
  const [original, copy] = await Promise.all([readFile(path), readFile(backup)]);
  t.ok(copy.equals(original.subarray(0, DATA_OFFSET_BYTES)));
});

function openWith(path: string, key: string): Promise<Outcome> {
  const keyOptions = ['-s', '512', '--volume-key-file', key];
  return run('cryptsetup', 'open', '--test-passphrase', '--type', 'luks2', ...keyOptions, path);
}

void test('cryptsetup takes the DEK of a dm-crypt compatible disk by its digest', async (t) => {
  const [path, key] = await store(t, { holes: false });
  t.equal((await openWith(path, key)).status, 0);
});

void test('cryptsetup refuses another DEK by the digest', async (t) => {
  const [path, key] = await store(t, { holes: false });
  await writeFile(key, randomBytes(64));
  t.match(await openWith(path, key), { status: 2, output: /does not match the volume/ });
});

void test('cryptsetup refuses to change a disk with holes', async (t) => {
  const [path] = await store(t, { holes: true });
  const before = await readFile(path);
  const changed = await run('cryptsetup', 'config', '--label', 'other', path);
  t.match(changed, { status: 1, output: /Unmet LUKS2 requirements/ });
  t.ok((await readFile(path)).equals(before));
});

void test('cryptsetup changes a disk without holes and Keyhold reads the change', async (t) => {
  const [path] = await store(t, { holes: false });
  t.equal((await run('cryptsetup', 'config', '--label', 'other', path)).status, 0);
  const decoded = await decode(path);
  t.equal(decoded.metadata.label, 'other');
  t.equal(decoded.repair, 'none');
  t.ok(decoded.seqid > 4);
});

for (const [copy, offset] of [
  ['primary', 0],
  ['secondary', HEADER_BYTES],
] as const) {
  void test(`cryptsetup repair mends a damaged ${copy} copy the same way`, async (t) => {
    const [path] = await store(t, { holes: false });
    await overwrite(path, offset + 5000, filled(8, 0xff));
    t.equal((await decode(path)).repair, copy);
    const repaired = await run('cryptsetup', 'repair', '-q', path);
    t.equal(repaired.status, 0, repaired.output);
    const after = await decode(path);
    t.equal(after.repair, 'none');
    t.strictSame(after.metadata.token, SAMPLE.token);
  });

  void test(`cryptsetup and Keyhold agree which copy wins: ${copy} newer`, async (t) => {
    const [path] = await store(t, { holes: false });
    const newer = encode({ ...(await decode(path)).metadata, label: 'newer' }, 5);
    await overwrite(path, offset, newer[copy]);
    const label = (await decode(path)).metadata.label;
    const dump = await run('cryptsetup', 'luksDump', path);
    t.equal(label, 'newer');
    t.match(dump.output, /Label:\s+newer/);
  });
}

void test('cryptsetup, too, refuses a header whose copies are both damaged', async (t) => {
  const [path] = await store(t, {});
  await overwrite(path, 5000, filled(8, 0xff));
  await overwrite(path, HEADER_BYTES + 5000, filled(8, 0xff));
  t.not((await run('cryptsetup', 'luksDump', path)).status, 0);
  await t.rejects(decode(path), { code: 'ERR_LUKS2_DAMAGED' });
});

async function formatted(t: Test, ...options: string[]): Promise<string> {
  const path = join(await directory(t), 'store');
  const secret = `${path}.secret`;
  await writeFile(path, Buffer.alloc(0));
  await truncate(path, 40 * 1024 * 1024);
  await writeFile(secret, 'passphrase');
  const cheap = ['--pbkdf-force-iterations', '1000'];
  const result = await run('cryptsetup', 'luksFormat', '-q', ...options, ...cheap, path, secret);
  if (result.status !== 0) throw new Error(`cryptsetup luksFormat failed: ${result.output}`);
  return path;
}

const luks2 = ['--type', 'luks2', '--pbkdf', 'pbkdf2'];

void test('a container that cryptsetup made is read up to "no keyhold token"', async (t) => {
  const path = await formatted(t, ...luks2, '--sector-size', '4096');
  await t.rejects(decode(path), {
    code: 'ERR_LUKS2_NOT_KEYHOLD',
    message: /token types are \[\], expected "keyhold"/,
  });
});

void test('a container with larger metadata is called no Keyhold disk', async (t) => {
  const path = await formatted(t, ...luks2, '--luks2-metadata-size', '64k');
  await t.rejects(decode(path), {
    code: 'ERR_LUKS2_NOT_KEYHOLD',
    message: /hdr_size is 65536, Keyhold writes 16384/,
  });
});

void test('a LUKS1 container is refused by its version', async (t) => {
  const path = await formatted(t, '--type', 'luks1');
  await t.rejects(decode(path), { code: 'ERR_LUKS2_VERSION', message: /is 1, expected 2/ });
});

void test('a flipped bit in a container that cryptsetup made is damage, not a foreigner', async (t) => {
  const path = await formatted(t, ...luks2);
  const image = await readFile(path);
  const primary = patched(image.subarray(0, HEADER_BYTES), 4097, filled(1, 0));
  const secondary = patched(image.subarray(HEADER_BYTES, 2 * HEADER_BYTES), 4097, filled(1, 0));
  t.throws(() => decodeHeaderPair(primary, secondary), { code: 'ERR_LUKS2_DAMAGED' });
});

// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { findInCore, findInMemory, type Needle, searchFile } from '../support/core-dump.js';
import { findAnywhere, needlesOf, passMarker } from '../support/daemon-memory.js';
import { expandAes256 } from '../support/dek-oracle.js';
import { eventually } from '../support/process.js';
import { Stack } from '../support/stack.js';

void test('the key expansion of this test is that of FIPS 197, appendix A.3', (t) => {
  const key = Buffer.from(
    '603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4',
    'hex',
  );
  t.equal(expandAes256(key)[14]?.toString('hex'), 'fe4890d1e6188d0b046df344706c631e');
  t.end();
});

void test('the search finds a needle across the border of two pieces', async (t) => {
  const dir = t.testdir();
  const needle = { name: 'x', bytes: randomBytes(32) };
  const border = 16 * 1024 * 1024 + 256;
  await writeFile(join(dir, 'f'), Buffer.concat([Buffer.alloc(border - 7), needle.bytes]));
  t.strictSame((await searchFile(join(dir, 'f'), [needle])).found, ['x']);
});

void test('the search finds a needle after zeros, and one that begins with them', async (t) => {
  const dir = t.testdir();
  const bytes = Buffer.concat([Buffer.alloc(8), randomBytes(24)]);
  for (const at of [0, 1, 4095, 4096, 4096 + 250, 8192 - 4, 3 * 4096]) {
    const zeros = Buffer.alloc(at);
    await writeFile(join(dir, 'f'), Buffer.concat([zeros, bytes, Buffer.alloc(5000)]));
    t.strictSame((await searchFile(join(dir, 'f'), [{ name: 'x', bytes }])).found, ['x'], `${at}`);
  }
});

void test('keys and plaintext in the memory of the daemon', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const setArgs = ['--probe-interval', '1s', '--lease', '8s', '--suspend-timeout', '120s'];
  await stack.createDisk({ name: 'secret', setArgs, size: '8M' });
  const keys = await needlesOf(stack, 'secret');
  const marker = { name: 'plaintext', bytes: randomBytes(64) };

  // In ordinary memory: without it an empty result would prove nothing.
  const control = { name: 'control', bytes: Buffer.from((await stack.disk('secret')).uuid) };
  const inMemory = (...needles: readonly Needle[]): Promise<string[]> =>
    findAnywhere(stack, (pid) => findInMemory(pid, [control, ...needles]));
  /** The second opinion. One is enough: it is gigabytes long, and freezes the daemon meanwhile. */
  const inDump = (...needles: readonly Needle[]): Promise<string[]> =>
    findAnywhere(stack, (pid) => findInCore(pid, [control, ...needles], stack.dir));

  await t.test('online, under no load: no key outside secret memory', async (t) => {
    await passMarker(stack, 'secret', marker.bytes);
    t.strictSame(await inMemory(...keys), ['control']);
    t.strictSame(await inDump(...keys), ['control']);
  });

  await t.test('offline: no key, no round key, no plaintext', async (t) => {
    await passMarker(stack, 'secret', marker.bytes);
    await stack.ok('vault', 'disable', 'secret-key');
    await eventually('offline', async () => (await stack.disk('secret')).state === 'offline');
    t.strictSame(await inMemory(...keys, marker), ['control']);
    await stack.ok('vault', 'enable', 'secret-key');
    await eventually('online', async () => (await stack.disk('secret')).state === 'online');
  });

  await t.test('suspended: no key, no round key, no plaintext', async (t) => {
    await passMarker(stack, 'secret', marker.bytes);
    await stack.ok('vault', 'trouble', 'hang');
    await eventually('suspended', async () => (await stack.disk('secret')).state === 'suspended');
    t.strictSame(await inMemory(...keys, marker), ['control']);
    await stack.ok('vault', 'trouble', 'none');
    await eventually('online', async () => (await stack.disk('secret')).state === 'online');
  });
});

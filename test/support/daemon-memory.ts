// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { keyNeedles, type Needle } from './core-dump.js';
import { openDoubleStore, openStore } from './dek-oracle.js';
import { eventually, run, runOk } from './process.js';
import type { Stack } from './stack.js';

type Find = (pid: number) => Promise<{ found: string[] }>;

/** Looks into the daemon and whatever children it has at this moment. */
export async function findAnywhere(stack: Stack, find: Find): Promise<string[]> {
  const daemon = await stack.daemonPid();
  const children = (await run('pgrep', ['-P', String(daemon)])).stdout.split('\n').filter(Boolean);
  const { found } = await find(daemon);
  for (const pid of children.map(Number)) {
    try {
      found.push(...(await find(pid)).found);
    } catch (error) {
      if (isAlive(pid)) throw error; // a helper that has ended holds nothing
    }
  }
  return found;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/**
 * Writes 4 MiB full of a marker and reads it back, on two connections. A dump before it may have
 * frozen the daemon for longer than the lease; the disk is back as soon as a probe is answered.
 */
export async function passMarker(stack: Stack, disk: string, marker: Buffer): Promise<void> {
  await eventually('online', async () => (await stack.disk(disk)).state === 'online');
  const path = join(stack.dir, 'marker');
  await writeFile(path, Buffer.concat(Array.from({ length: 65_536 }, () => marker)));
  await runOk('nbdcopy', ['-C', '2', path, stack.uri(disk)]);
  await runOk('nbdcopy', ['-C', '2', stack.uri(disk), 'null:']);
}

/** Everything by which the set key and the DEK of a disk could be found. */
export async function needlesOf(stack: Stack, disk: string): Promise<Needle[]> {
  const { dek, setKey } = await openStore(stack, (await stack.disk(disk)).store);
  return [...dekNeedles('DEK', dek), ...keyNeedles('set key', setKey)];
}

/** The same of a disk that is encrypted twice, and the platform key. */
export async function needlesOfDouble(
  stack: Stack,
  disk: string,
  platformKey: Buffer,
): Promise<Needle[]> {
  const { store } = await stack.disk(disk);
  const keys = await openDoubleStore(stack, store, { platformKey, dir: stack.dir });
  return [
    ...dekNeedles('inner DEK', keys.innerDek),
    ...dekNeedles('outer DEK', keys.outerDek),
    ...keyNeedles('set key', keys.setKey),
    ...keyNeedles('platform key', platformKey),
  ];
}

function dekNeedles(name: string, dek: Buffer): Needle[] {
  return [
    ...keyNeedles(`${name} data key`, dek.subarray(0, 32)),
    ...keyNeedles(`${name} tweak key`, dek.subarray(32)),
  ];
}

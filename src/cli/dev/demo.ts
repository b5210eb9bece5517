// SPDX-License-Identifier: Apache-2.0
import { setTimeout as delay } from 'node:timers/promises';
import type { DiskView } from '../../admin/api.js';
import type { AdminClient } from '../../admin/client.js';
import { KeyholdError } from '../../base/errors.js';
import type { DevVaultClient } from '../../devvault/control-client.js';
import { stateOf } from '../views/disk.js';

export const DEMO_KEY = 'demo-key';
export const DEMO_SET = 'demo';
export const DEMO_DISK = 'demo';
export const DEMO_IDENTITY = 'dev';
const DEMO_SIZE_BYTES = 2 ** 30;

const POLL_MS = 250;
/** A disk that is not online by then gets a line that says why. */
const PATIENCE_MS = 3000;
/** On a starved machine the daemon gives up on the vault, which answers all the same: next time. */
const RETRY_MS = 1000;
const CREATE_MS_MAX = 30_000;

export interface DemoOptions {
  readonly admin: AdminClient;
  readonly vault: DevVaultClient;
  readonly signal: AbortSignal;
  readonly note: (line: string) => void;
  /** After that a creation that fails is not tried again. */
  readonly createMsMax?: number | undefined;
}

/**
 * Makes what is missing of the demo's key and set, through the same interfaces as anybody's. A set
 * that exists is left as it is, even when its key is disabled or deleted just now.
 */
export async function ensureDemoSet(options: DemoOptions): Promise<void> {
  await untilAnswered(`set ${DEMO_SET}`, options, () => createMissingSet(options));
}

async function createMissingSet({ admin, vault, note }: DemoOptions): Promise<void> {
  if ((await unlessMissing(() => admin.showSet(DEMO_SET))) !== undefined) return;
  let key = await unlessMissing(() => vault.key(DEMO_KEY));
  if (key === undefined) {
    note(`creating key ${DEMO_KEY} in the embedded vault`);
    key = await vault.createKey({ name: DEMO_KEY });
  }
  note(`creating set ${DEMO_SET}`);
  await admin.createSet({
    name: DEMO_SET,
    keyUrl: key.id,
    identity: DEMO_IDENTITY,
    mode: 'immediate',
  });
}

/**
 * Makes the demo's disk if it is missing and resolves when it is online. With its key disabled that
 * lasts until the key is enabled again.
 */
export async function serveDemoDisk(options: DemoOptions): Promise<void> {
  const { admin, signal, note } = options;
  await untilAnswered(`disk ${DEMO_DISK}`, options, () => createMissingDisk(options));
  const startedMs = performance.now();
  let said = false;
  for (;;) {
    const disk = await attachIfDetached(admin);
    if (disk.state === 'online') return;
    if (!said && performance.now() - startedMs > PATIENCE_MS) {
      said = true;
      note(`disk ${DEMO_DISK} is ${stateOf(disk)}: ${disk.message ?? 'waiting for it'}`);
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

async function createMissingDisk({ admin, note }: DemoOptions): Promise<void> {
  if ((await unlessMissing(() => admin.showDisk(DEMO_DISK))) !== undefined) return;
  note(`creating disk ${DEMO_DISK}`);
  await admin.createDisk({ name: DEMO_DISK, set: DEMO_SET, sizeBytes: DEMO_SIZE_BYTES });
}

/**
 * Calls `create` until it is done or fails for another reason than that somebody did not answer in
 * time. It must look first whether the object is there: a call whose answer came too late was not
 * in vain.
 */
async function untilAnswered(
  what: string,
  { signal, note, createMsMax = CREATE_MS_MAX }: DemoOptions,
  create: () => Promise<void>,
): Promise<void> {
  const startedMs = performance.now();
  for (;;) {
    try {
      await create();
      return;
    } catch (error) {
      const maybeLater = error instanceof KeyholdError && error.kind === 'unavailable';
      if (!maybeLater || performance.now() - startedMs > createMsMax) throw error;
      note(`${what} is not there yet, trying again: ${error.message}`);
    }
    await delay(RETRY_MS, undefined, { signal });
  }
}

async function attachIfDetached(admin: AdminClient): Promise<DiskView> {
  const disk = await admin.showDisk(DEMO_DISK);
  if (disk.attached) return disk;
  try {
    return await admin.attachDisk(DEMO_DISK);
  } catch (error) {
    const kind = error instanceof KeyholdError ? error.kind : 'internal';
    // Refused now, maybe not later: the vault, which is ours, must run on so that it can be.
    if (kind === 'key-inaccessible' || kind === 'unavailable') return disk;
    throw error;
  }
}

async function unlessMissing<T>(get: () => Promise<T>): Promise<T | undefined> {
  try {
    return await get();
  } catch (error) {
    if (error instanceof KeyholdError && error.kind === 'not-found') return undefined;
    throw error;
  }
}

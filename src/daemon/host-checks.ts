// SPDX-License-Identifier: Apache-2.0
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Check, failed, passed, warned } from '../base/check.js';
import { messageOf } from '../base/errors.js';

/** What 10,000 disks lock (docs/ARCHITECTURE.md, "Many disks"), with room for set keys. */
const LOCKED_BYTES_COMFORTABLE = 8 * 2 ** 20;
/** One mapping of keys with its neighbours; below it the first disk cannot have its key. */
const LOCKED_BYTES_MIN = 256 * 1024;
/** CAP_IPC_LOCK, linux/capability.h: its holder locks without a limit. */
const CAP_IPC_LOCK = 14n;

export interface HostFacts {
  /** `/proc`; tests hand in another. */
  readonly procDirectory: string;
  /** `/sys`. */
  readonly sysDirectory: string;
  readonly stateDir: string;
  readonly daemonUid: number;
  readonly memfdSecret: boolean;
  readonly engine: { readonly name: string; readonly why: string; readonly fallback: boolean };
  readonly shards: { readonly total: number; readonly alive: number };
}

/** What this machine must be for keys and data to be safe in it. Changes nothing. */
export function checkHost(facts: HostFacts): Check[] {
  return [
    guarded('locked-memory', () => checkLockedMemory(facts)),
    guarded('core-dumps', () => checkCoreDumps(facts)),
    checkSecretMemory(facts),
    guarded('swap', () => checkSwap(facts)),
    checkEngine(facts),
    guarded('state-directory', () => checkStateDirectory(facts)),
  ];
}

/** A host that does not tell is no reason to say nothing about the rest. */
function guarded(id: string, look: () => Check): Check {
  try {
    return look();
  } catch (error) {
    return warned(id, 'Unreadable', `cannot be looked at: ${messageOf(error)}`);
  }
}

function checkLockedMemory({ procDirectory }: HostFacts): Check {
  const id = 'locked-memory';
  const limitBytes = softLimit(procDirectory, 'Max locked memory');
  const status = readFileSync(join(procDirectory, 'self', 'status'), 'utf8');
  const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  if (((capabilities >> CAP_IPC_LOCK) & 1n) === 1n) {
    return passed(id, 'no limit, by CAP_IPC_LOCK', { capability: true });
  }
  if (limitBytes === Number.POSITIVE_INFINITY) return passed(id, 'no limit');
  const facts = { limitBytes };
  const both = `RLIMIT_MEMLOCK is ${limitBytes} bytes, expected at least`;
  if (limitBytes < LOCKED_BYTES_MIN) {
    const message = `${both} ${LOCKED_BYTES_MIN}`;
    return failed(id, { code: 'LockedMemoryLimit', kind: 'unavailable', message }, facts);
  }
  return limitBytes < LOCKED_BYTES_COMFORTABLE
    ? warned(id, 'LockedMemoryLimit', `${both} ${LOCKED_BYTES_COMFORTABLE}`, facts)
    : passed(id, `at most ${limitBytes} bytes`, facts);
}

function checkCoreDumps({ procDirectory }: HostFacts): Check {
  const limitBytes = softLimit(procDirectory, 'Max core file size');
  if (limitBytes === 0) return passed('core-dumps', 'off');
  const message = `RLIMIT_CORE is ${limitBytes}, expected 0`;
  return failed('core-dumps', { code: 'CoreDumps', kind: 'unavailable', message });
}

function checkSecretMemory({ memfdSecret }: HostFacts): Check {
  const facts = { kind: memfdSecret ? 'memfd_secret' : 'mlock' };
  if (memfdSecret) return passed('secret-memory', 'memfd_secret', facts);
  const message = 'mlock: whoever may trace this process can read keys, expected memfd_secret';
  return warned('secret-memory', 'NoMemfdSecret', message, facts);
}

/** Keys are locked in either kind of memory; the buffers that data passes through are not. */
function checkSwap({ procDirectory, sysDirectory }: HostFacts): Check {
  const lines = readFileSync(join(procDirectory, 'swaps'), 'utf8').split('\n').slice(1);
  const devices = lines.map((line) => line.split(/\s+/)[0] ?? '').filter((name) => name !== '');
  if (devices.length === 0) return passed('swap', 'off');
  const open = devices.filter((device) => !isSafeSwap(device, sysDirectory));
  if (open.length === 0) return passed('swap', 'in memory or encrypted', { devices });
  const message =
    `${open.join(', ')} is not encrypted: keys are locked in memory, but buffers that data ` +
    'passes through may be written there';
  return warned('swap', 'SwapInClear', message, { devices: open });
}

/** Compressed memory, or a dm-crypt device. */
function isSafeSwap(device: string, sysDirectory: string): boolean {
  try {
    const name = basename(realpathSync(device));
    if (/^zram\d+$/.test(name)) return true;
    const path = join(sysDirectory, 'class', 'block', name, 'dm', 'uuid');
    return readFileSync(path, 'utf8').startsWith('CRYPT-');
  } catch {
    return /^\/dev\/zram\d+$/.test(device);
  }
}

function checkEngine({ engine, shards }: HostFacts): Check {
  const { name, why, fallback } = engine;
  const facts = { engine: name, shards: shards.total, alive: shards.alive };
  if (shards.alive < shards.total) {
    const message = `${shards.alive} of ${shards.total} shards run, expected all`;
    return failed('engine', { code: 'ShardDead', kind: 'unavailable', message }, facts);
  }
  return fallback
    ? warned('engine', 'NoIoUring', `${name}: ${why}, expected io_uring`, facts)
    : passed('engine', `${name}: ${why}`, facts);
}

function checkStateDirectory({ stateDir, daemonUid }: HostFacts): Check {
  const id = 'state-directory';
  const { mode, uid } = statSync(stateDir);
  const text = `0${(mode & 0o777).toString(8)}`;
  const facts = { path: stateDir, mode: text, uid, daemonUid };
  if (uid !== daemonUid) {
    const message = `${stateDir} belongs to user ${uid}, expected ${daemonUid}`;
    return failed(id, { code: 'StateDirectoryOwner', kind: 'forbidden', message }, facts);
  }
  if ((mode & 0o077) !== 0) {
    const message = `${stateDir} has mode ${text}, expected nothing for group and others`;
    return failed(id, { code: 'StateDirectoryMode', kind: 'forbidden', message }, facts);
  }
  return passed(id, `${stateDir}, mode ${text}`, facts);
}

/** From `/proc/self/limits`: "Max locked memory     8388608    8388608    bytes". */
function softLimit(procDirectory: string, name: string): number {
  const text = readFileSync(join(procDirectory, 'self', 'limits'), 'utf8');
  const line = text.split('\n').find((each) => each.startsWith(name)) ?? '';
  const soft = line.slice(name.length).trim().split(/\s+/)[0] ?? '';
  if (soft === 'unlimited') return Number.POSITIVE_INFINITY;
  if (!/^\d+$/.test(soft)) throw new Error(`/proc/self/limits has no line ${name}`);
  return Number(soft);
}

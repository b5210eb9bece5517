// SPDX-License-Identifier: Apache-2.0
import { open, readFile, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { createAdminClient, type AdminClient } from '../src/admin/client.js';
import { createDevVaultClient, type DevVaultClient } from '../src/devvault/control-client.js';
import { eventually } from '../test/support/process.js';
import { Stack } from '../test/support/stack.js';

export const KEY = 'bench-key';
export const SET = 'bench-set';

/** No probe of its own accord while something is measured: every vault call has a known cause. */
const PROBE_INTERVAL_MS = 3_600_000;
const LEASE_MS = 3 * PROBE_INTERVAL_MS;

/** A record of the audit log, as far as a benchmark looks at it. */
export interface Fact {
  readonly kind: string;
  readonly time: string;
  readonly [field: string]: unknown;
}

/** The real daemon with the embedded vault and one set, steered over its sockets. */
export class ScaleHost {
  readonly stack: Stack;
  readonly admin: AdminClient;
  readonly vault: DevVaultClient;

  private constructor(stack: Stack) {
    this.stack = stack;
    this.admin = createAdminClient({ socketPath: stack.adminSocket });
    this.vault = createDevVaultClient({ socketPath: stack.vaultSocket });
  }

  static async start(): Promise<ScaleHost> {
    const stack = await Stack.start();
    try {
      const host = new ScaleHost(stack);
      const { id } = await host.vault.createKey({ name: KEY });
      await host.admin.createSet({
        name: SET,
        keyUrl: id,
        mode: 'immediate',
        probeIntervalMs: PROBE_INTERVAL_MS,
        leaseMs: LEASE_MS,
      });
      return host;
    } catch (error) {
      await stack.stop();
      throw error;
    }
  }

  /** Ends daemon and vault, and starts them again on the same state. */
  async restart(): Promise<void> {
    await this.stack.stopDev();
    await this.stack.startDev();
  }

  async granted(): Promise<void> {
    await eventually('the vault has proved access', async () => {
      return (await this.admin.showSet(SET)).access === 'granted';
    });
  }

  /** Waits until so many disks are in a state; asks rarely, since asking costs the daemon too. */
  async disksAre(state: 'online' | 'offline', count: number): Promise<void> {
    const pauseMs = 20 + count / 20;
    const deadline = Date.now() + 300_000;
    while ((await this.admin.status()).disks[state] !== count) {
      if (Date.now() > deadline) throw new Error(`not within 300 s: ${count} disks are ${state}`);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  get #auditPath(): string {
    return join(this.stack.dir, 'state', 'audit', 'audit.jsonl');
  }

  async auditLengthBytes(): Promise<number> {
    return (await stat(this.#auditPath)).size;
  }

  /** The audit records from an offset on, without a last line that is still being written. */
  async auditSince(offsetBytes: number): Promise<Fact[]> {
    const file = await open(this.#auditPath, 'r');
    try {
      const length = (await file.stat()).size - offsetBytes;
      const { buffer } = await file.read(Buffer.alloc(length), 0, length, offsetBytes);
      const lines = buffer.toString('utf8').split('\n').slice(0, -1);
      return lines.map((line) => JSON.parse(line) as Fact);
    } finally {
      await file.close();
    }
  }

  /**
   * Unwraps that the vault has decided since `startMs` (wall time); it keeps 1000 requests. Not the
   * 401 with which it challenges a client that is new.
   */
  async unwrapsSince(startMs: number): Promise<number> {
    const log = await this.vault.log();
    return log.filter(
      ({ operation, status, time }) =>
        operation === 'unwrapKey' && status !== 401 && Date.parse(time) >= startMs,
    ).length;
  }

  async stop(): Promise<void> {
    await this.stack.stop();
  }
}

export interface Memory {
  readonly rssBytes: number;
  readonly pssBytes: number;
}

export async function memoryOf(pid: number): Promise<Memory> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
  const read = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]) * 1024;
  return { rssBytes: read('Rss'), pssBytes: read('Pss') };
}

/** Kernel objects of a process that have limits of their own. */
export async function countsOf(pid: number): Promise<{ maps: number; lockedBytes: number }> {
  const maps = (await readFile(`/proc/${pid}/maps`, 'utf8')).split('\n').length - 1;
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return { maps, lockedBytes: Number(/^VmLck:\s+(\d+) kB/m.exec(status)?.[1]) * 1024 };
}

/** When a process began, in wall time; as exact as the kernel's 10 ms ticks. */
export async function startedMs(pid: number): Promise<number> {
  const [text, uptime] = await Promise.all([
    readFile(`/proc/${pid}/stat`, 'utf8'),
    readFile('/proc/uptime', 'utf8'),
  ]);
  const nowMs = Date.now();
  const ticks = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[19]);
  return nowMs - (Number(uptime.split(' ')[0]) * 1000 - ticks * 10);
}

/** GET to the last byte, without parsing: what the server needs, not what a client does with it. */
export function timeGet(
  where: { socketPath: string; path: string } | { url: string },
): Promise<{ ms: number; bytes: number }> {
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const options = { agent: false, timeout: 120_000 };
    const outgoing =
      'url' in where ? request(where.url, options) : request({ ...where, ...options });
    outgoing.once('error', reject);
    outgoing.once('response', (answer) => {
      let bytes = 0;
      answer.on('data', (chunk: Buffer) => (bytes += chunk.length));
      answer.once('error', reject);
      answer.once('end', () => {
        if (answer.statusCode === 200) resolve({ ms: performance.now() - started, bytes });
        else reject(new Error(`GET answered ${String(answer.statusCode)}`));
      });
    });
    outgoing.end();
  });
}

/** Runs `work` for 0 … count-1, at most `atOnce` at a time. */
export async function forEach(
  count: number,
  atOnce: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < count; index = next++) await work(index);
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}

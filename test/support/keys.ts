// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { CreateDiskRequest } from '../../src/admin/api.js';
import type { CreateSetRequest } from '../../src/admin/api-sets.js';
import { eventually, run, runOk } from './process.js';
import type { Stack } from './stack.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** What tests of keys make, and read back, over and over. */
export const DISK_BYTES = 8 * MIB;

/** Probes quickly; the lease is long enough never to matter. */
const POLICY = { mode: 'immediate', probeIntervalMs: 500, leaseMs: 60_000 } as const;

/** A new key of the embedded vault; its URL without a version. */
export async function createKey(stack: Stack, name: string): Promise<string> {
  return (await stack.vault.createKey({ name })).id;
}

/** A key NAME-key of the embedded vault and a set NAME on it, unless `keyUrl` says otherwise. */
export async function createSet(
  stack: Stack,
  name: string,
  options: Partial<CreateSetRequest> = {},
): Promise<void> {
  const keyUrl = options.keyUrl ?? (await createKey(stack, `${name}-key`));
  await stack.admin.createSet({ name, ...POLICY, ...options, keyUrl });
}

/** A disk that is online. */
export async function createDisk(
  stack: Stack,
  name: string,
  options: Partial<CreateDiskRequest> & { set: string },
): Promise<void> {
  await stack.admin.createDisk({ name, sizeBytes: DISK_BYTES, ...options });
  const { state, reason } = await stack.admin.attachDisk(name);
  if (state !== 'online') throw new Error(`disk ${name} is ${state}: ${String(reason)}`);
}

/** A set NAME as `createSet` makes it, with a disk NAME that is online. */
export async function createDiskAndSet(
  stack: Stack,
  name: string,
  options: Partial<CreateSetRequest> = {},
): Promise<void> {
  await createSet(stack, name, options);
  await createDisk(stack, name, { set: name });
}

/** Waits until a disk is `online`, `suspended` or `offline(reason)`. */
export async function untilDisk(stack: Stack, name: string, expected: string): Promise<void> {
  let found = '';
  await eventually(`disk ${name} is ${expected}`, async () => {
    found = await stateOf(stack, name);
    return found === expected;
  }).catch((error: unknown) => {
    throw new Error(`disk ${name} is ${found}`, { cause: error });
  });
}

export async function stateOf(stack: Stack, name: string): Promise<string> {
  const { state, reason } = await stack.disk(name);
  return reason === null ? state : `${state}(${reason})`;
}

/** Writes one byte over a piece of a disk. */
export async function fill(stack: Stack, disk: string, byte: number): Promise<void> {
  const command = `write -P ${String(byte)} 0 1M`;
  await runOk('qemu-io', ['-f', 'raw', stack.uri(disk), '-c', command, '-c', 'flush']);
}

/** Whether it reads so. */
export async function isFilled(stack: Stack, disk: string, byte: number): Promise<boolean> {
  const command = `read -P ${String(byte)} 0 1M`;
  const { status, stdout } = await run('qemu-io', ['-f', 'raw', stack.uri(disk), '-c', command]);
  return status === 0 && !/failed/i.test(stdout);
}

/** Makes a platform key and starts the daemon with it. Returns the path of its file. */
export async function usePlatformKey(stack: Stack): Promise<string> {
  const path = join(stack.dir, 'platform.key');
  await stack.ok('platform-key', 'init', path);
  await stack.reconfigure((text) => `${text}\n[platform_key]\nfile = ${JSON.stringify(path)}\n`);
  return path;
}

/** Where a `Writer` writes: past what `fill` fills. */
const REGION_BYTES = 4 * MIB;
const REGION_OFFSET_BYTES = 2 * MIB;

/**
 * Writes a region in rounds, each with another byte, and reads back every block that it wrote,
 * until SIGTERM; then it flushes and prints rounds and byte.
 */
const SCRIPT = `
import signal
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
offset, length, block = ${String(REGION_OFFSET_BYTES)}, ${String(REGION_BYTES)}, 65536
rounds = 0
print("writing", flush=True)
while not stopped or rounds < 1:
    data = bytes([1 + rounds % 255]) * block
    for at in range(offset, offset + length, block):
        h.pwrite(data, at)
        assert h.pread(block, at) == data, f"other data at {at} in round {rounds}"
    rounds += 1
h.flush()
print(rounds, data[0])
`;

/** A client that reads and writes all the time, and fails at the first error or wrong byte. */
export class Writer {
  readonly #stack: Stack;
  readonly #disk: string;
  readonly #child: ChildProcess;
  #stdout = '';
  #stderr = '';

  private constructor(stack: Stack, disk: string) {
    this.#stack = stack;
    this.#disk = disk;
    // The distribution's Python: libnbd's module belongs to it.
    const env = { PATH: '/usr/bin:/bin' };
    this.#child = spawn('nbdsh', ['-u', stack.uri(disk), '-c', SCRIPT], { env });
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#stdout += chunk.toString()));
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.#stderr += chunk.toString()));
  }

  static async start(stack: Stack, disk: string): Promise<Writer> {
    const writer = new Writer(stack, disk);
    await eventually('the client writes', () => {
      if (writer.#child.exitCode !== null) throw new Error(`the client ended: ${writer.#stderr}`);
      return writer.#stdout.includes('writing');
    });
    return writer;
  }

  /** Ends it. Throws what it met; returns whether a new connection reads what it wrote last. */
  async stop(): Promise<boolean> {
    if (this.#child.exitCode === null) {
      const closed = once(this.#child, 'close');
      this.#child.kill('SIGTERM');
      await closed;
    }
    const [, rounds, byte] = /^writing\n(\d+) (\d+)\n$/.exec(this.#stdout) ?? [];
    if (rounds === undefined || byte === undefined) {
      throw new Error(`the client on disk ${this.#disk} failed: ${this.#stderr}`);
    }
    const region = `${String(REGION_OFFSET_BYTES)} ${String(REGION_BYTES)}`;
    const { stdout } = await run('qemu-io', [
      ...['-f', 'raw', this.#stack.uri(this.#disk)],
      ...['-c', `read -P ${byte} ${region}`],
    ]);
    return /^read \d+\/\d+ bytes/m.test(stdout) && !/failed/i.test(stdout);
  }
}

interface Token {
  wrappedSetKeys: Array<{ kid: string }>;
}

/** The keys that the header of a store names, as cryptsetup reads it. */
export async function headerKids(stack: Stack, disk: string): Promise<string[]> {
  const { store } = await stack.disk(disk);
  const dump = await runOk('cryptsetup', ['luksDump', '--dump-json-metadata', store]);
  const { tokens } = JSON.parse(dump) as { tokens: Record<string, Token> };
  return (tokens['0']?.wrappedSetKeys ?? []).map(({ kid }) => kid);
}

/** Milliseconds; for what has to be seen not to happen. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

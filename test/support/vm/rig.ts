// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tap from 'tap';
import { eventually } from '../process.js';
import { Stack } from '../stack.js';
import { Guest, type GuestOptions } from './guest.js';

/** A test file of this folder may last that long, boot and waiting for others included. */
export const VM_TEST_MS_MAX = 600_000;
/** Nothing here is measured: a disk changes its state in time, or the machine is too busy. */
const STATE_MS_MAX = 60_000;
/** Lines of the machine's log that a failed test prints; the whole stands in a file. */
const LOG_LINES_SHOWN = 120;

export interface RigOptions extends GuestOptions {
  /** Lines of the daemon's configuration by section, besides a TCP listener on loopback. */
  readonly config?: Readonly<Record<string, string>>;
}

interface Test {
  teardown(fn: () => unknown): unknown;
  passing(): boolean;
  setTimeout(ms: number): void;
}

/** A daemon with its vault on this machine, and a virtual machine that reaches it over TCP. */
export class VmRig {
  readonly stack: Stack;
  readonly guest: Guest;

  private constructor(stack: Stack, guest: Guest) {
    this.stack = stack;
    this.guest = guest;
  }

  /** Starts both. At the end of the test both end; after a failure the machine's log is shown. */
  static async start(t: Test, options: RigOptions = {}): Promise<VmRig> {
    tap.setTimeout(VM_TEST_MS_MAX); // of the file
    t.setTimeout(VM_TEST_MS_MAX);
    const starting = Stack.start();
    const booting = Guest.boot(options);
    t.teardown(async () => {
      // What one of them threw, `start` has thrown; the other ends all the same.
      const stack = await starting.catch(() => undefined);
      const guest = await booting.catch(() => undefined);
      if (guest !== undefined && !t.passing()) await showLog(guest, stack);
      await guest?.stop();
      await stack?.stop();
    });
    const [stack, guest] = await Promise.all([starting, booting]);
    await configure(stack, { ...options.config });
    return new VmRig(stack, guest);
  }

  /** The shell command that attaches a disk to a device. */
  async attach(disk: string, device: string, options = ''): Promise<string> {
    const [port] = await this.stack.nbdPorts();
    return `nbd-client -N ${disk} 10.0.2.2 ${port} ${device} ${options}`;
  }

  async untilState(disk: string, state: string): Promise<void> {
    const reached = async (): Promise<boolean> => (await this.stack.disk(disk)).state === state;
    await eventually(`${disk} is ${state}`, reached, STATE_MS_MAX);
  }

  /** What the ciphertext of a disk takes of this machine's file system. */
  async allocatedBytes(disk: string): Promise<number> {
    const { blocks } = await stat((await this.stack.disk(disk)).store);
    return blocks * 512; // st_blocks counts units of 512 bytes whatever the file system (stat(2))
  }
}

async function configure(stack: Stack, config: Readonly<Record<string, string>>): Promise<void> {
  const sections = Object.entries(config).map(([name, lines]) => `\n[${name}]\n${lines}\n`);
  await stack.reconfigure(
    (text) => text.replace('[nbd]\n', '[nbd]\nlisten = ["127.0.0.1:0"]\n') + sections.join(''),
  );
}

/** As comments of the test's own output, each line marked: .ci/test prints what is marked so. */
async function showLog(guest: Guest, stack: Stack | undefined): Promise<void> {
  const log = await guest.log();
  const daemonLog = join(stack?.dir ?? '', 'daemon.log');
  const daemon = await readFile(daemonLog, 'utf8').catch(() => '(none)\n');
  const path = join(await mkdtemp(join(tmpdir(), 'keyhold-vm-log-')), 'log');
  await writeFile(path, `${log}== daemon\n${daemon}`);
  tap.comment(`vm| log of the virtual machine, whole in ${path}`);
  for (const line of log.split('\n').slice(-LOG_LINES_SHOWN)) tap.comment(`vm| ${line}`);
}

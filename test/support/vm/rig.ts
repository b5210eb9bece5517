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
  /** Its port; left out: any. One that stays the same outlives a restart of the daemon. */
  readonly port?: number;
  /** Runs with the daemon before the machine boots, and says what the machine gets besides. */
  readonly prepare?: (stack: Stack) => Promise<Partial<GuestOptions>>;
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
    const starting = startStack(options);
    const { prepare } = options;
    const booting =
      prepare === undefined
        ? Guest.boot(options)
        : starting.then(async (stack) => Guest.boot({ ...options, ...(await prepare(stack)) }));
    t.teardown(async () => {
      // What one of them threw, `start` has thrown; the other ends all the same.
      const stack = await starting.catch(() => undefined);
      const guest = await booting.catch(() => undefined);
      if (guest !== undefined && !t.passing()) {
        const daemonLog = join(stack?.dir ?? '', 'daemon.log');
        await keepLog({ log: await guest.log(), daemonLog, say: (line) => tap.comment(line) });
      }
      await guest?.stop();
      await stack?.stop();
    });
    const [stack, guest] = await Promise.all([starting, booting]);
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

/** With a TCP listener and what the test adds to the configuration. */
async function startStack({ config = {}, port = 0 }: RigOptions): Promise<Stack> {
  const stack = await Stack.start();
  const sections = Object.entries(config).map(([name, lines]) => `\n[${name}]\n${lines}\n`);
  const listen = `listen = ["127.0.0.1:${port}"]\n`;
  try {
    await stack.reconfigure(
      (text) => text.replace('[nbd]\n', `[nbd]\n${listen}`) + sections.join(''),
    );
  } catch (error) {
    await stack.stop();
    throw error;
  }
  return stack;
}

/**
 * Keeps the logs of a machine and its daemon in a file, and says its path and the end of the first.
 * Each line is marked: .ci/test prints what is marked so. Returns the path.
 */
export async function keepLog(logs: {
  log: string;
  daemonLog: string;
  say: (line: string) => void;
}): Promise<string> {
  const daemon = await readFile(logs.daemonLog, 'utf8').catch(() => '(none)\n');
  const path = join(await mkdtemp(join(tmpdir(), 'keyhold-vm-log-')), 'log');
  await writeFile(path, `${logs.log}== daemon\n${daemon}`);
  logs.say(`vm| log of the virtual machine, whole in ${path}`);
  for (const line of logs.log.split('\n').slice(-LOG_LINES_SHOWN)) logs.say(`vm| ${line}`);
  return path;
}

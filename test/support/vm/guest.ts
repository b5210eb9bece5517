// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endProcess } from '../process.js';
import { buildInitramfs } from './initramfs.js';
import { findKernel } from './kernel.js';
import { findProgram } from './programs.js';
import { GuestShell, type ScriptResult } from './shell.js';

/** Seen: 5 s on an idle machine; others may share its processors. */
const BOOT_MS_MAX = 120_000;
/** Of one script that does nothing special; the machine is emulated and the host may be busy. */
const SCRIPT_MS_MAX = 60_000;

/** Programs that scenarios about file systems on network block devices use. */
const PROGRAMS = [
  ...['nbd-client', 'blkdiscard', 'fstrim'],
  ...['mkfs.ext4', 'e2fsck', 'mkfs.xfs', 'xfs_repair'],
];

export interface GuestOptions {
  /** Kernel modules besides nbd and xfs (ext4 is built in). */
  readonly modules?: readonly string[];
  /** Programs of this machine besides the usual ones. */
  readonly programs?: readonly string[];
  /** Raw images that the machine sees as /dev/vda, /dev/vdb, …. */
  readonly drives?: readonly string[];
  readonly memoryMib?: number;
}

export interface ScriptOptions {
  readonly timeoutMs?: number;
}

/**
 * A virtual machine with a real Linux kernel, emulated (no KVM), with a shell. This machine's
 * loopback is 10.0.2.2 in it.
 */
export class Guest {
  readonly #dir: string;
  readonly #process: ChildProcess;
  readonly #shell: GuestShell;

  private constructor(dir: string, child: ChildProcess, shell: GuestShell) {
    this.#dir = dir;
    this.#process = child;
    this.#shell = shell;
  }

  /** Boots; rejects with the kernel's messages when no shell answers within the limit. */
  static async boot(options: GuestOptions = {}): Promise<Guest> {
    const dir = await mkdtemp(join(tmpdir(), 'keyhold-vm-'));
    let guest: Guest | undefined;
    try {
      const kernel = await findKernel();
      const initramfs = join(dir, 'initramfs');
      await buildInitramfs(initramfs, {
        kernel,
        modules: ['nbd', 'xfs', ...(options.modules ?? []), ...(options.drives ? DRIVE : [])],
        programs: [...PROGRAMS, ...(options.programs ?? [])],
      });
      const args = await qemuArguments({ ...options, image: kernel.image, initramfs, dir });
      // A test that is killed leaves no machine behind; and what is measured beside it goes first.
      const setpriv = await findProgram('setpriv');
      const wrapper = ['nice', '-n', '10', setpriv, '--pdeathsig', 'KILL', '--'];
      const [command = '', ...rest] = [...wrapper, ...args];
      const child = spawn(command, rest, { stdio: ['pipe', 'pipe', 'pipe'] });
      guest = new Guest(dir, child, new GuestShell(child));
      await guest.#shell.ready(BOOT_MS_MAX);
      await rm(initramfs); // it is in the machine's memory
      return guest;
    } catch (error) {
      const log = (await guest?.log()) ?? '';
      await guest?.stop();
      await rm(dir, { recursive: true, force: true });
      throw new Error(`cannot boot a virtual machine: ${String(error)}\n${log}`, { cause: error });
    }
  }

  /** Runs a shell script; rejects when it does not end in time, whatever its exit status. */
  async run(script: string, options: ScriptOptions = {}): Promise<ScriptResult> {
    return this.#shell.run(script, options.timeoutMs ?? SCRIPT_MS_MAX);
  }

  /** Runs a shell script that must succeed; returns what it printed. */
  async ok(script: string, options: ScriptOptions = {}): Promise<string> {
    const { status, output } = await this.run(script, options);
    if (status !== 0) throw new Error(`in the virtual machine: ${script}\n${status}: ${output}`);
    return output;
  }

  /** What the kernel has said so far. */
  async kernelLog(): Promise<string> {
    return readFile(join(this.#dir, 'console'), 'utf8');
  }

  /** Kernel messages and all scripts with their outcome, for whoever looks into a failure. */
  async log(): Promise<string> {
    const messages = await this.kernelLog().catch(() => '(none)\n');
    return `== kernel\n${messages}== scripts\n${this.#shell.transcript}`;
  }

  /** Ends the machine as a power cut does. */
  async stop(): Promise<void> {
    await endProcess(this.#process, 'SIGKILL');
    await rm(this.#dir, { recursive: true, force: true });
  }
}

const DRIVE = ['virtio_blk'];

async function qemuArguments(
  options: GuestOptions & { image: string; initramfs: string; dir: string },
): Promise<string[]> {
  const drives = options.drives ?? [];
  return [
    await findProgram('qemu-system-x86_64'),
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '1'],
    ...['-m', String(options.memoryMib ?? 512)],
    ...['-kernel', options.image, '-initrd', options.initramfs],
    ...['-append', 'console=ttyS0 quiet panic=-1 no_timer_check'],
    ...['-display', 'none', '-monitor', 'none', '-no-reboot', '-nodefaults'],
    ...['-serial', `file:${join(options.dir, 'console')}`, '-serial', 'stdio'],
    ...['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0'],
    // A store may be the daemon's for now: it locks it, and the guest waits until it is free.
    ...drives.flatMap((path) => ['-drive', `file=${path},format=raw,if=virtio,file.locking=off`]),
  ];
}

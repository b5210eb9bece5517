// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DiskDetail } from '../../src/admin/api.js';
import { createAdminClient, type AdminClient } from '../../src/admin/client.js';
import { createDevVaultClient, type DevVaultClient } from '../../src/devvault/control-client.js';
import type { TroubleInput } from '../../src/devvault/trouble.js';
import { endProcess, eventually, type RunResult, run } from './process.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

/**
 * The whole system as a user starts it: `keyhold dev --state DIR --no-demo-disk`, that is, the
 * embedded vault and the daemon as real processes, steered through the real CLI.
 */
export class Stack {
  readonly dir: string;
  #dev: ChildProcess | undefined;
  /** Vault and daemon where there is no `dev`, in the order of their start. */
  #parts: ChildProcess[] = [];
  #output = '';
  readonly #through: readonly string[];

  private constructor(dir: string, through: readonly string[]) {
    this.dir = dir;
    this.#through = through;
  }

  /**
   * Starts the system in a new directory, which is removed by `stop`. `through` is a command that
   * ends in executing its further arguments.
   */
  static async start({ through = [] }: { through?: readonly string[] } = {}): Promise<Stack> {
    const stack = new Stack(await mkdtemp(join(tmpdir(), 'keyhold-e2e-')), through);
    await stack.startDev();
    return stack;
  }

  get nbdSocket(): string {
    return join(this.dir, 'nbd.sock');
  }

  get adminSocket(): string {
    return join(this.dir, 'admin.sock');
  }

  get vaultSocket(): string {
    return join(this.dir, 'vault', 'control.sock');
  }

  /** Everything that the processes printed so far. */
  get output(): string {
    return this.#output;
  }

  uri(disk: string): string {
    return `nbd+unix:///${disk}?socket=${this.nbdSocket}`;
  }

  /** Starts (again) on the same directory and waits for the line `ready`. */
  async startDev(): Promise<void> {
    // Any port: files of tests run side by side, and two of them would find the usual one free.
    const args = ['dev', '--state', this.dir, '--no-demo-disk', '--metrics-port', '0'];
    const [command = '', ...rest] = [...this.#through, process.execPath, main, ...args];
    const dev = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#dev = dev;
    let stdout = '';
    const ready = new Promise<void>((resolve, reject) => {
      dev.stdout.on('data', (chunk: Buffer) => {
        stdout += chunk.toString();
        this.#output += chunk.toString();
        if (/^ready$/m.test(stdout)) resolve();
      });
      dev.stderr.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
      dev.once('exit', (status) =>
        reject(new Error(`keyhold dev ended with ${String(status)}:\n${this.#output}`)),
      );
    });
    await ready;
  }

  /**
   * Starts again on the same directory with a vault that is in trouble before the daemon comes.
   * That is without `keyhold dev`, which starts both in one go.
   */
  async startTroubled(...troubles: TroubleInput[]): Promise<void> {
    const vault = spawn(
      process.execPath,
      [main, 'vault', 'serve', '--state', join(this.dir, 'vault')],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    this.#parts.push(vault);
    await once(vault.stdout, 'data'); // the line that says that it serves
    for (const trouble of troubles) await this.vault.trouble(trouble);
    const daemon = spawn(
      process.execPath,
      ['--no-experimental-fetch', main, 'daemon', '--config', join(this.dir, 'keyhold.toml')],
      { stdio: 'ignore' },
    );
    this.#parts.push(daemon);
    await eventually('the daemon serves', async () => {
      const status = await this.admin.status().catch(() => undefined);
      return status?.pid === daemon.pid;
    });
  }

  /** Ends it as Ctrl-C does; the state stays. */
  async stopDev(): Promise<void> {
    if (this.#dev !== undefined) await endProcess(this.#dev, 'SIGINT');
    for (const part of this.#parts.splice(0).reverse()) await endProcess(part, 'SIGTERM');
  }

  /** Ends the daemon as a crash does and starts everything again on the same state. */
  async crashAndRestart(): Promise<void> {
    process.kill(await this.daemonPid(), 'SIGKILL');
    await this.waitForEnd();
    await this.startDev();
  }

  /** Starts again with another configuration: `keyhold dev` keeps what somebody adds to its own. */
  async reconfigure(edit: (text: string) => string): Promise<void> {
    await this.stopDev();
    const path = join(this.dir, 'keyhold.toml');
    await writeFile(path, edit(await readFile(path, 'utf8')));
    await this.startDev();
  }

  /** Ports of the TCP listeners, in the order of the configuration. */
  async nbdPorts(): Promise<number[]> {
    const { nbd } = await this.admin.status();
    return nbd.flatMap((address) => /^[\d.]+:(\d+)$/.exec(address)?.[1] ?? []).map(Number);
  }

  /** Waits for the end of everything after something else ended the daemon. */
  async waitForEnd(): Promise<void> {
    if (this.#dev === undefined || this.#dev.exitCode !== null) return;
    await once(this.#dev, 'exit');
  }

  async stop(): Promise<void> {
    await this.stopDev();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** Runs the CLI against this system. */
  async cli(...args: string[]): Promise<RunResult> {
    return run(process.execPath, [main, ...args], {
      env: {
        KEYHOLD_SOCKET: this.adminSocket,
        KEYHOLD_VAULT_SOCKET: this.vaultSocket,
        NO_COLOR: '1',
      },
    });
  }

  /** Runs the CLI, which must succeed; returns what it printed. */
  async ok(...args: string[]): Promise<string> {
    const result = await this.cli(...args);
    if (result.status !== 0) {
      throw new Error(`keyhold ${args.join(' ')}: ${String(result.status)}\n${result.stderr}`);
    }
    return result.stdout;
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.ok(...args, '--json')) as T;
  }

  /** The admin API without the CLI, whose start takes longer than most of what is waited for. */
  get admin(): AdminClient {
    return createAdminClient({ socketPath: this.adminSocket });
  }

  /** The embedded vault without the CLI. */
  get vault(): DevVaultClient {
    return createDevVaultClient({ socketPath: this.vaultSocket });
  }

  async disk(name: string): Promise<DiskDetail> {
    return this.admin.showDisk(name);
  }

  async daemonPid(): Promise<number> {
    return (await this.admin.status()).pid;
  }

  /** The URL of a key of the embedded vault, without a version. */
  async keyUrl(name: string): Promise<string> {
    const shown = await this.json<{ url?: string; kid?: string; id?: string }>(
      'vault',
      'show',
      name,
    );
    const url = shown.url ?? shown.kid ?? shown.id ?? '';
    return url.replace(/(\/keys\/[^/]+)\/.*$/, '$1');
  }

  /** A vault key, a set on it, and a disk of that set, attached. */
  async createDisk(options: {
    name: string;
    size?: string;
    diskArgs?: string[];
    setArgs?: string[];
  }): Promise<void> {
    const { name } = options;
    await this.ok('vault', 'key', 'create', `${name}-key`);
    await this.ok(
      'set',
      'create',
      `${name}-set`,
      '--key',
      await this.keyUrl(`${name}-key`),
      ...(options.setArgs ?? []),
    );
    await this.ok(
      'disk',
      'create',
      name,
      '--set',
      `${name}-set`,
      '--size',
      options.size ?? '64M',
      ...(options.diskArgs ?? []),
    );
    await this.ok('disk', 'attach', name);
  }
}

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { endProcess } from './process.js';

const script = new URL('./activate.py', import.meta.url).pathname;

/** A service manager in small: holds sockets and starts a program with them, again and again. */
export class Launcher {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;
  #output = '';
  #ports: number[] = [];

  private constructor(sockets: readonly string[], command: readonly string[]) {
    this.#child = spawn('python3', [script, ...sockets, '--', ...command], { stdio: 'pipe' });
    const { stdout, stderr } = this.#child;
    if (stdout === null || stderr === null) throw new Error('the launcher has no pipes');
    this.#reader = createInterface({ input: stdout });
    this.#lines = this.#reader[Symbol.asyncIterator]();
    stderr.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
  }

  /** Binds the sockets (activate.py says how they are written); the program does not run yet. */
  static async bind(sockets: readonly string[], command: readonly string[]): Promise<Launcher> {
    const launcher = new Launcher(sockets, command);
    launcher.#ports = ((await launcher.#answer()) as { ports: number[] }).ports;
    return launcher;
  }

  /** Of the sockets in their order; 0 for those that are not TCP. */
  get ports(): readonly number[] {
    return this.#ports;
  }

  /** What the program printed so far, both streams. */
  get output(): string {
    return this.#output;
  }

  /** The program's process id. */
  async start(): Promise<number> {
    this.#send('start');
    return ((await this.#answer()) as { pid: number }).pid;
  }

  /** SIGTERM or SIGKILL, or nothing, and the program's exit status; negative for a signal. */
  async finish(how: 'stop' | 'kill' | 'wait' = 'stop'): Promise<number> {
    this.#send(how);
    return ((await this.#answer()) as { status: number }).status;
  }

  /** Ends everything. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.stdin?.end();
    const limit = setTimeout(() => void endProcess(this.#child, 'SIGKILL'), 10_000);
    await exited;
    clearTimeout(limit);
    this.#reader.close();
  }

  #send(command: string): void {
    this.#child.stdin?.write(`${command}\n`);
  }

  async #answer(): Promise<unknown> {
    const line: IteratorResult<string, unknown> = await this.#lines.next();
    if (line.done === true) throw new Error(`the launcher ended:\n${this.#output}`);
    return JSON.parse(line.value);
  }
}

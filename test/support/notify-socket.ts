// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { endProcess, eventually } from './process.js';

const script = new URL('./notify-socket.py', import.meta.url).pathname;

/** What systemd reads at $NOTIFY_SOCKET. */
export class NotifySocket {
  readonly address: string;
  readonly #child: ChildProcess;
  readonly #states: string[] = [];

  private constructor(address: string) {
    this.address = address;
    this.#child = spawn('python3', [script, address], { stdio: ['ignore', 'pipe', 'inherit'] });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error('the socket has no pipe');
    createInterface({ input: stdout }).on('line', (line) => {
      this.#states.push(JSON.parse(line) as string);
    });
  }

  static async bind(address: string): Promise<NotifySocket> {
    const socket = new NotifySocket(address);
    await eventually('the socket is bound', () => socket.#states.length > 0);
    return socket;
  }

  /** Every datagram so far. */
  get states(): readonly string[] {
    return this.#states.slice(1);
  }

  /** How many datagrams are this one. */
  count(state: string): number {
    return this.states.filter((one) => one === state).length;
  }

  /** Waits for a datagram that matches, the first `skip` of all not counted; returns it. */
  async next(pattern: RegExp, skip = 0): Promise<string> {
    const find = (): string | undefined => this.states.slice(skip).find((one) => pattern.test(one));
    await eventually(`a datagram ${String(pattern)}`, () => find() !== undefined);
    return find() ?? '';
  }

  async close(): Promise<void> {
    await endProcess(this.#child, 'SIGKILL');
  }
}

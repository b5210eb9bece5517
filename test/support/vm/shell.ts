// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from 'node:child_process';
import { ReplyParser } from './replies.js';

export interface ScriptResult {
  readonly status: number;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

interface Waiter {
  readonly resolve: (result: ScriptResult) => void;
  readonly reject: (error: Error) => void;
}

/** The shell of a virtual machine: init.sh at the other end of the pipes of its process. */
export class GuestShell {
  readonly #child: ChildProcess;
  readonly #parser = new ReplyParser();
  readonly #waiters = new Map<number, Waiter>();
  readonly #whenReady: Promise<void>;
  #lastId = 0;
  #transcript = '';
  #stderr = '';
  #ended: Error | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdin?.on('error', () => undefined); // the machine ended; its exit says so
    child.stderr?.on('data', (chunk: Buffer) => (this.#stderr += chunk.toString()));
    this.#whenReady = new Promise<void>((resolve, reject) => {
      this.#waiters.set(0, { resolve: () => resolve(), reject });
    });
    this.#whenReady.catch(() => undefined); // whoever awaits it gets it
    child.stdout?.on('data', (chunk: Buffer) => this.#receive(chunk));
    child.once('error', (error) => this.#end(error));
    child.once('exit', (status, signal) => {
      const how = signal ?? `exit status ${String(status)}`;
      this.#end(new Error(`the virtual machine ended: ${how}\n${this.#stderr}`));
    });
  }

  /** Scripts and what came of them, in the order of their ends. */
  get transcript(): string {
    return this.#transcript;
  }

  async ready(timeoutMs: number): Promise<void> {
    await bounded('start of the shell', this.#whenReady, timeoutMs);
  }

  /** Runs a script beside those that run already. */
  async run(script: string, timeoutMs: number): Promise<ScriptResult> {
    if (this.#ended !== undefined) throw this.#ended;
    const id = (this.#lastId += 1);
    const result = new Promise<ScriptResult>((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
    });
    const startedMs = performance.now();
    this.#child.stdin?.write(`${id} ${Buffer.from(script).toString('base64')}\n`);
    try {
      const { status, output } = await bounded(`end of script: ${script}`, result, timeoutMs);
      this.#note(script, startedMs, `status ${status}\n${output}`);
      return { status, output };
    } catch (error) {
      this.#note(script, startedMs, `no answer: ${String(error)}`);
      throw error;
    } finally {
      this.#waiters.delete(id);
    }
  }

  #receive(chunk: Buffer): void {
    try {
      const replies = this.#parser.push(chunk);
      if (this.#parser.ready) this.#settle(0, { status: 0, output: '' });
      for (const { id, ...result } of replies) this.#settle(id, result);
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Nobody waits any more for a script that came too late. */
  #settle(id: number, result: ScriptResult): void {
    this.#waiters.get(id)?.resolve(result);
    this.#waiters.delete(id);
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#waiters.values()) reject(this.#ended);
    this.#waiters.clear();
  }

  #note(script: string, startedMs: number, outcome: string): void {
    const lastedMs = Math.round(performance.now() - startedMs);
    this.#transcript += `$ ${script}\n# ${lastedMs} ms, ${outcome.trimEnd()}\n`;
  }
}

async function bounded<T>(what: string, promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${timeoutMs} ms: ${what}`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

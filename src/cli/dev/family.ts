// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { KeyholdError } from '../../base/errors.js';
import { codes } from '../errors.js';

/** An orderly stop gets this long; then the child is killed. */
const STOP_MS_MAX = 10_000;
/** Lines of a dead child's log that the error shows. */
const LOG_LINES_SHOWN = 12;

export interface ChildSpec {
  /** For messages: `daemon`. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Standard error, and standard output unless `readStdout`, go to this file, begun anew. */
  readonly logPath: string;
  /** Hands standard output to the caller instead. */
  readonly readStdout?: boolean;
}

interface Member {
  readonly spec: ChildSpec;
  readonly process: ChildProcess;
  readonly ended: Promise<void>;
}

/**
 * Child processes that live and die together. They are stopped in the reverse order of their start.
 * If one ends by itself, `unexpectedEnd` rejects.
 *
 * Each child runs in a session of its own, so that the terminal's Ctrl-C reaches only the
 * supervisor, which keeps the order. Each holds a pipe on its standard input that ends with the
 * supervisor, whatever ends that: `--stop-on-stdin-end` makes sure that nobody is orphaned.
 */
export class Family {
  readonly #members: Member[] = [];
  readonly #stopMsMax: number;
  /** Rejects when a child ends that nobody stopped. Never resolves. */
  readonly unexpectedEnd: Promise<never>;
  #rejectUnexpectedEnd: (error: KeyholdError) => void = () => undefined;
  #stopping = false;

  constructor(options: { stopMsMax?: number } = {}) {
    this.#stopMsMax = options.stopMsMax ?? STOP_MS_MAX;
    this.unexpectedEnd = new Promise((_resolve, reject) => {
      this.#rejectUnexpectedEnd = reject;
    });
    // Whoever awaits it gets the rejection; that nobody does is no crash.
    this.unexpectedEnd.catch(() => undefined);
  }

  async start(spec: ChildSpec): Promise<ChildProcess> {
    const log = await open(spec.logPath, 'w', 0o600);
    try {
      return this.#spawn(spec, log.fd);
    } finally {
      await log.close();
    }
  }

  /** Synchronous, so that no event of the child can come before its listeners. */
  #spawn(spec: ChildSpec, logFd: number): ChildProcess {
    const child = spawn(spec.command, spec.args, {
      stdio: ['pipe', spec.readStdout === true ? 'pipe' : logFd, logFd],
      detached: true,
    });
    child.stdin?.on('error', () => undefined); // the child ended; its exit says so
    const ended = new Promise<void>((resolve) => {
      const onEnd = (how: string): void => {
        resolve();
        if (!this.#stopping) void this.#reportUnexpectedEnd(spec, how);
      };
      child.once('exit', (status, signal) => onEnd(signal ?? `exit status ${String(status)}`));
      child.once('error', (error) => onEnd(error.message));
    });
    this.#members.push({ spec, process: child, ended });
    return child;
  }

  /** Stops every child, the last started first. Each has a bound; then it is killed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const member of this.#members.toReversed()) {
      member.process.kill('SIGTERM');
      const bound = setTimeout(() => member.process.kill('SIGKILL'), this.#stopMsMax);
      await member.ended;
      clearTimeout(bound);
    }
  }

  /** Kills every child at once; a `stop` under way ends with them. */
  kill(): void {
    this.#stopping = true;
    for (const member of this.#members) member.process.kill('SIGKILL');
  }

  async #reportUnexpectedEnd(spec: ChildSpec, how: string): Promise<void> {
    const tail = await logTail(spec.logPath);
    this.#rejectUnexpectedEnd(
      new KeyholdError(
        codes.ERR_CLI_DEV_CHILD,
        `process ${spec.name} ended unexpectedly (${how}), log ${spec.logPath}`,
        { fields: { name: spec.name, how, logPath: spec.logPath, log: tail } },
      ),
    );
  }
}

async function logTail(path: string): Promise<string[]> {
  try {
    return (await readFile(path, 'utf8')).trimEnd().split('\n').slice(-LOG_LINES_SHOWN);
  } catch {
    return []; // the message names the path
  }
}

/** The first line that a child prints on its standard output; rejects when `signal` aborts. */
export function firstLine(child: ChildProcess, signal: AbortSignal): Promise<string> {
  const { stdout } = child;
  return new Promise((resolve, reject) => {
    let text = '';
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    // Goes on listening after the line: a pipe that nobody reads fills up and stops the child.
    stdout?.on('data', (chunk: Buffer) => {
      if (text.includes('\n')) return;
      text += chunk.toString('utf8');
      const end = text.indexOf('\n');
      if (end >= 0) resolve(text.slice(0, end));
    });
  });
}

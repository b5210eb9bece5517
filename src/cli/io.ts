// SPDX-License-Identifier: Apache-2.0
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf } from '../base/errors.js';

/** A place to write text: a terminal, a file, a pipe, or a test's string. */
export interface TextSink {
  write(text: string): void;
  /** Columns of the terminal; undefined when this is none. */
  readonly columns: number | undefined;
  readonly color: boolean;
  /** Aborts when nobody reads any more (`keyhold … | head`). Later writes are dropped. */
  readonly closed: AbortSignal;
  /** Resolves when what was written is on its way: whoever writes much waits for it. */
  drained(): Promise<void>;
}

/** What the CLI needs from the process around it; tests hand in their own. */
export interface CliIo {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  nowMs(): number;
  wait(durationMs: number): Promise<void>;
}

export function createProcessIo(): CliIo {
  return {
    env: process.env,
    stdout: sinkOf(process.stdout, process.env),
    stderr: sinkOf(process.stderr, process.env),
    nowMs: () => Date.now(),
    wait: (durationMs) => delay(durationMs),
  };
}

function sinkOf(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv): TextSink {
  const broken = new AbortController();
  stream.on('error', (error) => {
    // A reader that went away is no failure of ours; anything else (EIO, ENOSPC) is.
    if (codeOf(error) !== 'EPIPE') throw error;
    broken.abort();
  });
  return {
    write(text) {
      if (!broken.signal.aborted) stream.write(text);
    },
    get columns() {
      return stream.isTTY ? stream.columns : undefined;
    },
    // https://no-color.org: any value that is not empty.
    color: stream.isTTY && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb',
    closed: broken.signal,
    drained: () => waitForDrain(stream, broken.signal),
  };
}

function waitForDrain(stream: NodeJS.WriteStream, closed: AbortSignal): Promise<void> {
  if (!stream.writableNeedDrain || closed.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      closed.removeEventListener('abort', done);
      resolve();
    };
    stream.once('drain', done);
    closed.addEventListener('abort', done, { once: true });
  });
}

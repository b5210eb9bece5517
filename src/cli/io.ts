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

/** A terminal that is read and written: a whole screen, and keys as they are pressed. */
export interface Screen {
  readonly columns: number;
  readonly rows: number;
  readonly color: boolean;
  write(text: string): void;
  /** Raw: keys come at once, unechoed, Ctrl-C as a key too. */
  setRaw(raw: boolean): void;
  /** Each returns what ends it. */
  onText(listener: (text: string) => void): () => void;
  onResize(listener: () => void): () => void;
}

/** What the CLI needs from the process around it; tests hand in their own. */
export interface CliIo {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: TextSink;
  readonly stderr: TextSink;
  /** Undefined unless a person sits at both ends. */
  screen(): Screen | undefined;
  nowMs(): number;
  wait(durationMs: number): Promise<void>;
}

export function createProcessIo(): CliIo {
  return {
    env: process.env,
    stdout: sinkOf(process.stdout, process.env),
    stderr: sinkOf(process.stderr, process.env),
    screen: () => screenOf(process.stdin, process.stdout, process.env),
    nowMs: () => Date.now(),
    wait: (durationMs) => delay(durationMs),
  };
}

/** The same, in one colour. */
export function withoutColor(io: CliIo): CliIo {
  const plainSink = (sink: TextSink): TextSink => ({
    write: (text) => sink.write(text),
    get columns() {
      return sink.columns;
    },
    color: false,
    closed: sink.closed,
    drained: () => sink.drained(),
  });
  return {
    ...io,
    stdout: plainSink(io.stdout),
    stderr: plainSink(io.stderr),
    screen: () => {
      const screen = io.screen();
      // Its size is read through the original: a spread would keep what it was.
      if (screen === undefined) return undefined;
      return Object.create(screen, { color: { value: false } }) as Screen;
    },
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
    color: hasColor(stream, env),
    closed: broken.signal,
    drained: () => waitForDrain(stream, broken.signal),
  };
}

function hasColor(stream: NodeJS.WriteStream, env: NodeJS.ProcessEnv): boolean {
  // https://no-color.org: any value that is not empty.
  return stream.isTTY && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
}

function screenOf(
  stdin: NodeJS.ReadStream,
  stdout: NodeJS.WriteStream,
  env: NodeJS.ProcessEnv,
): Screen | undefined {
  if (!stdin.isTTY || !stdout.isTTY || env['TERM'] === 'dumb') return undefined;
  return {
    get columns() {
      return stdout.columns;
    },
    get rows() {
      return stdout.rows;
    },
    color: hasColor(stdout, env),
    write: (text) => void stdout.write(text),
    setRaw: (raw) => void stdin.setRawMode(raw),
    onText(listener) {
      const onData = (data: Buffer): void => listener(data.toString('utf8'));
      stdin.on('data', onData);
      return () => {
        stdin.off('data', onData);
        stdin.pause(); // or its handle would keep the process alive
      };
    },
    onResize(listener) {
      stdout.on('resize', listener);
      return () => stdout.off('resize', listener);
    },
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

// SPDX-License-Identifier: Apache-2.0
import type { CliIo, TextSink } from '../../../src/cli/io.js';
import { runCli } from '../../../src/cli/run.js';
import { NOW_MS } from './canned.js';

export interface CliResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Makes standard output a terminal of this width. */
  readonly columns?: number;
  readonly color?: boolean;
  /** What happens while a command waits; no time passes. */
  readonly onWait?: () => void;
}

/** What a command reads and writes, kept. */
export function captureIo(options: CliOptions = {}): {
  io: CliIo;
  result: () => { stdout: string; stderr: string };
} {
  let stdout = '';
  let stderr = '';
  const sink = (write: (text: string) => void): TextSink => ({
    write,
    columns: options.columns,
    color: options.color ?? false,
    closed: new AbortController().signal,
    drained: () => Promise.resolve(),
  });
  const io: CliIo = {
    env: { HOME: '/nonexistent', ...options.env },
    stdout: sink((text) => (stdout += text)),
    stderr: sink((text) => (stderr += text)),
    screen: () => undefined,
    nowMs: () => NOW_MS,
    wait: () => Promise.resolve(options.onWait?.()),
  };
  return { io, result: () => ({ stdout, stderr }) };
}

/** Runs the CLI in this process, with its output kept. */
export async function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const { io, result } = captureIo(options);
  const status = await runCli(args, io);
  return { status, ...result() };
}

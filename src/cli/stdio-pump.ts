// SPDX-License-Identifier: Apache-2.0
import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex, Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { codeOf } from '../base/errors.js';

/**
 * Carries bytes both ways until the remote side has ended: back-pressure in both directions, and
 * the end of `input` is passed on as half a close, after which replies still come. Rejects when the
 * remote side breaks off; a reader of `output` that goes away is an end like any other.
 */
export async function pump(streams: {
  input: Readable;
  output: Writable;
  remote: Duplex;
}): Promise<void> {
  const { input, output, remote } = streams;
  // A failure of one stream destroys the others with the same error: the first one tells.
  let first: 'output' | 'remote' | undefined;
  output.once('error', () => (first ??= 'output'));
  remote.once('error', () => (first ??= 'remote'));
  // What fails here shows on the remote side, or is the sender's leaving.
  const inward = pipeline(input, remote).catch(() => undefined);
  try {
    await pipeline(remote, output);
  } catch (error) {
    // Closed before its end without an error of its own: so by us, after the client had gone.
    const cutOff = codeOf(error) === 'ERR_STREAM_PREMATURE_CLOSE';
    if (first === 'remote' && !cutOff) throw error;
  } finally {
    remote.destroy();
    input.destroy();
    await inward;
  }
}

/**
 * Standard input and output as streams that never block the process: Node writes to a pipe
 * synchronously, and a client that writes a long request before it reads would wait for ever.
 */
export function openStdio(): { input: Readable; output: Writable } {
  return {
    input: isStream(0) ? new Socket({ fd: 0, readable: true, writable: false }) : process.stdin,
    output: isStream(1) ? new Socket({ fd: 1, readable: false, writable: true }) : process.stdout,
  };
}

function isStream(fd: number): boolean {
  const status = fstatSync(fd);
  return status.isFIFO() || status.isSocket();
}

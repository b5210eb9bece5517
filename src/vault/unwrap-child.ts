// SPDX-License-Identifier: Apache-2.0
import { closeSync, writeSync } from 'node:fs';
import type { Clock } from '../base/clock.js';
import { CachingCredential } from './caching-credential.js';
import { type Classified, classify, type Description } from './classify.js';
import { VaultKeyClient } from './client.js';
import { createCredential } from './credential.js';
import {
  SECRET_FD,
  SET_KEY_BYTES,
  type UnwrapAnswer,
  type UnwrapRequest,
} from './unwrap-protocol.js';

export interface UnwrapChildIo {
  readonly stdin: AsyncIterable<Uint8Array | string>;
  readonly stdoutFd: number;
  readonly writeFd: number;
  readonly exit: (code: number) => void;
}

/** A request is about two kilobytes; a long proxy URL and paths fit many times. */
const REQUEST_BYTES_MAX = 64 * 1024;

/** The helper gives up this long before the daemon would kill it, so that it can say why. */
const REPORT_RESERVE_MS = 100;

/**
 * The whole life of the one-shot helper: read the request, unwrap, write the plaintext to the pipe,
 * answer, end. Exit code 0 with the key on the pipe, or 1 with nothing on it.
 */
export async function runUnwrapChild(overrides: Partial<UnwrapChildIo> = {}): Promise<void> {
  const io: UnwrapChildIo = {
    stdin: process.stdin,
    stdoutFd: 1,
    writeFd: SECRET_FD,
    exit: (code) => process.exit(code),
    ...overrides,
  };
  const crash = (error: unknown): void => {
    // Only the name: a message or a stack from inside the SDK might quote what it worked on.
    const name = error instanceof Error ? error.name : typeof error;
    end(io, refused(classify({ message: `the unwrap helper failed with ${name}` })));
  };
  process.once('uncaughtException', crash);
  process.once('unhandledRejection', crash);
  try {
    const request = JSON.parse(await readAll(io.stdin)) as UnwrapRequest;
    end(io, await unwrapIntoPipe(request, io.writeFd));
  } catch (error) {
    crash(error);
  }
}

async function unwrapIntoPipe(request: UnwrapRequest, writeFd: number): Promise<UnwrapAnswer> {
  const clock = createProcessClock();
  const credential = new CachingCredential({
    create: () => createCredential(request.identity, request.transport),
    clock,
    limitMs: request.timeoutMs,
  });
  const { kid, transport } = request;
  const client = new VaultKeyClient({ kid, credential, transport, clock });
  const wrapped = Buffer.from(request.wrapped, 'base64');
  const leftMs = request.timeoutMs - clock.bootMs() - REPORT_RESERVE_MS;
  const { plaintext, description } = await client.unwrap(wrapped, leftMs);
  if (plaintext === undefined) return refused(classify(description));
  try {
    if (plaintext.length !== SET_KEY_BYTES) return refused(classify(wrongLength(description)));
    writeKey(writeFd, plaintext);
  } catch {
    return refused(classify({ errno: 'EPIPE', message: 'the secret pipe did not take the key' }));
  } finally {
    plaintext.fill(0);
  }
  const requestId = description.headers?.['x-ms-request-id'];
  return requestId === undefined ? { ok: true } : { ok: true, requestId };
}

/** The vault did unwrap, so what was stored as wrapped set key is not one that Keyhold wrapped. */
function wrongLength(description: Description): Description {
  const message = `the unwrapped value is no set key: its length is not ${SET_KEY_BYTES} bytes`;
  return { ...description, canaryMatched: false, message };
}

function refused(verdict: Classified): UnwrapAnswer {
  return { ok: false, verdict };
}

function writeKey(fd: number, key: Uint8Array): void {
  let written = 0;
  while (written < key.length) written += writeSync(fd, key, written);
  closeSync(fd);
}

function end(io: UnwrapChildIo, answer: UnwrapAnswer): void {
  try {
    writeSync(io.stdoutFd, `${JSON.stringify(answer)}\n`);
  } finally {
    io.exit(answer.ok ? 0 : 1);
  }
}

async function readAll(stream: AsyncIterable<Uint8Array | string>): Promise<string> {
  const parts: Buffer[] = [];
  let lengthBytes = 0;
  for await (const part of stream) {
    const bytes = Buffer.from(part as Uint8Array);
    lengthBytes += bytes.length;
    if (lengthBytes > REQUEST_BYTES_MAX) throw new RangeError('request is too long');
    parts.push(bytes);
  }
  return Buffer.concat(parts).toString('utf8');
}

/**
 * Time since this process began, with timers that keep it alive: the helper must not end silently
 * while it waits. CLOCK_BOOTTIME is not needed for a life of seconds.
 */
function createProcessClock(): Clock {
  return {
    nowMs: () => Date.now(),
    bootMs: () => performance.now(),
    setTimer(delayMs, fire) {
      const timeout = setTimeout(fire, delayMs);
      return { cancel: () => clearTimeout(timeout) };
    },
  };
}

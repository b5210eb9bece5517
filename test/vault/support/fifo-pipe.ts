// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, read, rmdirSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { SecretPipe, SetKeyHandle } from '../../../src/vault/types.js';

const readFd = promisify(read);

/** A set key whose bytes the test may look at. */
export class TestSetKey implements SetKeyHandle {
  readonly bytes: Buffer;
  wiped = false;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  wipe(): void {
    this.wiped = true;
  }
}

/**
 * The contract of the native pipe, on a FIFO: what a set key's way is without the addon. Remembers
 * its descriptors, so that a test can ask whether all were closed.
 */
export class FifoPipe implements SecretPipe {
  readonly received: TestSetKey[] = [];
  readonly #open = new Set<number>();

  createPipe(): { readFd: number; writeFd: number } {
    const directory = mkdtempSync(join(tmpdir(), 'keyhold-fifo-'));
    const path = join(directory, 'fifo');
    execFileSync('mkfifo', [path]);
    // A reader that does not block lets the writer open, and the writer the blocking reader.
    const opener = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writeFd = openSync(path, constants.O_WRONLY);
    const readFd = openSync(path, constants.O_RDONLY);
    closeSync(opener);
    unlinkSync(path);
    rmdirSync(directory);
    for (const fd of [readFd, writeFd]) this.#open.add(fd);
    return { readFd, writeFd };
  }

  closeFd(fd: number): void {
    closeSync(fd);
    this.#open.delete(fd);
  }

  async receiveSetKey(fd: number): Promise<SetKeyHandle> {
    try {
      const bytes = Buffer.alloc(64);
      let length = 0;
      for (;;) {
        const { bytesRead } = await readFd(fd, bytes, length, bytes.length - length, null);
        if (bytesRead === 0) break;
        length += bytesRead;
      }
      if (length !== 32) throw new Error(`received ${length} bytes, expected 32`);
      const key = new TestSetKey(bytes.subarray(0, 32));
      this.received.push(key);
      return key;
    } finally {
      this.closeFd(fd);
    }
  }

  /** Descriptors that were handed out and not closed. */
  get leaked(): number {
    return this.#open.size;
  }
}

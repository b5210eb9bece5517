// SPDX-License-Identifier: Apache-2.0
import type { Guest } from './guest.js';
import type { ScriptResult } from './shell.js';

/** A revoked or suspended disk ends or resumes it long before. */
const WRITER_MS_MAX = 300_000;

const WRITE = `
i=0
rm -f /tmp/stop /tmp/acknowledged
while [ ! -e /tmp/stop ]; do
  i=$((i + 1))
  dd if=/dev/urandom of=/mnt/file$i bs=16k count=1 conv=fsync 2> /tmp/dd || { cat /tmp/dd; exit 1; }
  md5sum /mnt/file$i >> /tmp/acknowledged
done
`;

/**
 * Writes files under /mnt, one after the other, each with fsync, until it is stopped or an fsync
 * fails. It remembers, outside the disk, what of it was acknowledged.
 */
export class Writer {
  readonly #guest: Guest;
  /** How it ended: status 0 when it was stopped, 1 and the message when a write failed. */
  readonly ended: Promise<ScriptResult>;

  private constructor(guest: Guest) {
    this.#guest = guest;
    this.ended = guest.run(WRITE, { timeoutMs: WRITER_MS_MAX });
    this.ended.catch(() => undefined); // whoever awaits it gets it
  }

  /** Starts it and waits until some files are written. */
  static async start(guest: Guest): Promise<Writer> {
    const writer = new Writer(guest);
    await writer.untilAcknowledged(5);
    return writer;
  }

  async acknowledged(): Promise<number> {
    return Number(await this.#guest.ok('cat /tmp/acknowledged 2> /dev/null | wc -l'));
  }

  async untilAcknowledged(count: number): Promise<void> {
    await this.#guest.ok(
      `until [ "$(cat /tmp/acknowledged 2> /dev/null | wc -l)" -ge ${count} ]; do sleep 0.1; done`,
    );
  }

  async stop(): Promise<ScriptResult> {
    await this.#guest.ok('touch /tmp/stop');
    return this.ended;
  }

  /** Compares every file whose fsync was acknowledged with what stands under /mnt. */
  async check(): Promise<ScriptResult> {
    return this.#guest.run('md5sum -c -s /tmp/acknowledged');
  }
}

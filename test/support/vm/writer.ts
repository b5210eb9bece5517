// SPDX-License-Identifier: Apache-2.0
import type { Guest } from './guest.js';
import type { ScriptResult } from './shell.js';

/** A revoked or suspended disk ends or resumes it long before. */
const WRITER_MS_MAX = 300_000;

/** Of a writer on a file system: its script, and what it leaves outside of that. */
function scriptFor(mount: string): string {
  const file = `${mount}/file$i`;
  return `
i=0
mkdir -p /tmp/writer${mount}
cd /tmp/writer${mount}
rm -f stop acknowledged
while [ ! -e stop ]; do
  i=$((i + 1))
  dd if=/dev/urandom of=${file} bs=16k count=1 conv=fsync 2> dd ||
    { cat dd; exit 1; }
  md5sum ${file} >> acknowledged
done
`;
}

/**
 * Writes files under a mount point, one after the other, each with fsync, until it is stopped or
 * an fsync fails. It remembers, outside the disk, what of it was acknowledged.
 */
export class Writer {
  readonly #guest: Guest;
  readonly #notes: string;
  /** How it ended: status 0 when it was stopped, 1 and the message when a write failed. */
  readonly ended: Promise<ScriptResult>;

  private constructor(guest: Guest, mount: string) {
    this.#guest = guest;
    this.#notes = `/tmp/writer${mount}`;
    this.ended = guest.run(scriptFor(mount), { timeoutMs: WRITER_MS_MAX });
    this.ended.catch(() => undefined); // whoever awaits it gets it
  }

  /** Starts it and waits until some files are written. */
  static async start(guest: Guest, mount = '/mnt'): Promise<Writer> {
    const writer = new Writer(guest, mount);
    await writer.untilAcknowledged(5);
    return writer;
  }

  get #count(): string {
    return `cat ${this.#notes}/acknowledged 2> /dev/null | wc -l`;
  }

  async acknowledged(): Promise<number> {
    return Number(await this.#guest.ok(this.#count));
  }

  async untilAcknowledged(count: number): Promise<void> {
    await this.#guest.ok(`until [ "$(${this.#count})" -ge ${count} ]; do sleep 0.1; done`);
  }

  async stop(): Promise<ScriptResult> {
    await this.#guest.ok(`touch ${this.#notes}/stop`);
    return this.ended;
  }

  /** Compares every file whose fsync was acknowledged with what stands there now. */
  async check(): Promise<ScriptResult> {
    return this.#guest.run(`md5sum -c -s ${this.#notes}/acknowledged`);
  }
}

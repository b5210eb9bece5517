// SPDX-License-Identifier: Apache-2.0

export interface ShellReply {
  readonly id: number;
  readonly status: number;
  readonly output: string;
}

/** A header line is three numbers; whatever is longer is something else that got into the line. */
const HEADER_BYTES_MAX = 64;

/**
 * Takes the bytes of the shell's serial line apart: first a line `ready`, then answers of the form
 * `ID STATUS BYTES\n` and so many bytes. No I/O.
 */
export class ReplyParser {
  #pending = Buffer.alloc(0);
  #ready = false;

  get ready(): boolean {
    return this.#ready;
  }

  /** The answers that are complete with this chunk; throws for anything that is no answer. */
  push(chunk: Uint8Array): ShellReply[] {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    const replies: ShellReply[] = [];
    for (;;) {
      const end = this.#pending.indexOf('\n');
      if (end < 0 && this.#ready && this.#pending.length > HEADER_BYTES_MAX) this.#refuse();
      if (end < 0) return replies;
      if (!this.#ready) {
        // Firmware may have written to the line before.
        this.#ready = this.#pending.subarray(0, end).toString().endsWith('ready');
        this.#pending = this.#pending.subarray(end + 1);
        continue;
      }
      const reply = this.#take(end);
      if (reply === undefined) return replies;
      replies.push(reply);
    }
  }

  #take(headerEnd: number): ShellReply | undefined {
    const header = /^(\d+) (\d+) (\d+)$/.exec(this.#pending.subarray(0, headerEnd).toString());
    if (header === null) return this.#refuse();
    const [id = 0, status = 0, lengthBytes = 0] = header.slice(1).map(Number);
    const from = headerEnd + 1;
    if (this.#pending.length < from + lengthBytes) return undefined;
    const output = this.#pending.subarray(from, from + lengthBytes).toString();
    this.#pending = this.#pending.subarray(from + lengthBytes);
    return { id, status, output };
  }

  #refuse(): never {
    const seen = JSON.stringify(this.#pending.subarray(0, HEADER_BYTES_MAX).toString('latin1'));
    throw new Error(`serial line of the shell: expected ID STATUS BYTES, found ${seen}`);
  }
}

// SPDX-License-Identifier: Apache-2.0

const NOTHING = new Uint8Array(0);

type Want =
  | { readonly kind: 'collect'; readonly receive: (complete: Uint8Array) => void }
  | { readonly kind: 'skip'; readonly receive: () => void };

/**
 * Takes a known number of bytes in any split: either keeps them for whoever asked, or only counts
 * them. Nothing else is ever kept.
 */
export class Intake {
  #want: Want | undefined;
  #kept = NOTHING;
  #lengthBytes = 0;
  #takenBytes = 0;

  /** `receive` gets all of the next `lengthBytes` bytes at once; the caller has bounded them. */
  collect(lengthBytes: number, receive: (complete: Uint8Array) => void): void {
    this.#begin({ kind: 'collect', receive }, lengthBytes);
    this.#kept = new Uint8Array(lengthBytes);
  }

  /** `receive` is called after the next `lengthBytes` bytes, which are dropped. */
  skip(lengthBytes: number, receive: () => void): void {
    this.#begin({ kind: 'skip', receive }, lengthBytes);
  }

  /** Wants nothing more, and lets go of what was kept. */
  end(): void {
    this.#want = undefined;
    this.#kept = NOTHING;
  }

  /** Consumes input up to one completed step; undefined when the input ended before that. */
  take(input: Uint8Array): number | undefined {
    const want = this.#want;
    if (want === undefined) throw new Error('bytes that nobody waits for');
    const taken = Math.min(this.#lengthBytes - this.#takenBytes, input.length);
    if (want.kind === 'collect') this.#kept.set(input.subarray(0, taken), this.#takenBytes);
    this.#takenBytes += taken;
    if (this.#takenBytes < this.#lengthBytes) return undefined;
    const complete = this.#kept;
    this.end();
    want.receive(complete);
    return taken;
  }

  #begin(want: Want, lengthBytes: number): void {
    this.#want = want;
    this.#kept = NOTHING;
    this.#lengthBytes = lengthBytes;
    this.#takenBytes = 0;
  }
}

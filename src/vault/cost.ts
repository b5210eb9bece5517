// SPDX-License-Identifier: Apache-2.0

/*
 * What a call costs its vault. Key Vault publishes how many calls it answers in any 10 s, by size
 * and protection of the key; mixed traffic is summed with these weights, and reading a key weighs
 * as much as using it (reference/keyvault.md section 5):
 *
 *               software    HSM          units of one call
 *   RSA 2048        4000   2000                   1      2
 *   RSA 3072        1000    500                   4      8
 *   RSA 4096         500    250                   8     16
 */

/** The window that the limits are published for. */
export const WINDOW_MS = 10_000;

/** Units that one vault answers in a window; one is a call with a software key of 2048 bits. */
export const WINDOW_UNITS = 4000;

const SOFTWARE_UNITS: ReadonlyArray<readonly [maxBits: number, units: number]> = [
  [2048, 1],
  [3072, 4],
  [4096, 8],
];

const HSM_FACTOR = 2;

/** Keys that are remembered; more than one vault is ever probed for. */
const KEYS_MAX = 10_000;

/** Reading a key about which nothing is known yet. */
const UNKNOWN_UNITS = unitsOf(4096, false);

/** What a call costs. An unknown protection counts as HSM, an unknown size as the largest. */
export function unitsOf(sizeBits: number, hsm: boolean | undefined): number {
  const [, units = 8] = SOFTWARE_UNITS.find(([maxBits]) => sizeBits <= maxBits) ?? [];
  return hsm === false ? units : units * HSM_FACTOR;
}

/** What is known of the keys that calls are made with, as far as it decides the price. */
export class KeyCosts {
  readonly #protections = new Map<string, boolean>();
  readonly #reads = new Map<string, number>();

  /** A wrapped value is as long as the key's modulus, so the size needs no look at the key. */
  ofUnwrap(kid: string, wrappedBytes: number): number {
    return unitsOf(wrappedBytes * 8, this.#protections.get(kid));
  }

  ofRead(url: string): number {
    return this.#reads.get(url) ?? UNKNOWN_UNITS;
  }

  learn(url: string, key: { kid: string; sizeBits: number; hsm?: boolean | undefined }): void {
    for (const known of [this.#protections, this.#reads]) {
      if (known.size >= KEYS_MAX) known.clear();
    }
    if (key.hsm !== undefined) this.#protections.set(key.kid, key.hsm);
    this.#reads.set(url, unitsOf(key.sizeBits, key.hsm));
  }
}

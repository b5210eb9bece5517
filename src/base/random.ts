// SPDX-License-Identifier: Apache-2.0
import { randomBytes, randomUUID } from 'node:crypto';

/** Randomness that is no key (salts, canaries, jitter, ids), handed in so that tests can fix it. */
export interface Random {
  bytes(lengthBytes: number): Uint8Array;
  uuid(): string;
  /** A number in [0, 1). */
  fraction(): number;
}

export function createSystemRandom(): Random {
  return {
    bytes: (lengthBytes) => new Uint8Array(randomBytes(lengthBytes)),
    uuid: () => randomUUID(),
    fraction: () => Math.random(),
  };
}

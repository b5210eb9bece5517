// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import type { Random } from '../../src/base/random.js';

/** Randomness that no jitter comes from: `fraction` is fixed. */
export function fixedRandom(fraction = 0): Random {
  let count = 0;
  return {
    bytes: (lengthBytes) => new Uint8Array(randomBytes(lengthBytes)),
    uuid: () => {
      count += 1;
      return `00000000-0000-4000-8000-${String(count).padStart(12, '0')}`;
    },
    fraction: () => fraction,
  };
}

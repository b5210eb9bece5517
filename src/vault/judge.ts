// SPDX-License-Identifier: Apache-2.0
import { timingSafeEqual } from 'node:crypto';
import { type Classified, classify } from './classify.js';
import type { UnwrapOutcome } from './client.js';

/** What an unwrap of a value with a known plaintext says about access. */
export function judge({ plaintext, description }: UnwrapOutcome, expected: Uint8Array): Classified {
  if (plaintext === undefined) return classify(description);
  const canaryMatched =
    plaintext.length === expected.length && timingSafeEqual(plaintext, expected);
  return classify({ ...description, canaryMatched });
}

// SPDX-License-Identifier: Apache-2.0
import { assertGeneration, uuidBytes } from './aad-fields.js';

const MAGIC = 'keyhold-set\0';
const AAD_FORMAT_VERSION = 1;
export const SET_KEY_AAD_BYTES = 40;

/** What a set key that the platform key seals is kept for; one does not open as the other. */
export type SetKeyPurpose = 'platform' | 'availability';

const PURPOSES: Readonly<Record<SetKeyPurpose, number>> = { platform: 1, availability: 2 };

/**
 * The additional data that binds a set key sealed by the platform key to its set, generation and
 * purpose. Fixed length, so no two inputs give the same bytes.
 *
 *   0            12             16           20            36                 40
 *   │ magic      │ version u32  │ purpose u32│ set uuid    │ set key gen. u32 │
 */
export function encodeSetKeyAad(binding: {
  readonly purpose: SetKeyPurpose;
  readonly setId: string;
  readonly setKeyGeneration: number;
}): Uint8Array {
  const aad = Buffer.alloc(SET_KEY_AAD_BYTES);
  aad.write(MAGIC, 0, 'latin1');
  aad.writeUInt32BE(AAD_FORMAT_VERSION, 12);
  aad.writeUInt32BE(PURPOSES[binding.purpose], 16);
  aad.set(uuidBytes(binding.setId, 'setId'), 20);
  aad.writeUInt32BE(assertGeneration(binding.setKeyGeneration, 'setKeyGeneration'), 36);
  return new Uint8Array(aad);
}

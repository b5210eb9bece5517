// SPDX-License-Identifier: Apache-2.0
import { assertGeneration, uuidBytes } from './aad-fields.js';

const MAGIC = 'keyhold-dek\0';
const AAD_FORMAT_VERSION = 1;
/** Of the outer layer's DEK: what was sealed for one layer never opens as the other's. */
const OUTER_AAD_FORMAT_VERSION = 2;
export const DEK_AAD_BYTES = 56;

/**
 * The additional data that binds a sealed DEK to its disk, set and generations: moved into another
 * header, or paired with an older set key, it does not open. Fixed length, so no two inputs give
 * the same bytes.
 *
 *   0            12             16              32            48                 52             56
 *   │ magic      │ version u32  │ disk uuid     │ set uuid    │ set key gen. u32 │ DEK gen. u32 │
 *
 * The magic is the ASCII text `keyhold-dek` with a zero byte; integers are big-endian; uuids are
 * the 16 bytes of RFC 9562 in the order in which they are written.
 */
export function encodeDekAad(binding: {
  readonly diskUuid: string;
  readonly setId: string;
  readonly setKeyGeneration: number;
  readonly dekGeneration: number;
}): Uint8Array {
  const aad = Buffer.alloc(DEK_AAD_BYTES);
  aad.write(MAGIC, 0, 'latin1');
  aad.writeUInt32BE(AAD_FORMAT_VERSION, 12);
  aad.set(uuidBytes(binding.diskUuid, 'diskUuid'), 16);
  aad.set(uuidBytes(binding.setId, 'setId'), 32);
  aad.writeUInt32BE(assertGeneration(binding.setKeyGeneration, 'setKeyGeneration'), 48);
  aad.writeUInt32BE(assertGeneration(binding.dekGeneration, 'dekGeneration'), 52);
  return new Uint8Array(aad);
}

/**
 * The same for the outer DEK of a disk that is encrypted twice. It belongs to the host and not to a
 * set, so that a disk can move to another set: set uuid and set key generation are zero.
 */
export function encodeOuterDekAad(binding: {
  readonly diskUuid: string;
  readonly dekGeneration: number;
}): Uint8Array {
  const aad = Buffer.alloc(DEK_AAD_BYTES);
  aad.write(MAGIC, 0, 'latin1');
  aad.writeUInt32BE(OUTER_AAD_FORMAT_VERSION, 12);
  aad.set(uuidBytes(binding.diskUuid, 'diskUuid'), 16);
  aad.writeUInt32BE(assertGeneration(binding.dekGeneration, 'dekGeneration'), 52);
  return new Uint8Array(aad);
}

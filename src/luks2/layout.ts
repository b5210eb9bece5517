// SPDX-License-Identifier: Apache-2.0

/*
 * Where things lie in a store (reference: LUKS2 On-Disk Format Specification):
 *
 *   0         16 KiB       32 KiB                               16 MiB
 *   │ primary │ secondary  │ keyslots area (empty, kept free)   │ data …
 *
 * and in each of the two copies:
 *
 *   0               4096                                   16384
 *   │ binary header │ JSON text, then zero bytes to the end │
 */

/** One copy: binary header and JSON area (`hdr_size`). The smallest size that LUKS2 allows. */
export const HEADER_BYTES = 16_384;

export const PRIMARY_OFFSET_BYTES = 0;
export const SECONDARY_OFFSET_BYTES = HEADER_BYTES;

/** The binary header at the start of each copy. */
export const BINARY_HEADER_BYTES = 4096;

/** The JSON area of each copy (`config.json_size`); its last byte is always zero. */
export const JSON_AREA_BYTES = HEADER_BYTES - BINARY_HEADER_BYTES;

export const KEYSLOTS_OFFSET_BYTES = 2 * HEADER_BYTES;

/** Where sector 0 begins: cryptsetup's default, with room for a re-encryption journal before it. */
export const DATA_OFFSET_BYTES = 16 * 1024 * 1024;

/** `config.keyslots_size`; a multiple of 4096 as LUKS2 demands. */
export const KEYSLOTS_BYTES = DATA_OFFSET_BYTES - KEYSLOTS_OFFSET_BYTES;

/** Random bytes in each copy's binary header; new for every write of every copy. */
export const SALT_BYTES = 64;

/** The label's field is 48 bytes with a terminating zero. */
export const LABEL_BYTES_MAX = 47;

/** The other header sizes that LUKS2 allows: what cryptsetup makes with --luks2-metadata-size. */
export const FOREIGN_HEADER_BYTES: readonly number[] = [
  32, 64, 128, 256, 512, 1024, 2048, 4096,
].map((kib) => kib * 1024);

// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_LUKS2_NOT_LUKS: {
    kind: 'invalid',
    summary: 'The store does not begin with a LUKS header.',
    hint: 'check the store path; `blkid -p PATH` shows what the store holds',
  },
  ERR_LUKS2_VERSION: {
    kind: 'invalid',
    summary: 'The store holds a LUKS header of another version than 2.',
    hint: 'Keyhold serves only disks that it created itself; open this one with cryptsetup',
  },
  ERR_LUKS2_NOT_KEYHOLD: {
    kind: 'invalid',
    summary: 'The store holds a LUKS2 container that Keyhold did not make.',
    hint: 'Keyhold serves only disks that it created itself; open this one with cryptsetup',
  },
  ERR_LUKS2_TOKEN_VERSION: {
    kind: 'invalid',
    summary: 'The header was written by a Keyhold with a newer header format.',
    hint: 'update Keyhold to at least the version that wrote the header',
  },
  ERR_LUKS2_REQUIREMENT: {
    kind: 'invalid',
    summary: 'The header demands a feature that this version does not know.',
    hint: 'update Keyhold, or finish the operation with the tool that began it',
  },
  ERR_LUKS2_LAYER: {
    kind: 'integrity',
    summary: 'The header belongs to the other layer of double encryption.',
    hint: "the record and the store do not fit together: check that the store is this disk's",
  },
  ERR_LUKS2_DAMAGED: {
    kind: 'integrity',
    summary: 'Neither copy of the header can be read.',
    hint: 'restore the first 32 KiB of the store from a backup (`cryptsetup luksHeaderRestore`)',
  },
  ERR_LUKS2_METADATA: {
    kind: 'invalid',
    summary: 'A header with these contents cannot be written.',
    hint: 'correct the field that the message names',
  },
  ERR_LUKS2_TOO_LARGE: {
    kind: 'invalid',
    summary: 'The contents do not fit into the header.',
    hint: 'use fewer customer keys in the set, or shorter names',
  },
});

// SPDX-License-Identifier: Apache-2.0
import { defineErrors, KeyholdError } from './errors.js';

const codes = defineErrors({
  ERR_NAME: {
    kind: 'invalid',
    summary: 'A name has characters or a length that names of sets and disks may not have.',
    hint: 'use a letter or digit, then up to 63 letters, digits, dots, underscores or hyphens',
  },
});

/**
 * What a set or a disk may be called: safe as a file name, an export name and a label of a metric.
 */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const SHOWN_CHARACTERS_MAX = 80;

/** Throws ERR_NAME; `what` is `disk` or `encryption set`. */
export function validateName(name: string, what: string): void {
  if (NAME_PATTERN.test(name)) return;
  throw new KeyholdError(
    codes.ERR_NAME,
    `cannot name ${/^[aeiou]/.test(what) ? 'an' : 'a'} ${what} ${quoteName(name)} (${name.length} characters): expected a letter or ` +
      `digit, then up to 63 letters, digits, ".", "_" or "-"`,
    { fields: { name: name.slice(0, SHOWN_CHARACTERS_MAX) } },
  );
}

/**
 * A name in quotes, everything escaped that a terminal would obey or hide, and cut to a sane
 * length.
 */
export function quoteName(name: string): string {
  const shown = JSON.stringify(name.slice(0, SHOWN_CHARACTERS_MAX)).replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
  return name.length > SHOWN_CHARACTERS_MAX ? `${shown}…` : shown;
}

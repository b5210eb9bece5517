// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { quoteName } from '../base/names.js';
import { codes } from './errors.js';

/** Bytes in UTF-8 that a string of the NBD protocol should not exceed; it must not exceed 4096. */
export const DESCRIPTION_BYTES_MAX = 256;

/** Controls, invisible format characters, lone surrogates and line separators: it is one line. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

/** What a disk's description has that NBD clients and terminals must not get; else undefined. */
export function descriptionFault(text: string): string | undefined {
  const lengthBytes = Buffer.byteLength(text);
  if (lengthBytes > DESCRIPTION_BYTES_MAX) {
    return `${lengthBytes} bytes in UTF-8, expected at most ${DESCRIPTION_BYTES_MAX}`;
  }
  const found = UNPRINTABLE.exec(text);
  if (found === null) return undefined;
  const code = (found[0].codePointAt(0) ?? 0).toString(16).padStart(4, '0');
  return `U+${code} at index ${found.index}, expected one line of printable characters`;
}

/** Throws ERR_DISK_OPTION. */
export function validateDescription(disk: string, text: string): void {
  const fault = descriptionFault(text);
  if (fault === undefined) return;
  throw new KeyholdError(
    codes.ERR_DISK_OPTION,
    `creating disk ${disk}: description ${quoteName(text)} has ${fault}`,
    { fields: { disk } },
  );
}

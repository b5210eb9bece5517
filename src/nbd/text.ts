// SPDX-License-Identifier: Apache-2.0

/** Characters of a client's string that a message repeats (CVE-2020-10761 had no bound). */
const PRINTED_CHARACTERS_MAX = 64;

/** A client's string, fit for an error text or a log line: quoted, bounded, no controls. */
export function printable(text: string): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '?');
  const characters = Array.from(clean);
  if (characters.length <= PRINTED_CHARACTERS_MAX) return `"${clean}"`;
  return `"${characters.slice(0, PRINTED_CHARACTERS_MAX).join('')}…"`;
}

/** A name from the wire: UTF-8 without zero bytes; undefined when it is something else. */
export function decodeName(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

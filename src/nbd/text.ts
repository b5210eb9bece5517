// SPDX-License-Identifier: Apache-2.0

/** Characters of a client's string that a message repeats (CVE-2020-10761 had no bound). */
const PRINTED_CHARACTERS_MAX = 64;

/** Characters of a text that an error reply carries: at most 4096 bytes in UTF-8. */
const MESSAGE_CHARACTERS_MAX = 1024;

/** A client's string, fit for an error text or a log line: quoted, bounded, no controls. */
export function printable(text: string): string {
  return `"${clean(text, PRINTED_CHARACTERS_MAX)}"`;
}

/** The text of an error reply: within the protocol's bound for strings, whoever composed it. */
export function messageText(text: string): string {
  return clean(text, MESSAGE_CHARACTERS_MAX);
}

/** One line without controls, of at most so many characters with the mark of a cut included. */
function clean(text: string, charactersMax: number): string {
  const characters = Array.from(text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '?'));
  if (characters.length <= charactersMax) return characters.join('');
  return `${characters.slice(0, charactersMax - 1).join('')}…`;
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

// SPDX-License-Identifier: Apache-2.0
import type { TextSink } from './io.js';

/**
 * Makes control characters visible. Names and messages come from the daemon, from vaults and from
 * files; none of them may move the cursor or set the title of an operator's terminal.
 */
export function plain(text: string): string {
  // C0, DEL and C1 controls; line and paragraph separators; bidirectional overrides.
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

const PAINTS = { red: 31, green: 32, yellow: 33, bold: 1, dim: 2 } as const;
export type Paint = keyof typeof PAINTS;

/** Colours text when the sink is a terminal that wants it. */
export function paint(
  sink: Pick<TextSink, 'color'>,
  text: string,
  style: Paint | undefined,
): string {
  if (!sink.color || style === undefined) return text;
  return `\u001b[${PAINTS[style]}m${text}\u001b[0m`;
}

/** At most so many characters of a line that `paint` has coloured; colours take no room. */
export function clip(line: string, columns: number): string {
  let room = columns;
  let clipped = '';
  for (const [part] of line.matchAll(/\u001b\[[0-9;]*m|[\s\S]/gu)) {
    if (part.startsWith('\u001b[')) clipped += part;
    else if (room > 0) {
      clipped += part;
      room -= 1;
    }
  }
  return clipped;
}

// SPDX-License-Identifier: Apache-2.0

/* Text as the macros of man(7) want it. Pure ASCII, so that any formatter takes it. */

/** Text within a line. */
export function escape(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('`', '\\(ga')
    .replaceAll("'", '\\(aq')
    .replaceAll('"', '\\(dq')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replace(/[^\x00-\x7f]/gu, (character) => {
      const code = character.codePointAt(0) ?? 0;
      return `\\[u${code.toString(16).toUpperCase().padStart(4, '0')}]`;
    });
}

/** A line of text: one that begins with a dot would be taken for a macro. */
export function line(text: string): string {
  const escaped = escape(text);
  return escaped.startsWith('.') ? `\\&${escaped}` : escaped;
}

/** Bold words, and their places in italics: `--set <name>`. */
export function bold(text: string): string {
  const marked = escape(text).replace(/&lt;|<([^<>]+)>/g, '\\fR<\\fI$1\\fR>\\fB');
  return `\\fB${marked}\\fR`.replaceAll('\\fB\\fR', '');
}

/** Lines that stay as they are: what stands in columns, and examples. */
export function verbatim(text: string): string[] {
  return ['.PP', '.nf', ...text.split('\n').map((one) => line(one) || '\\&'), '.fi'];
}

export function item(term: string, text: string): string[] {
  return ['.TP', term, line(text)];
}

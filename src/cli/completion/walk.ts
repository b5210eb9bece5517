// SPDX-License-Identifier: Apache-2.0
import type { CommandNode, OptionNode, ValueNode } from '../tree.js';

/* What the scripts of all shells have in common: the tree in their words. */

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** Names of the hidden command that prints the daemon's disks and sets; silent when it cannot. */
export const NAMES_COMMAND = 'complete-names';

/** How scripts write what completes a value: a kind, or `=` and the words that it may be. */
export function kindText({ kind, choices }: ValueNode): string {
  return choices === null ? kind : `=${choices.join(',')}`;
}

/** ` disk show`, the empty text for the program: what the scripts' case statements compare. */
export function pathText(node: CommandNode): string {
  return node.path.map((name) => ` ${name}`).join('');
}

export function spellings({ long, short }: OptionNode): string[] {
  return [long, short ?? ''].filter((text) => text !== '');
}

/** In single quotes, for any shell: fish alone also takes a backslash for more than itself. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

// SPDX-License-Identifier: Apache-2.0
import { Argument, type Command } from 'commander';
import { assertNever } from '../../base/errors.js';
import { NAMES_COMMAND, type Shell, SHELLS } from '../completion/walk.js';
import {
  addCommand,
  addCommonOptions,
  type CliContext,
  isJson,
  print,
  printJson,
  socketOf,
} from '../context.js';
import { readTree } from '../tree.js';

/** Nobody who pressed Tab waits longer. */
const NAMES_MS_MAX = 2000;

const HELP = `
bash: source <(keyhold completion bash), or a file keyhold in
      ~/.local/share/bash-completion/completions
zsh:  a file _keyhold in a directory of $fpath
fish: keyhold completion fish | source, or a file keyhold.fish in ~/.config/fish/completions
Names of disks and sets come from the daemon when it can be reached.`;

export function addCompletionCommands(program: Command, context: CliContext): void {
  addCommand(program, 'completion', 'print a script that completes commands in your shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .addHelpText('after', HELP)
    .action(async (shell: Shell, _options: object, command: Command) => {
      const script = await scriptOf(shell, program);
      if (isJson(command)) printJson(context, { shell, script });
      else print(context, script);
    });
  addCommonOptions(program.command(NAMES_COMMAND, { hidden: true }))
    .addArgument(new Argument('<what>').choices(['disk', 'set']))
    .action(async (what: 'disk' | 'set', _options: object, command: Command) => {
      const names = await namesOf(context, command, what);
      if (isJson(command)) printJson(context, { names });
      else print(context, names.map((name) => `${name}\n`).join(''));
    });
}

async function scriptOf(shell: Shell, program: Command): Promise<string> {
  const tree = readTree(program);
  switch (shell) {
    case 'bash':
      return (await import('../completion/bash.js')).bashCompletion(tree);
    case 'zsh':
      return (await import('../completion/zsh.js')).zshCompletion(tree);
    case 'fish':
      return (await import('../completion/fish.js')).fishCompletion(tree);
    default:
      return assertNever(shell, 'shell');
  }
}

/** Whatever goes wrong: a message in the middle of a command line helps nobody. */
async function namesOf(
  context: CliContext,
  command: Command,
  what: 'disk' | 'set',
): Promise<string[]> {
  try {
    const { createAdminClient } = await import('../../admin/client.js');
    const socketPath = socketOf(context, command);
    const client = createAdminClient({ socketPath, timeoutMs: NAMES_MS_MAX });
    const found = what === 'disk' ? await client.listDisks() : await client.listSets();
    return found.map(({ name }) => name);
  } catch {
    return [];
  }
}

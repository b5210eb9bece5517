// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { type CliContext, print } from '../context.js';
import { describeExitCodes } from '../exit-codes.js';

export function addHelpCommand(program: Command, context: CliContext): void {
  program
    .command('help [command...]')
    .description('show help for a command, or: keyhold help exit-codes')
    .action((path: string[]) => {
      if (path.join(' ') === 'exit-codes') {
        print(context, `${describeExitCodes()}\n`);
        return;
      }
      path.reduce((command, name) => find(command, name), program).outputHelp();
    });
}

function find(parent: Command, name: string): Command {
  const found = parent.commands.find((command) => command.name() === name);
  if (found !== undefined) return found;
  return parent.error(`error: cannot show help: unknown command '${name}'`, {
    code: 'commander.unknownCommand',
  });
}

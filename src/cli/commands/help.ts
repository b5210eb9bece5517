// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { addOutputOptions, type CliContext, isJson, print, printJson } from '../context.js';
import { describeExitCodes, exitCodeMeanings } from '../exit-codes.js';
import { readTree } from '../tree.js';

export function addHelpCommand(program: Command, context: CliContext): void {
  addOutputOptions(program.command('help [command...]'), 'print the command line as JSON')
    .description('show help for a command, or: keyhold help exit-codes')
    .action((path: string[], _options: object, command: Command) => {
      const json = isJson(command);
      if (path.join(' ') === 'exit-codes') {
        const codes = exitCodeMeanings().map(([code, meaning]) => ({ code, meaning }));
        if (json) printJson(context, { exitCodes: codes });
        else print(context, `${describeExitCodes()}\n`);
        return;
      }
      const found = path.reduce((parent, name) => find(parent, name), program);
      if (json) printJson(context, readTree(found, path));
      else found.outputHelp();
    });
}

function find(parent: Command, name: string): Command {
  const found = parent.commands.find((command) => command.name() === name);
  if (found !== undefined) return found;
  return parent.error(`error: cannot show help: unknown command '${name}'`, {
    code: 'commander.unknownCommand',
  });
}

// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { addCommand, type CliContext, connect, isJson, print, printJson } from '../context.js';
import { plain } from '../text.js';

export function addReloadCommand(program: Command, context: CliContext): void {
  addCommand(program, 'reload', 'read the TLS certificate, keys and client CA anew')
    .addHelpText(
      'after',
      '\nConnected clients stay. A file that cannot be used leaves everything as it was.\n' +
        'SIGHUP does the same.',
    )
    .action(async (_options: object, command: Command) => {
      const result = await (await connect(context, command)).reload();
      if (isJson(command)) {
        printJson(context, result);
        return;
      }
      const lines = result.files.map(({ part, path }) => `reloaded ${part}: ${plain(path)}\n`);
      print(context, lines.join('') || 'nothing to reload: the config names no TLS files\n');
    });
}

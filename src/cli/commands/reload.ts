// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { addCommand, type CliContext, connect, isJson, print, printJson } from '../context.js';
import { plain } from '../text.js';

export function addReloadCommand(program: Command, context: CliContext): void {
  addCommand(program, 'reload', 'read the config, and the TLS files that it names, anew')
    .addHelpText(
      'after',
      '\nConnected clients stay. A file that cannot be used leaves everything as it was, and so does a\n' +
        'change that needs a restart: the message names the keys. SIGHUP does the same.',
    )
    .action(async (_options: object, command: Command) => {
      const result = await (await connect(context, command)).reload();
      if (isJson(command)) {
        printJson(context, result);
        return;
      }
      const lines = [
        ...result.changed.map((name) => `changed ${plain(name)}\n`),
        ...result.files.map(({ part, path }) => `reloaded ${part}: ${plain(path)}\n`),
      ];
      print(context, lines.join('') || 'nothing changed, and the config names no TLS files\n');
    });
}

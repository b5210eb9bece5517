// SPDX-License-Identifier: Apache-2.0
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { addCommand, addGroup, type CliContext, isJson, print, printJson } from '../context.js';
import { plain } from '../text.js';

export function addPlatformKeyCommands(program: Command, context: CliContext): void {
  const group = addGroup(program, 'platform-key', "this host's own key, beside those of the vault");
  addCommand(group, 'init <file>', 'make a new platform key in a new file')
    .addHelpText(
      'after',
      '\nThe file has mode 0600 and is never overwritten. Whoever has it and the stores can open what\n' +
        'it seals, and nobody can revoke it: keep it apart from the stores, and a copy of it safe.',
    )
    .action(async (file: string, _options: object, command: Command) => {
      const path = resolve(file);
      const { loadAddon } = await import('../../dataplane/load.js');
      const { createPlatformKeyFile } = await import('../../dataplane/platform-key.js');
      const { id } = createPlatformKeyFile(loadAddon(), path);
      if (isJson(command)) {
        printJson(context, { id, file: path });
        return;
      }
      print(
        context,
        `platform key ${id} made in ${plain(path)}\n` +
          'for the config, read when the daemon starts:\n\n' +
          `[platform_key]\nfile = ${JSON.stringify(path)}\n`,
      );
    });
}

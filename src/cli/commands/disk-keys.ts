// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import {
  addCommand,
  type CliContext,
  connect,
  isJson,
  notEmpty,
  print,
  printJson,
  printNext,
} from '../context.js';
import { plain } from '../text.js';
import { stateOf } from '../views/disk.js';

/** Commands on the key of one disk: docs/KEYS.md sections 2 and 6. */
export function addDiskKeyCommands(disk: Command, context: CliContext): void {
  addCommand(disk, 'move <name>', 'put a disk under the key of another set, online')
    .addOption(
      new Option('--set <name>', 'the set that it is to belong to')
        .argParser(notEmpty)
        .makeOptionMandatory(),
    )
    .action(async (name: string, { set }: { set: string }, command: Command) => {
      const view = await (await connect(context, command)).moveDisk(name, { set });
      if (isJson(command)) {
        printJson(context, view);
        return;
      }
      print(context, `disk ${plain(view.name)} belongs to set ${plain(view.set)}\n`);
      printNext(context, `keyhold set show ${view.set}`);
    });
  addCommand(disk, 'erase <name>', 'destroy the key of an offline disk: its data is gone for ever')
    .addOption(
      new Option('--confirm <name>', 'the name of the disk, once more').makeOptionMandatory(),
    )
    .action(async (name: string, { confirm }: { confirm: string }, command: Command) => {
      const view = await (await connect(context, command)).eraseDisk(name, { confirm });
      if (isJson(command)) {
        printJson(context, view);
        return;
      }
      print(context, `disk ${plain(view.name)}: ${stateOf(view)}\n`);
      printNext(context, `keyhold disk delete ${view.name}`);
    });
}

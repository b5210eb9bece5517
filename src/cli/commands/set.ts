// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { CheckResult } from '../../admin/api-sets.js';
import { assertNever } from '../../base/errors.js';
import {
  addCommand,
  addGroup,
  type CliContext,
  connect,
  isJson,
  print,
  printJson,
  printNext,
} from '../context.js';
import { EXIT_CODES, type ExitCode } from '../exit-codes.js';
import { plain } from '../text.js';
import { addDrillCommand } from './set-drill.js';
import { addKeyCommands } from './set-keys.js';
import { addCreateCommand, addUpdateCommand } from './set-policy.js';
import { formatCheck, formatSet, formatSetList } from '../views/set.js';

export function addSetCommands(program: Command, context: CliContext): void {
  const set = addGroup(program, 'set', 'encryption sets: which key, which identity, which policy');
  addCreateCommand(set, context);
  addUpdateCommand(set, context);
  addKeyCommands(set, context);
  addDrillCommand(set, context);
  addCommand(set, 'list', 'list the sets').action(async (_options: object, command: Command) => {
    const sets = await (await connect(context, command)).listSets();
    if (isJson(command)) printJson(context, { sets });
    else print(context, formatSetList(context.io, sets));
  });
  addCommand(set, 'show <name>', 'show a set: keys, verdicts, lease, disks').action(
    async (name: string, _options: object, command: Command) => {
      const view = await (await connect(context, command)).showSet(name);
      if (isJson(command)) printJson(context, view);
      else print(context, formatSet(context.io, view));
    },
  );
  addCommand(set, 'check <name>', 'probe the keys now and act on what they say')
    .addHelpText('after', '\nExits with 5 when a key is denied, 6 when the vault gave no answer.')
    .action(async (name: string, _options: object, command: Command) => {
      const result = await (await connect(context, command)).checkSet(name);
      context.exitCode = exitCodeOfCheck(result);
      if (isJson(command)) {
        printJson(context, result);
        return;
      }
      print(context, formatCheck(context.io, result));
      if (context.exitCode !== EXIT_CODES.ok) printNext(context, `keyhold doctor ${result.set}`);
    });
  addCommand(set, 'delete <name>', 'delete a set that no disk belongs to').action(
    async (name: string, _options: object, command: Command) => {
      await (await connect(context, command)).deleteSet(name);
      if (isJson(command)) printJson(context, {});
      else print(context, `set ${plain(name)} deleted\n`);
    },
  );
}

/** So that `keyhold set check SET && …` does what it says. */
function exitCodeOfCheck({ verdict }: CheckResult): ExitCode {
  switch (verdict) {
    case 'PROOF':
    case null:
      return EXIT_CODES.ok;
    case 'DENIED':
      return EXIT_CODES.keyInaccessible;
    case 'NO-ANSWER':
      return EXIT_CODES.unavailable;
    default:
      return assertNever(verdict, 'verdict');
  }
}

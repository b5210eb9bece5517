// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import { type Impact, SCENARIOS, type SetView } from '../../admin/api-sets.js';
import { KeyholdError } from '../../base/errors.js';
import {
  addCommand,
  type CliContext,
  connect,
  isJson,
  print,
  printJson,
  printNext,
} from '../context.js';
import { codes } from '../errors.js';
import { EXIT_CODES } from '../exit-codes.js';
import { formatImpact, formatPurge } from '../views/set-keys.js';
import { formatSet } from '../views/set.js';

/** What is done with the keys of a set: docs/KEYS.md. */
export function addKeyCommands(set: Command, context: CliContext): void {
  addCommand(set, 'rotate <name>', 'look for newer versions of the keys now, and rewrap').action(
    async (name: string, _options: object, command: Command) => {
      const view = await (await connect(context, command)).rotateSet(name);
      if (isJson(command)) printJson(context, view);
      else printRewrapped(context, view);
    },
  );
  addAssign(set, context);
  addImpact(set, context);
  addPurge(set, context);
}

function addAssign(set: Command, context: CliContext): void {
  addCommand(set, 'assign-key <name> [url]', 'put the set on another customer key')
    .addOption(new Option('--platform', 'turn customer keys off: use the platform key'))
    .addOption(new Option('--second', 'replace or add the second customer key'))
    .action(
      async (
        name: string,
        url: string | undefined,
        options: { platform?: true; second?: true },
        command: Command,
      ) => {
        if ((url === undefined) !== (options.platform === true)) {
          throw new KeyholdError(
            codes.ERR_CLI_USAGE,
            `assigning a key to set ${name}: expected either a URL or --platform, got ` +
              (url === undefined ? 'neither' : 'both'),
          );
        }
        const target = url === undefined ? {} : { keyUrl: url };
        const slot = options.second === true ? { slot: 2 as const } : {};
        const client = await connect(context, command);
        const view = await client.assignKey(name, { ...target, ...slot });
        if (isJson(command)) printJson(context, view);
        else printRewrapped(context, view);
      },
    );
}

/** An old version that nothing needs any more is what one wants to be rid of next. */
function printRewrapped(context: CliContext, view: SetView): void {
  print(context, formatSet(context.io, view));
  const old = [...view.keys.filter(({ role }) => role !== 'current'), ...view.retired];
  const version = old
    .find(({ safeToDisable }) => safeToDisable === true)
    ?.id.split('/')
    .at(-1);
  const set = `keyhold set ${version === undefined ? 'show' : 'impact'} ${view.name}`;
  printNext(context, version === undefined ? set : `${set} --key-version ${version}`);
}

function addImpact(set: Command, context: CliContext): void {
  addCommand(set, 'impact <name>', 'what would happen now, and to whom; nothing is changed')
    .addOption(
      new Option('--scenario <what>', 'a key is disabled or deleted, or no vault answers')
        .choices(SCENARIOS)
        .default('disable'),
    )
    .addOption(new Option('--key-version <version>', 'which key version (else those in use)'))
    .action(
      async (
        name: string,
        options: { scenario: Impact['scenario']; keyVersion?: string },
        command: Command,
      ) => {
        const { scenario, keyVersion } = options;
        const query = { scenario, ...(keyVersion === undefined ? {} : { keyVersion }) };
        const impact = await (await connect(context, command)).impactOfSet(name, query);
        if (isJson(command)) printJson(context, impact);
        else print(context, formatImpact(context.io, impact));
      },
    );
}

function addPurge(set: Command, context: CliContext): void {
  addCommand(set, 'purge <name>', 'destroy every way to the data of a set, for ever')
    .addOption(
      new Option('--confirm <name>', 'the name of the set, once more').makeOptionMandatory(),
    )
    .addHelpText(
      'after',
      '\nEvery customer key must be denied first. Exits with 6 while a store cannot be written;' +
        '\nthe purge then goes on by itself.',
    )
    .action(async (name: string, { confirm }: { confirm: string }, command: Command) => {
      const receipt = await (await connect(context, command)).purgeSet(name, { confirm });
      if (receipt.finishedAt === null) context.exitCode = EXIT_CODES.unavailable;
      if (isJson(command)) {
        printJson(context, receipt);
        return;
      }
      print(context, formatPurge(name, receipt));
      const [disk] = receipt.erased;
      if (receipt.finishedAt === null) printNext(context, `keyhold set show ${name}`);
      else if (disk === undefined) printNext(context, `keyhold set delete ${name}`);
      else printNext(context, `keyhold disk delete ${disk}`);
    });
}

// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { CheckResult } from '../../admin/api.js';
import { assertNever } from '../../base/errors.js';
import { parseDurationMs } from '../../base/units.js';
import {
  addCommand,
  addGroup,
  type CliContext,
  connect,
  isJson,
  notEmpty,
  parsedBy,
  print,
  printJson,
  printNext,
} from '../context.js';
import { EXIT_CODES, type ExitCode } from '../exit-codes.js';
import { plain } from '../text.js';
import { formatCheck, formatSet, formatSetList } from '../views/set.js';

interface CreateOptions {
  readonly key: string;
  readonly identity?: string;
  readonly onRevoke: 'immediate' | 'restart';
  readonly probeInterval?: number;
  readonly lease?: number;
  readonly suspendTimeout?: number;
  readonly allowPurgeable?: true;
  readonly holdOnHeal?: true;
}

export function addSetCommands(program: Command, context: CliContext): void {
  const set = addGroup(program, 'set', 'encryption sets: which key, which identity, which policy');
  addCreate(set, context);
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
      if (isJson(command)) printJson(context, result);
      else print(context, formatCheck(context.io, result));
    });
  addCommand(set, 'delete <name>', 'delete a set that no disk belongs to').action(
    async (name: string, _options: object, command: Command) => {
      await (await connect(context, command)).deleteSet(name);
      if (isJson(command)) printJson(context, {});
      else print(context, `set ${plain(name)} deleted\n`);
    },
  );
}

function addCreate(set: Command, context: CliContext): void {
  const duration = (flags: string, description: string): Option =>
    new Option(flags, description).argParser(parsedBy(parseDurationMs));
  addCommand(set, 'create <name>', 'create a set on a customer key in a vault')
    .addOption(
      new Option('--key <url>', 'URL of the RSA key, with or without a version')
        .argParser(notEmpty)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option(
        '--identity <name>',
        'identity of the config (else the only one there is)',
      ).argParser(notEmpty),
    )
    .addOption(
      new Option('--on-revoke <mode>', 'disks go offline at once, or at their next restart')
        .choices(['immediate', 'restart'])
        .default('immediate'),
    )
    .addOption(duration('--probe-interval <time>', 'time between two probes, such as 5s'))
    .addOption(duration('--lease <time>', 'how long one proof of access permits keys in memory'))
    .addOption(duration('--suspend-timeout <time>', 'how long requests wait after the lease ended'))
    .addOption(new Option('--allow-purgeable', 'take a key from a vault without purge protection'))
    .addOption(new Option('--hold-on-heal', 'keep disks offline until an operator attaches them'))
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const { identity, probeInterval, lease, suspendTimeout } = options;
      const { allowPurgeable, holdOnHeal } = options;
      const view = await (
        await connect(context, command)
      ).createSet({
        name,
        keyUrl: options.key,
        mode: options.onRevoke,
        ...(identity === undefined ? {} : { identity }),
        ...(probeInterval === undefined ? {} : { probeIntervalMs: probeInterval }),
        ...(lease === undefined ? {} : { leaseMs: lease }),
        ...(suspendTimeout === undefined ? {} : { suspendTimeoutMs: suspendTimeout }),
        ...(allowPurgeable === undefined ? {} : { allowPurgeable }),
        ...(holdOnHeal === undefined ? {} : { holdOnHeal }),
      });
      if (isJson(command)) {
        printJson(context, view);
        return;
      }
      const keys = view.keys.map((key) => key.id).join(', ');
      print(context, `set ${plain(view.name)} created on key ${plain(keys)}\n`);
      printNext(context, `keyhold disk create NAME --set ${plain(view.name)} --size 10G`);
    });
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

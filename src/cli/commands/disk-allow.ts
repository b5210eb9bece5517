// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { AllowResult, ChangeAllowRequest } from '../../admin/api.js';
import { messageOf } from '../../base/errors.js';
import { formatAccessRule, parseAccessRule } from '../../disks/access-rule.js';
import { addCommand, type CliContext, connect, isJson, print, printJson } from '../context.js';
import { plain } from '../text.js';
import { OPEN_TO_MACHINE } from '../views/disk.js';

interface AllowOptions {
  readonly add?: readonly string[];
  readonly remove?: readonly string[];
  readonly clear?: true;
}

export function addDiskAllow(disk: Command, context: CliContext): void {
  addCommand(disk, 'allow <name>', 'show or change who may use a disk')
    .addOption(
      new Option('--add <rule>', 'let in whom the rule describes; repeatable').argParser(
        collectRules,
      ),
    )
    .addOption(new Option('--remove <rule>', 'take a rule out; repeatable').argParser(collectRules))
    .addOption(
      new Option('--clear', 'take every rule out: open to this machine only').conflicts('remove'),
    )
    .addHelpText('after', RULES_HELP)
    .action(async (name: string, options: AllowOptions, command: Command) => {
      const client = await connect(context, command);
      const change = changeOf(options);
      const result =
        change === undefined
          ? { disk: name, allow: (await client.showDisk(name)).allow, disconnected: 0 }
          : await client.changeAllow(name, change);
      if (isJson(command)) printJson(context, result);
      else print(context, formatAllow(result));
    });
}

const RULES_HELP = `
A rule is one or more conditions joined by "and"; the disk is open to whoever fulfils
all conditions of any rule. Everything is compared whole; quote values with spaces.
  uid=1000  gid=100  pid=4711      process at the other end of a unix socket
  subject=CN=vm1,O=Example         subject of the client certificate (RFC 2253)
  san=DNS:vm1.example              alternative name of it: DNS, URI, IP or email
  psk=backup                       identity of the pre-shared key
  cidr=10.0.0.0/8                  network of a TCP client
Without rules a disk is open to ${OPEN_TO_MACHINE}.`;

/** For a repeatable option: each rule in its one spelling. */
export function collectRules(text: string, before: readonly string[] = []): readonly string[] {
  try {
    return [...before, formatAccessRule(parseAccessRule(text))];
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

function changeOf({ add, remove, clear }: AllowOptions): ChangeAllowRequest | undefined {
  if (add === undefined && remove === undefined && clear === undefined) return undefined;
  return {
    ...(clear === undefined ? {} : { clear }),
    ...(remove === undefined ? {} : { remove: [...remove] }),
    ...(add === undefined ? {} : { add: [...add] }),
  };
}

function formatAllow({ disk, allow, disconnected }: AllowResult): string {
  const rules = allow.length === 0 ? [OPEN_TO_MACHINE] : allow;
  const lines = rules.map((rule) => `  ${plain(rule)}\n`).join('');
  const closed = disconnected === 0 ? '' : `sessions closed: ${disconnected}\n`;
  return `disk ${plain(disk)} is open to\n${lines}${closed}`;
}

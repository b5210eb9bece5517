// SPDX-License-Identifier: Apache-2.0
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import {
  type DiskView,
  type ExportedKey,
  type ExportKeyRequest,
  KEY_LAYERS,
} from '../../admin/api.js';
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

/** Commands on the key of one disk: docs/KEYS.md sections 2, 6 and 8. */
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
  addExport(disk, context);
}

interface ExportOptions {
  readonly file: string;
  readonly confirm: string;
  readonly layer?: (typeof KEY_LAYERS)[number];
}

function addExport(disk: Command, context: CliContext): void {
  addCommand(disk, 'export-key <name>', 'write the key of a disk to a file, for dm-crypt')
    .addOption(
      new Option('--file <path>', 'where to: a new file, for root and the daemon alone')
        .argParser(notEmpty)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--confirm <name>', 'the name of the disk, once more').makeOptionMandatory(),
    )
    .addOption(
      new Option('--layer <layer>', 'which key of a disk that is encrypted twice').choices(
        KEY_LAYERS,
      ),
    )
    .addHelpText(
      'after',
      '\nWhoever has the file can read every copy of the store, for ever, whatever happens to the' +
        '\ncustomer key. The daemon writes it, and an audit record first.',
    )
    .action(async (name: string, options: ExportOptions, command: Command) => {
      const { file, confirm, layer } = options;
      const request: ExportKeyRequest = {
        confirm,
        file: resolve(file), // the daemon runs elsewhere
        ...(layer === undefined ? {} : { layer }),
      };
      const client = await connect(context, command);
      const exported = await client.exportKey(name, request);
      if (isJson(command)) {
        printJson(context, exported);
        return;
      }
      print(context, `key of disk ${plain(exported.disk)} written to ${plain(exported.file)}\n`);
      printOpening(context, exported, await client.showDisk(name));
    });
}

/** How the file is used, where the disk can be opened by anything else. */
function printOpening(context: CliContext, exported: ExportedKey, disk: DiskView): void {
  if (!disk.dmCrypt) {
    print(context, 'cryptsetup refuses this disk: it was not made with --dm-crypt\n');
    return;
  }
  const key = `--volume-key-file ${plain(exported.file)}`;
  const [from, to] = [plain(disk.store), plain(disk.name)];
  const device = exported.layer === 'inner' ? `/dev/mapper/${to}-outer` : from;
  const target = exported.layer === 'outer' ? `${to}-outer` : to;
  printNext(context, `cryptsetup open --type luks2 -s 512 ${key} ${device} ${target}`);
}

// SPDX-License-Identifier: Apache-2.0
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { CreateDiskRequest, DiskView } from '../../admin/api.js';
import type { AdminClient } from '../../admin/client.js';
import { assertNever } from '../../base/errors.js';
import { parseSizeBytes } from '../../base/units.js';
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
import { codes } from '../errors.js';
import { EXIT_CODES, type ExitCode } from '../exit-codes.js';
import { nbdUri, shellQuote } from '../paths.js';
import { printFailure } from '../report-error.js';
import { plain } from '../text.js';
import { addDiskKeyCommands } from './disk-keys.js';
import { addDiskAllow, collectRules } from './disk-allow.js';
import { formatDisk, formatDiskList, stateOf } from '../views/disk.js';

interface CreateOptions {
  readonly set: string;
  readonly size: number;
  readonly store?: string;
  readonly sectorSize?: '512' | '4096';
  readonly dmCrypt?: true;
  readonly readOnly?: true;
  readonly rotational?: true;
  readonly direct?: true;
  readonly description?: string;
  readonly allow?: readonly string[];
  readonly attach?: true;
}

export function addDiskCommands(program: Command, context: CliContext): void {
  const disk = addGroup(program, 'disk', 'create disks and take them online and offline');
  addCreate(disk, context);
  addCommand(disk, 'list', 'list the disks').action(async (_options: object, command: Command) => {
    const disks = await (await connect(context, command)).listDisks();
    if (isJson(command)) printJson(context, { disks });
    else print(context, formatDiskList(context.io, disks));
  });
  addCommand(disk, 'show <name>', 'show a disk: state, reason, key version, request id').action(
    async (name: string, _options: object, command: Command) => {
      const view = await (await connect(context, command)).showDisk(name);
      if (isJson(command)) printJson(context, view);
      else print(context, formatDisk(context.io, view));
    },
  );
  addCommand(disk, 'attach <name>', 'unlock a disk with its key and serve it').action(
    async (name: string, _options: object, command: Command) => {
      const client = await connect(context, command);
      await reportAttached(context, command, { client, view: await client.attachDisk(name) });
    },
  );
  addCommand(disk, 'detach <name>', 'take a disk offline: wipe its key, end its sessions').action(
    async (name: string, _options: object, command: Command) => {
      const view = await (await connect(context, command)).detachDisk(name);
      if (isJson(command)) {
        printJson(context, view);
        return;
      }
      print(context, `disk ${plain(view.name)}: ${stateOf(view)}\n`);
      printNext(context, `keyhold disk attach ${view.name}`);
    },
  );
  addCommand(disk, 'restart <name>', 'detach and attach: needs the key again').action(
    async (name: string, _options: object, command: Command) => {
      const client = await connect(context, command);
      await reportAttached(context, command, { client, view: await client.restartDisk(name) });
    },
  );
  addDiskAllow(disk, context);
  addDiskKeyCommands(disk, context);
  addCommand(disk, 'delete <name>', 'forget a disk; its store stays unless --delete-store')
    .addOption(new Option('--delete-store', 'delete the store too: the data is gone'))
    .action(async (name: string, options: { deleteStore?: true }, command: Command) => {
      const deleteStore = options.deleteStore === true;
      const client = await connect(context, command);
      const store = deleteStore ? undefined : (await client.showDisk(name)).store;
      await client.deleteDisk(name, { deleteStore });
      const fate = store === undefined ? 'with its store' : `its store stays: ${store}`;
      if (isJson(command)) printJson(context, {});
      else print(context, `disk ${plain(name)} deleted, ${plain(fate)}\n`);
    });
}

/** Sizes are multiples of a sector; which sector size, the daemon checks. */
function parseDiskSize(text: string): number {
  const sizeBytes = parseSizeBytes(text);
  if (sizeBytes === 0) throw new Error('expected more than 0 bytes, got 0');
  return sizeBytes;
}

function requestOf(name: string, options: CreateOptions): CreateDiskRequest {
  return {
    name,
    set: options.set,
    sizeBytes: options.size,
    // The daemon runs elsewhere: a relative path means the caller's directory.
    ...(options.store === undefined ? {} : { store: resolve(options.store) }),
    ...(options.sectorSize === undefined
      ? {}
      : { sectorSizeBytes: options.sectorSize === '512' ? 512 : 4096 }),
    ...(options.dmCrypt === undefined ? {} : { dmCrypt: true }),
    ...(options.readOnly === undefined ? {} : { readOnly: true }),
    ...(options.rotational === undefined ? {} : { rotational: true }),
    ...(options.direct === undefined ? {} : { direct: true }),
    ...(options.description === undefined ? {} : { description: options.description }),
    ...(options.allow === undefined ? {} : { allow: [...options.allow] }),
  };
}

function addCreate(disk: Command, context: CliContext): void {
  addCommand(disk, 'create <name>', 'create a disk with a new key of its own')
    .addOption(
      new Option('--set <set>', 'encryption set that the disk belongs to')
        .argParser(notEmpty)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--size <size>', 'size, such as 512M, 10G or 1T (powers of 1024)')
        .argParser(parsedBy(parseDiskSize))
        .makeOptionMandatory(),
    )
    .addOption(
      new Option(
        '--store <path>',
        'file that holds the ciphertext (else one in the state directory)',
      ).argParser(notEmpty),
    )
    .addOption(
      new Option(
        '--sector-size <bytes>',
        'unit of encryption: 4096 is faster, 512 fits any client',
      ).choices(['512', '4096']),
    )
    .addOption(new Option('--dm-crypt', 'readable by dm-crypt; not thin'))
    .addOption(new Option('--read-only', 'serve it read-only'))
    .addOption(new Option('--rotational', 'tell clients that seeking is slow'))
    .addOption(new Option('--direct', 'past the page cache (block devices: always, if they can)'))
    .addOption(new Option('--description <text>', 'a line about it, shown to its clients too'))
    .addOption(
      new Option('--allow <rule>', 'who may use it, such as uid=1000; repeatable').argParser(
        collectRules,
      ),
    )
    .addOption(new Option('--attach', 'attach it at once'))
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const client = await connect(context, command);
      const view = await client.createDisk(requestOf(name, options));
      if (options.attach === true) {
        if (!isJson(command)) print(context, `disk ${plain(view.name)} created\n`);
        await reportAttached(context, command, { client, view: await client.attachDisk(name) });
      } else if (isJson(command)) {
        printJson(context, view);
      } else {
        print(context, `disk ${plain(view.name)} created in ${plain(view.store)}\n`);
        printNext(context, `keyhold disk attach ${view.name}`);
      }
    });
}

/** An attach that the daemon accepted may still leave the disk offline; the exit code says why. */
async function reportAttached(
  context: CliContext,
  command: Command,
  { client, view }: { client: AdminClient; view: DiskView },
): Promise<void> {
  context.exitCode = exitCodeOfDisk(view);
  if (isJson(command)) {
    printJson(context, view);
    return;
  }
  const name = plain(view.name);
  if (view.state !== 'online') {
    const detail = view.message === null ? '' : `: ${view.message}`;
    printFailure(context.io, {
      code: codes.ERR_CLI_DISK_NOT_ONLINE,
      message: `disk ${view.name} is not online: ${stateOf(view)}${detail}`,
    });
    return;
  }
  print(context, `disk ${name}: ${stateOf(view)}\n`);
  const { nbd } = await client.status();
  for (const address of nbd) {
    const uri = nbdUri(view.name, address);
    if (uri !== undefined) print(context, `${plain(uri)}\n`);
  }
  const socket = nbd.find((address) => address.startsWith('unix:'))?.slice('unix:'.length);
  if (socket === undefined) printNext(context, 'keyhold top');
  else printNext(context, `nbd-client -unix ${shellQuote(socket)} -N ${view.name} /dev/nbd0`);
}

function exitCodeOfDisk({ state, reason }: DiskView): ExitCode {
  if (state === 'online') return EXIT_CODES.ok;
  switch (reason) {
    case 'integrity':
      return EXIT_CODES.integrity;
    case 'store-error':
      return EXIT_CODES.unavailable;
    case 'never-attached':
    case 'detached':
    case 'fenced':
    case 'erased':
      return EXIT_CODES.conflict;
    case 'key-disabled':
    case 'key-deleted':
    case 'access-denied':
    case 'identity-denied':
    case 'key-expired':
    case 'lease-expired':
    case null: // suspended
      return EXIT_CODES.keyInaccessible;
    default:
      return assertNever(reason, 'reason');
  }
}

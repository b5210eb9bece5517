// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { DevVaultClient } from '../../devvault/control-client.js';
import type { KeyInfo } from '../../devvault/control-schemas.js';
import {
  addGroup,
  type CliContext,
  isJson,
  notEmpty,
  print,
  printJson,
  printNext,
  wholeNumber,
} from '../context.js';
import { plain } from '../text.js';
import { formatKey, formatKeyLine, formatKeyList, formatLog } from '../views/vault.js';
import { addVaultCommand, connectVault, reportVault } from './vault-common.js';
import { addVaultServeCommand } from './vault-serve.js';
import { addVaultTroubleCommand } from './vault-trouble.js';

/** The embedded vault knows the names and limits; it refuses what it does not know. */
type Input<K extends 'createKey' | 'deny'> = NonNullable<Parameters<DevVaultClient[K]>[0]>;

interface CreateOptions {
  readonly kty?: NonNullable<Input<'createKey'>['kty']>;
  readonly size?: NonNullable<Input<'createKey'>['sizeBits']>;
  readonly curve?: NonNullable<Input<'createKey'>['curve']>;
  readonly ops?: NonNullable<Input<'createKey'>['ops']>;
  readonly disabled?: true;
}

type KeyAction = (client: DevVaultClient, name: string, version?: string) => Promise<KeyInfo>;

export function addVaultCommands(program: Command, context: CliContext): void {
  const vault = addGroup(program, 'vault', 'the embedded Key Vault, for trials and tests');
  vault.addHelpText(
    'after',
    '\nSocket: --vault-socket, else KEYHOLD_VAULT_SOCKET, else the one beside the admin socket that\n' +
      '--socket or KEYHOLD_SOCKET names, else the one of `keyhold dev`.',
  );
  addVaultServeCommand(vault, context);
  addKeyCreate(vault, context);
  addViews(vault, context);
  addKeyActions(vault, context);
  addAccess(vault, context);
  addSettings(vault, context);
  addVaultTroubleCommand(vault, context);
}

function addKeyCreate(vault: Command, context: CliContext): void {
  const key = addGroup(vault, 'key', 'make keys');
  addVaultCommand(key, 'create <name>', 'make a key, or a new version of a key')
    .addOption(new Option('--kty <type>', 'RSA, RSA-HSM or EC').choices(['RSA', 'RSA-HSM', 'EC']))
    .addOption(
      new Option('--size <bits>', 'size of an RSA key').argParser(
        wholeNumber({ min: 1024, max: 4096 }),
      ),
    )
    .addOption(new Option('--curve <name>', 'curve of an EC key').argParser(notEmpty))
    .addOption(
      new Option('--ops <list>', 'operations of the key, separated by commas').argParser(commaList),
    )
    .addOption(new Option('--disabled', 'make it disabled'))
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const { kty, size, curve, ops, disabled } = options;
      const info = await (
        await connectVault(context, command)
      ).createKey({
        name,
        ...(kty === undefined ? {} : { kty }),
        ...(size === undefined ? {} : { sizeBits: size }),
        ...(curve === undefined ? {} : { curve }),
        ...(ops === undefined ? {} : { ops }),
        ...(disabled === undefined ? {} : { enabled: false }),
      });
      reportKey(context, command, info);
      if (!isJson(command)) printNext(context, `keyhold set create NAME --key ${info.id}`);
    });
}

function addViews(vault: Command, context: CliContext): void {
  addVaultCommand(vault, 'list', 'list the keys, deleted ones too').action(
    async (_options: object, command: Command) => {
      const keys = await (await connectVault(context, command)).keys();
      if (isJson(command)) printJson(context, { keys });
      else print(context, formatKeyList(context.io, keys));
    },
  );
  addVaultCommand(vault, 'show <key>', 'show a key with its versions').action(
    async (name: string, _options: object, command: Command) => {
      const key = await (await connectVault(context, command)).key(name);
      if (isJson(command)) printJson(context, key);
      else print(context, formatKey(context.io, key));
    },
  );
  addVaultCommand(vault, 'status', 'show the vault: identity, permissions, trouble').action(
    async (_options: object, command: Command) => {
      reportVault(context, command, await (await connectVault(context, command)).status());
    },
  );
  addVaultCommand(vault, 'log', 'show the most recent requests to the vault')
    .addOption(
      new Option('--limit <n>', 'how many')
        .argParser(wholeNumber({ min: 1, max: 1000 }))
        .default(50),
    )
    .action(async ({ limit }: { limit: number }, command: Command) => {
      const requests = await (await connectVault(context, command)).log({ limit });
      if (isJson(command)) printJson(context, { requests });
      else print(context, formatLog(context.io, requests));
    });
}

function addKeyActions(vault: Command, context: CliContext): void {
  const add = (name: string, description: string, action: KeyAction, next?: string): Command =>
    addVaultCommand(vault, `${name} <key>`, description).action(
      async (key: string, { version }: { version?: string }, command: Command) => {
        const client = await connectVault(context, command);
        reportKey(context, command, await action(client, key, version));
        if (!isJson(command) && next !== undefined) printNext(context, `keyhold ${next} ${key}`);
      },
    );
  const version = (): Option =>
    new Option('--version <version>', '"all", or a version (else the newest)').argParser(notEmpty);
  const choice = (text?: string): { version?: string } =>
    text === undefined ? {} : { version: text };
  const disable: KeyAction = (client, key, text) => client.disableKey(key, choice(text));
  const description = 'disable a key: its disks go offline';
  add('disable', description, disable, 'vault enable').addOption(version());
  add('enable', 'enable a key: its disks heal', (client, key, text) =>
    client.enableKey(key, choice(text)),
  ).addOption(version());
  const remove: KeyAction = (client, key) => client.deleteKey(key);
  add('delete', 'delete a key; it can be recovered', remove, 'vault recover');
  add('recover', 'bring a deleted key back', (client, key) => client.recoverKey(key));
  add('rotate', 'make a new version of a key', (client, key) => client.rotateKey(key));
  addVaultCommand(vault, 'purge <key>', 'destroy a deleted key, if the vault allows it').action(
    async (key: string, _options: object, command: Command) => {
      await (await connectVault(context, command)).purgeKey(key);
      if (isJson(command)) printJson(context, {});
      else print(context, `key ${plain(key)}: purged\n`);
    },
  );
}

function addAccess(vault: Command, context: CliContext): void {
  const add = (name: 'deny' | 'allow', description: string): void => {
    addVaultCommand(vault, name, description)
      .addOption(
        new Option('--operation <list>', 'permissions, separated by commas (else all)').argParser(
          commaList,
        ),
      )
      .action(async (options: { operation?: string[] }, command: Command) => {
        const client = await connectVault(context, command);
        const operations = options.operation as Input<'deny'>['operations'];
        const input = operations === undefined ? {} : { operations };
        reportVault(context, command, await client[name](input));
      });
  };
  add('deny', 'take permissions away from the identity');
  add('allow', 'give permissions back to the identity');
}

function addSettings(vault: Command, context: CliContext): void {
  type Settings = Parameters<DevVaultClient['settings']>[0];
  const add = (usage: string, member: keyof Settings, description: string): void => {
    addVaultCommand(vault, usage, description).action(
      async (value: string, _options: object, command: Command) => {
        const client = await connectVault(context, command);
        reportVault(context, command, await client.settings({ [member]: value }));
      },
    );
  };
  add('recovery-level <level>', 'recoveryLevel', 'soft delete and purge protection');
  add('firewall <mode>', 'firewall', 'network rules: open, address or private-link');
  add('application <state>', 'application', 'identity: enabled, disabled, deleted, secret-expired');
  addVaultCommand(vault, 'expire-tokens', 'make every token issued so far expire').action(
    async (_options: object, command: Command) => {
      reportVault(context, command, await (await connectVault(context, command)).expireTokens());
    },
  );
}

function reportKey(context: CliContext, command: Command, key: KeyInfo): void {
  if (isJson(command)) printJson(context, key);
  else print(context, formatKeyLine(key));
}

/** `wrapKey,unwrapKey`: empty items are dropped, unknown ones are the vault's matter. */
function commaList(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

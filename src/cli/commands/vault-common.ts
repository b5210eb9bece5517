// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { DevVaultClient } from '../../devvault/control-client.js';
import type { VaultStatus } from '../../devvault/control-schemas.js';
import {
  addCommand,
  type CliContext,
  isJson,
  notEmpty,
  print,
  printJson,
  vaultSocketOf,
} from '../context.js';
import { formatVaultStatus } from '../views/vault.js';

/** A command that talks to the vault's control socket. */
export function addVaultCommand(parent: Command, usage: string, description: string): Command {
  return addCommand(parent, usage, description).addOption(
    new Option(
      '--vault-socket <path>',
      'control socket of the vault (else KEYHOLD_VAULT_SOCKET)',
    ).argParser(notEmpty),
  );
}

export async function connectVault(context: CliContext, command: Command): Promise<DevVaultClient> {
  const { createDevVaultClient } = await import('../../devvault/control-client.js');
  return createDevVaultClient({ socketPath: vaultSocketOf(context, command) });
}

export function reportVault(context: CliContext, command: Command, status: VaultStatus): void {
  if (isJson(command)) printJson(context, status);
  else print(context, formatVaultStatus(status));
}

// SPDX-License-Identifier: Apache-2.0
import { Command } from 'commander';
import { readVersion } from '../base/version.js';
import { addAuditCommands } from './commands/audit.js';
import { addCompletionCommands } from './commands/completion.js';
import { addDaemonCommand } from './commands/daemon.js';
import { addDevCommand } from './commands/dev.js';
import { addDoctorCommand } from './commands/doctor.js';
import { addDiskCommands } from './commands/disk.js';
import { addEventsCommand } from './commands/events.js';
import { addHelpCommand } from './commands/help.js';
import { addPlatformKeyCommands } from './commands/platform-key.js';
import { addServeCommand } from './commands/serve.js';
import { addSetCommands } from './commands/set.js';
import { addTopCommand } from './commands/top.js';
import { addReloadCommand } from './commands/reload.js';
import { addStatusCommand } from './commands/status.js';
import { addVaultCommands } from './commands/vault.js';
import { addCommonOptions, type CliContext } from './context.js';

const DESCRIPTION =
  'Serves encrypted virtual disks over NBD, with keys held in Azure Key Vault, and takes them\n' +
  'offline when the key is revoked.';

const EPILOG = `
Sockets: --socket, else KEYHOLD_SOCKET, else the service's /run/keyhold/admin.sock, else the one of
\`keyhold dev\`. Errors go to standard error; \`keyhold help exit-codes\` lists the exit codes.`;

/** The whole command tree. Nothing is printed and nothing exits here: failures are thrown. */
export function createProgram(context: CliContext): Command {
  const { io } = context;
  const program = new Command('keyhold')
    .description(DESCRIPTION)
    .version(readVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .addHelpText('after', EPILOG)
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // The one report of a failure comes from reportError.
      outputError: () => undefined,
      getOutHelpWidth: () => helpWidth(io.stdout.columns),
      getErrHelpWidth: () => helpWidth(io.stderr.columns),
      getOutHasColors: () => io.stdout.color,
      getErrHasColors: () => io.stderr.color,
    });
  addCommonOptions(program);
  addDiskCommands(program, context);
  addSetCommands(program, context);
  addStatusCommand(program, context);
  addTopCommand(program, context);
  addDoctorCommand(program, context);
  addEventsCommand(program, context);
  addAuditCommands(program, context);
  addReloadCommand(program, context);
  addPlatformKeyCommands(program, context);
  addServeCommand(program, context);
  addDevCommand(program, context);
  addDaemonCommand(program, context);
  addVaultCommands(program, context);
  addCompletionCommands(program, context);
  addHelpCommand(program, context);
  return program;
}

function helpWidth(columns: number | undefined): number {
  return Math.min(columns ?? 100, 100);
}

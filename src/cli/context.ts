// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { AdminClient } from '../admin/client.js';
import { messageOf } from '../base/errors.js';
import { EXIT_CODES, type ExitCode } from './exit-codes.js';
import type { CliIo } from './io.js';
import { withProgress } from './progress/client.js';
import { plain } from './text.js';
import { findAdminSocket, findVaultSocket } from './paths.js';

/** One run of the program: where it reads and writes, and what it will exit with. */
export interface CliContext {
  readonly io: CliIo;
  /** A command that found something bad, but did not fail, says so here (`audit verify`). */
  exitCode: ExitCode;
}

export function createContext(io: CliIo): CliContext {
  return { io, exitCode: EXIT_CODES.ok };
}

/** What commander hands to an action after the arguments, as far as every command has it. */
export interface CommonOptions {
  readonly json?: true;
  readonly socket?: string;
}

/** How to print: for commands that do not talk to a running daemon. */
export function addOutputOptions(command: Command, json = 'print JSON'): Command {
  return command
    .addOption(new Option('--json', json))
    .addOption(new Option('--no-color', 'no colours, as with NO_COLOR'));
}

/** The options that every command takes, before or after its name. */
export function addCommonOptions(command: Command): Command {
  return addOutputOptions(command, 'print JSON, exactly as the admin API gives it').addOption(
    new Option('--socket <path>', 'admin socket of the daemon (else KEYHOLD_SOCKET)').argParser(
      notEmpty,
    ),
  );
}

/** A leaf command: `usage` is its name with its arguments. */
export function addCommand(parent: Command, usage: string, description: string): Command {
  return addCommonOptions(parent.command(usage).description(description));
}

/** A group of commands. Without a subcommand it shows its help and fails as a usage error. */
export function addGroup(parent: Command, name: string, description: string): Command {
  return parent.command(name).description(description).helpCommand(false);
}

export function isJson(command: Command): boolean {
  return command.optsWithGlobals<CommonOptions>().json === true;
}

/** The admin socket that the command line or the environment names. */
export function socketOf(context: CliContext, command: Command): string {
  const { socket } = command.optsWithGlobals<CommonOptions>();
  return findAdminSocket({ env: context.io.env, socket });
}

/** A client of the daemon that the command line or the environment names. */
export async function connect(context: CliContext, command: Command): Promise<AdminClient> {
  const { createAdminClient } = await import('../admin/client.js');
  const client = createAdminClient({ socketPath: socketOf(context, command) });
  return isJson(command) ? client : withProgress(context.io, client);
}

/** The control socket of the embedded vault that the command line or the environment names. */
export function vaultSocketOf(context: CliContext, command: Command): string {
  const options = command.optsWithGlobals<CommonOptions & { vaultSocket?: string }>();
  return findVaultSocket({
    env: context.io.env,
    socket: options.socket,
    vaultSocket: options.vaultSocket,
  });
}

export function print(context: CliContext, text: string): void {
  context.io.stdout.write(text);
}

export function printJson(context: CliContext, value: unknown): void {
  context.io.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** For people only: the command that comes next, which `--json` leaves out. */
export function printNext(context: CliContext, command: string): void {
  context.io.stdout.write(`next: ${plain(command)}\n`);
}

/** Turns a parser that throws into one whose failure commander reports with the option's name. */
export function parsedBy<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(messageOf(error));
    }
  };
}

export function notEmpty(text: string): string {
  if (text === '') throw new InvalidArgumentError('expected a value, got an empty string');
  return text;
}

/** A whole number of an option, within bounds. */
export function wholeNumber(bounds: { min: number; max: number }): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= bounds.min && value <= bounds.max)) {
      throw new InvalidArgumentError(
        `expected a whole number from ${bounds.min} to ${bounds.max}, got ${JSON.stringify(text)}`,
      );
    }
    return value;
  };
}

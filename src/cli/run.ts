// SPDX-License-Identifier: Apache-2.0
import { CommanderError } from 'commander';
import { createContext } from './context.js';
import { EXIT_CODES, type ExitCode } from './exit-codes.js';
import { type CliIo, withoutColor } from './io.js';
import { createProgram } from './program.js';
import { reportError } from './report-error.js';

/** Runs one command line (without the program's name) and returns its exit code; never throws. */
export async function runCli(args: readonly string[], io: CliIo): Promise<ExitCode> {
  const context = createContext(wants(args, '--no-color') ? withoutColor(io) : io);
  try {
    await createProgram(context).parseAsync(args, { from: 'user' });
    return context.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT_CODES.ok; // --help, --version
      // A group without a subcommand: commander has shown its help already.
      if (error.code === 'commander.help') return EXIT_CODES.usage;
    }
    return reportError(context.io, error, wants(args, '--json'));
  }
}

/** Read from the raw arguments, since they may be what could not be parsed. */
function wants(args: readonly string[], option: string): boolean {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).includes(option);
}

// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import { addOutputOptions, type CliContext, notEmpty } from '../context.js';
import type { ExitCode } from '../exit-codes.js';
import { stopOnStdinEnd } from '../parent-watch.js';

export function addDaemonCommand(program: Command, context: CliContext): void {
  addOutputOptions(program.command('daemon'), 'for symmetry: it logs JSON, one object a line')
    .description('run the daemon in the foreground')
    .addOption(
      new Option('--config <file>', 'configuration file')
        .argParser(notEmpty)
        .default('/etc/keyhold/keyhold.toml'),
    )
    .addOption(stopOnStdinEndOption())
    .action(async (options: { config: string; stopOnStdinEnd?: true }) => {
      if (options.stopOnStdinEnd === true) stopOnStdinEnd();
      const { runDaemon } = await import('../../daemon/main.js');
      context.exitCode = (await runDaemon({ configPath: options.config })) as ExitCode;
    });
}

/** How a supervisor makes sure that no child outlives it, whatever happens to it. */
export function stopOnStdinEndOption(): Option {
  return new Option(
    '--stop-on-stdin-end',
    'stop when standard input ends: set by `keyhold dev`, whose end closes the pipe',
  ).hideHelp();
}

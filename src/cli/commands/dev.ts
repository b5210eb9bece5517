// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import { addOutputOptions, type CliContext, notEmpty, print, wholeNumber } from '../context.js';
import { defaultDevDirectory } from '../paths.js';

interface DevOptions {
  readonly state?: string;
  readonly demoDisk: boolean;
  readonly metricsPort?: number;
  readonly json?: true;
}

export function addDevCommand(program: Command, context: CliContext): void {
  addOutputOptions(program.command('dev'), 'print what runs where as JSON on one line')
    .description('run everything on this machine: embedded vault, daemon, a demo disk')
    .addOption(
      new Option(
        '--state <dir>',
        'keeps everything (else keyhold in the cache directory)',
      ).argParser(notEmpty),
    )
    .addOption(new Option('--no-demo-disk', 'make no disk; key and set only'))
    .addOption(
      new Option(
        '--metrics-port <port>',
        'serves metrics on this port of 127.0.0.1; 0: any free one',
      ).argParser(wholeNumber({ min: 0, max: 65_535 })),
    )
    .action(async (options: DevOptions) => {
      const { devPaths } = await import('../dev/state-directory.js');
      const paths = devPaths(options.state ?? defaultDevDirectory(context.io.env));
      const { runDev } = await import('../dev/run-dev.js');
      const { formatBanner, summarize } = await import('../dev/banner.js');
      const main = fileURLToPath(new URL('../main.js', import.meta.url));
      const self = (...args: string[]): { command: string; args: string[] } => ({
        command: process.execPath,
        // As in main.ts's first line: an SDK that merely asks for FormData would load Node's fetch,
        // whose WebAssembly reserves 10 GiB of address space.
        args: ['--no-experimental-fetch', main, ...args, '--stop-on-stdin-end'],
      });
      context.exitCode = await runDev({
        paths,
        demoDisk: options.demoDisk,
        metricsPort: options.metricsPort,
        vaultCommand: self('vault', 'serve', '--state', paths.vaultState),
        daemonCommand: self('daemon', '--config', paths.config),
        signals: process,
        note: (line) => context.io.stderr.write(`keyhold: ${line}\n`),
        onReady: ({ metrics }) => {
          const summary = summarize(paths, { demoDisk: options.demoDisk, metrics });
          const text =
            options.json === true
              ? `${JSON.stringify(summary)}\n`
              : formatBanner(summary, context.io.env);
          print(context, `${text}ready\n`);
        },
      });
    });
}

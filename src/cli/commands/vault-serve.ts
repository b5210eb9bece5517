// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import { type Command, Option } from 'commander';
import { KeyholdError } from '../../base/errors.js';
import { addOutputOptions, type CliContext, notEmpty, print } from '../context.js';
import { codes } from '../errors.js';
import { stopOnStdinEnd } from '../parent-watch.js';
import { defaultDevDirectory } from '../paths.js';
import { stopOnStdinEndOption } from './daemon.js';

/** What `vault serve` prints, on one line, once it serves. */
export interface VaultReady {
  readonly ready: true;
  /** URL of the vault, and authority host of its identities. */
  readonly url: string;
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecretPath: string;
  readonly caPath: string;
  readonly controlSocket: string;
}

interface ServeOptions {
  readonly state?: string;
  readonly listen?: { host: string; port: number };
  readonly stopOnStdinEnd?: true;
}

export function addVaultServeCommand(vault: Command, context: CliContext): void {
  addOutputOptions(
    vault.command('serve'),
    'for symmetry: the one line that it prints is JSON anyway',
  )
    .description('run the embedded vault in the foreground; loopback only')
    .addOption(
      new Option('--state <dir>', 'keys, certificates and control socket').argParser(notEmpty),
    )
    .addOption(
      new Option('--listen <host:port>', 'address (else the port of the last start)').argParser(
        parseListen,
      ),
    )
    .addOption(stopOnStdinEndOption())
    .action(async (options: ServeOptions) => {
      // Before the start, so that a signal that comes early is not lost.
      const stopped = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
      if (options.stopOnStdinEnd === true) stopOnStdinEnd();
      const { startDevVault } = await import('../../devvault/dev-vault.js');
      const running = await startDevVault({
        stateDir: options.state ?? `${defaultDevDirectory(context.io.env)}/vault`,
        ...options.listen,
      });
      const ready: VaultReady = {
        ready: true,
        url: running.url,
        tenantId: running.tenantId,
        clientId: running.clientId,
        clientSecretPath: running.clientSecretPath,
        caPath: running.caPath,
        controlSocket: running.socketPath,
      };
      print(context, `${JSON.stringify(ready)}\n`);
      await stopped;
      await running.close();
    });
}

/** `127.0.0.1:8443`, `[::1]:8443`; whether it is loopback is the vault's matter. */
function parseListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port <= 65_535)) {
    throw new KeyholdError(
      codes.ERR_CLI_USAGE,
      `cannot read address ${JSON.stringify(text)}: expected HOST:PORT, such as 127.0.0.1:8443`,
      { fields: { text } },
    );
  }
  return { host, port };
}

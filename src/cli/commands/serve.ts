// SPDX-License-Identifier: Apache-2.0
import { createServer, type Socket } from 'node:net';
import { type Command, Option } from 'commander';
import type { AdminClient } from '../../admin/client.js';
import { codeOf, KeyholdError, messageOf } from '../../base/errors.js';
import { addCommand, type CliContext, connect } from '../context.js';
import { codes } from '../errors.js';
import { openStdio, pump } from '../stdio-pump.js';
import { plain } from '../text.js';

/** How often a server that was started captively looks whether its client still lives. */
const PARENT_CHECK_MS = 1000;

export function addServeCommand(program: Command, context: CliContext): void {
  addCommand(program, 'serve <disk>', 'speak NBD with one client over standard input and output')
    .addOption(
      new Option('--stdio', 'required: the only way in which this command serves')
        .makeOptionMandatory()
        .conflicts('json'),
    )
    .addHelpText(
      'after',
      '\nThe running daemon serves the disk; this command only carries the bytes. For inetd, and\n' +
        'for tools that start their server themselves, on a socket of LISTEN_FDS if they pass one:\n' +
        '  nbdinfo [ keyhold serve --stdio DISK ]',
    )
    .action(async (disk: string, _options: object, command: Command) => {
      const { takeInheritedFds } = await import('../../daemon/activation.js');
      const [listening] = takeInheritedFds(process.env, process.pid);
      const client = await connect(context, command);
      if (listening === undefined) {
        const remote = await client.serveDisk(disk);
        await carry(disk, { ...openStdio(), remote });
      } else {
        await serveSocket(client, disk, listening.fd);
      }
    });
}

/**
 * Serves every connection to a listening socket, each over one of its own to the daemon, until the
 * tool that started this ends it, as libnbd does with SIGTERM, or is gone itself.
 */
async function serveSocket(client: AdminClient, disk: string, fd: number): Promise<void> {
  const parent = process.ppid;
  const server = createServer({ allowHalfOpen: true });
  let watch: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      watch = setInterval(() => {
        if (process.ppid !== parent) resolve();
      }, PARENT_CHECK_MS);
      server.on('error', reject);
      server.on('connection', (socket: Socket) => {
        serveConnection(client, disk, socket).catch((error: unknown) => {
          socket.destroy();
          reject(error instanceof Error ? error : new Error(messageOf(error)));
        });
      });
      server.listen({ fd });
    });
  } finally {
    clearInterval(watch);
    server.close();
  }
}

async function serveConnection(client: AdminClient, disk: string, socket: Socket): Promise<void> {
  socket.on('error', () => undefined); // shows as its end
  socket.pause();
  await carry(disk, { input: socket, output: socket, remote: await client.serveDisk(disk) });
}

async function carry(disk: string, streams: Parameters<typeof pump>[0]): Promise<void> {
  try {
    await pump(streams);
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_CLI_STDIO,
      `serving disk ${plain(disk)} over standard input and output: ` +
        `the connection to the daemon broke off: ${codeOf(error) ?? messageOf(error)}`,
      { fields: { disk }, cause: error },
    );
  }
}

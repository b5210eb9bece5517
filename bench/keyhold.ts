// SPDX-License-Identifier: Apache-2.0
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from '../test/support/process.js';
import { Stack } from '../test/support/stack.js';
import { DISK_BYTES, type Peer, type Places, type Running } from './peer.js';
import { tlsFiles, tlsUriOf } from './tls.js';

export interface KeyholdOptions {
  readonly sectorSizes: ReadonlyArray<512 | 4096>;
  readonly tls?: boolean;
  /** Keys of the config's section of this name. */
  readonly dataPlane?: Readonly<Record<string, number>>;
}

/** One daemon with a disk of each sector size, as a user would start it. */
export async function startKeyhold(places: Places, options: KeyholdOptions): Promise<Running> {
  const { sectorSizes, tls = false, dataPlane } = options;
  const stack = await Stack.start();
  try {
    const settings = Object.entries(dataPlane ?? {}).map(([key, value]) => `${key} = ${value}`);
    const variant = [tls ? '-tls' : '', ...settings].join('-').replaceAll(' = ', '-');
    for (const size of sectorSizes) {
      const store = join(places.stores, `keyhold${variant}-${size}.img`);
      await stack.createDisk({
        name: `disk${size}`,
        size: String(DISK_BYTES),
        diskArgs: ['--store', store, '--sector-size', String(size)],
      });
    }
    if (tls) await reconfigure(stack, sectorSizes, await tlsSection(places));
    if (dataPlane !== undefined) {
      const section = ['[data_plane]', ...settings].join('\n');
      await reconfigure(stack, sectorSizes, (text) => `${text}\n${section}\n`);
    }
    const pid = await stack.daemonPid();
    const peers = sectorSizes.map((size): Peer => {
      const disk = `disk${size}`;
      const unhelped = dataPlane?.['cipher_threads'] === 0;
      const name = `keyhold ${tls ? 'tls ' : ''}${unhelped ? 'unhelped ' : ''}(${size})`;
      const uri = tls ? tlsUriOf(stack.nbdSocket, disk) : stack.uri(disk);
      return { name, kind: 'keyhold', uri, sizeBytes: DISK_BYTES, pid };
    });
    return { peers, stop: () => stack.stop() };
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

async function tlsSection(places: Places): Promise<(text: string) => string> {
  const files = await tlsFiles(places.sockets);
  const lines = [
    '[nbd]',
    'socket_tls = "require"',
    `certificate.cert_file = "${files}/server-cert.pem"`,
    `certificate.key_file = "${files}/server-key.pem"`,
  ];
  return (text) => text.replace('[nbd]', lines.join('\n'));
}

/** Restarts the daemon with another configuration, and waits until its disks serve again. */
async function reconfigure(
  stack: Stack,
  sectorSizes: readonly number[],
  change: (text: string) => string,
): Promise<void> {
  await stack.stopDev();
  const config = join(stack.dir, 'keyhold.toml');
  await writeFile(config, change(await readFile(config, 'utf8')));
  await stack.startDev();
  for (const size of sectorSizes) {
    await eventually(`disk${size} is online`, async () => {
      return (await stack.disk(`disk${size}`)).state === 'online';
    });
  }
}

// SPDX-License-Identifier: Apache-2.0
import { argv } from 'node:process';
import { NbdClient } from '../test/support/nbd-client.js';
import { CMD } from '../test/support/nbd-wire.js';

/*
 * Reads and writes at random places until it is ended: revocation-load.ts SOCKET DISK BYTES
 * CONNECTIONS. fio and nbdcopy end at the first error, and this load must outlive a thousand times
 * of ESHUTDOWN. Large blocks: the longest cipher calls that a wipe may have to wait for.
 */

const BLOCK_BYTES = 128 * 1024;
const IN_FLIGHT = 16;
/** After a refusal; an offline disk answers at once, and the answers must not starve the cut. */
const REFUSED_PAUSE_MS = 5;

async function lane(client: NbdClient, sizeBytes: number, payload: Buffer): Promise<never> {
  for (;;) {
    const block = Math.floor((Math.random() * sizeBytes) / BLOCK_BYTES);
    const offset = block * BLOCK_BYTES;
    const reply = await (Math.random() < 0.5
      ? client.request({ command: CMD.WRITE, offset, payload })
      : client.request({ command: CMD.READ, offset, length: BLOCK_BYTES }));
    if (reply.errno !== 0) await new Promise((resolve) => setTimeout(resolve, REFUSED_PAUSE_MS));
  }
}

const [path = '', disk = '', bytes, connections] = argv.slice(2);
const payload = Buffer.alloc(BLOCK_BYTES, 0x5a);
for (let index = 0; index < Number(connections); index += 1) {
  const client = await NbdClient.handshake({ path });
  await client.go(disk);
  for (let depth = 0; depth < IN_FLIGHT; depth += 1) void lane(client, Number(bytes), payload);
}

// SPDX-License-Identifier: Apache-2.0

/*
 * A client in a process of its own, for tests that block the event loop of theirs. It connects to
 * the socket and export of its arguments and prints `ready`; on the first line of input it begins
 * to read without a pause, and on the second it prints a ReaderReport and ends.
 */

import { createInterface } from 'node:readline';
import { NbdClient } from '../support/nbd-client.js';
import { addon } from './rig.js';

export interface ReaderReport {
  readonly answered: number;
  readonly errors: number;
  /** When the last request that was answered had been sent. */
  readonly lastSentBootMs: number;
  /** Whether the last request has no answer. */
  readonly stalled: boolean;
}

const [path = '', name = ''] = process.argv.slice(2);
const client = await NbdClient.handshake({ path });
await client.go(name);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
process.stdout.write('ready\n');
await lines.next();

let [answered, errors, lastSentBootMs] = [0, 0, 0];
const read = async (): Promise<void> => {
  for (;;) {
    const sentBootMs = addon.bootTimeMs();
    const { errno } = await client.read(0, 4096);
    answered += 1;
    if (errno !== 0) errors += 1;
    lastSentBootMs = sentBootMs;
    if (answered === 1) process.stdout.write('reading\n');
  }
};
read().catch(() => undefined); // the connection ends with the process
await lines.next();
const report: ReaderReport = { answered, errors, lastSentBootMs, stalled: client.inFlight > 0 };
process.stdout.write(`${JSON.stringify(report)}\n`);
process.exit(0);

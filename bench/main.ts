// SPDX-License-Identifier: Apache-2.0
import { stdout } from 'node:process';
import { parseArgs } from 'node:util';
import { startPeers } from './peers.js';
import { type Figures, renderTable } from './report.js';
import { WORKLOADS } from './workloads.js';

const HELP = `usage: npm run bench -- [--quick] [--tls] [--json] [--rounds N] [--seconds S]

Runs the same workloads against keyhold and the peers that are installed, interleaved round by
round on one machine, and prints medians and ratios. The store is in memory (/dev/shm) and filled
first. With --tls: keyhold and nbdkit, both with TLS 1.3, AES-256-GCM and the same certificate.
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      tls: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    stdout.write(HELP);
    return;
  }
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 5));
  const seconds = Number(values.seconds ?? (values.quick ? 1 : 2));
  const peers = await startPeers({ tls: values.tls });
  const figures: Figures = new Map();
  try {
    for (let round = 1; round <= rounds; round += 1) {
      for (const workload of WORKLOADS) {
        for (const peer of peers.running) {
          const value = await workload.measure(peer, seconds);
          const key = `${workload.name}\n${peer.name}`;
          figures.set(key, [...(figures.get(key) ?? []), value]);
          process.stderr.write(`round ${round}/${rounds}  ${workload.name}  ${peer.name}\n`);
        }
      }
    }
  } finally {
    await peers.stop();
  }
  const names = peers.running.map((peer) => peer.name);
  if (values.json) {
    stdout.write(`${JSON.stringify(Object.fromEntries(figures), null, 2)}\n`);
  } else {
    stdout.write(renderTable(figures, WORKLOADS, names));
    for (const absent of peers.absent) stdout.write(`NOT MEASURED: ${absent}\n`);
  }
}

await main();

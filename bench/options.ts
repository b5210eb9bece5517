// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from 'node:util';
import type { StoreKind } from './figures.js';

export const HELP = `usage: npm run bench -- [options]

Runs the same workloads against keyhold, its peers and a null server, interleaved round by round on
one machine, and prints medians, ratios, CPU time, latencies and the goals. Takes about 25 minutes.

  --quick            one short round, tmpfs only: under 3 minutes on an idle machine
  --store KIND       tmpfs, ext4 (the file system of this checkout) or both; of two stores the
                     second gets four workloads. Default: both, with --quick tmpfs
  --only REGEX       workloads, such as "4k|nbdcopy"; "shards" compares one and two shards
  --peers REGEX      servers, such as "keyhold|null"
  --rounds N         default 5, with --quick 1
  --seconds S        of each run; default 1.5, with --quick 0.4
  --json FILE        every figure; - is standard output, and the tables are left out
  --markdown FILE    the tables and the facts of the machine
  --plots DIR        where the plots go; default bench/out
  --tls              keyhold and nbdkit, both with TLS 1.3, AES-256-GCM and the same certificate
`;

export interface BenchOptions {
  readonly help: boolean;
  readonly tls: boolean;
  readonly stores: readonly StoreKind[];
  readonly only: RegExp;
  readonly peers: RegExp;
  readonly rounds: number;
  readonly seconds: number;
  /** Of the latencies at half load. */
  readonly latencyRounds: number;
  readonly json: string | null;
  readonly markdown: string | null;
  readonly plots: string;
}

/** Throws with a message for the user. */
export function parseOptions(argv: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: 'boolean', default: false },
      store: { type: 'string' },
      only: { type: 'string', default: '' },
      peers: { type: 'string', default: '' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      json: { type: 'string' },
      markdown: { type: 'string' },
      plots: { type: 'string', default: 'bench/out' },
      tls: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const { quick } = values;
  const rounds = positive('--rounds', values.rounds ?? (quick ? '1' : '5'));
  if (!Number.isInteger(rounds)) throw new Error(`--rounds: expected an integer, got ${rounds}`);
  return {
    help: values.help,
    tls: values.tls,
    stores: storesOf(values.store ?? (quick ? 'tmpfs' : 'both')),
    only: new RegExp(values.only),
    peers: new RegExp(values.peers),
    rounds,
    seconds: positive('--seconds', values.seconds ?? (quick ? '0.4' : '1.5')),
    latencyRounds: Math.min(rounds, 3),
    json: values.json ?? null,
    markdown: values.markdown ?? null,
    plots: values.plots,
  };
}

function storesOf(name: string): StoreKind[] {
  if (name === 'both') return ['tmpfs', 'ext4'];
  if (name === 'tmpfs' || name === 'ext4') return [name];
  throw new Error(`--store: expected tmpfs, ext4 or both, got ${name}`);
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new Error(`${option}: expected a positive number, got ${text}`);
}

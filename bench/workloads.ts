// SPDX-License-Identifier: Apache-2.0
import { runOk } from '../test/support/process.js';
import { cpuSecondsOf } from './cpu.js';
import type { Sample } from './figures.js';
import { type FioJob, runFio } from './fio.js';
import type { Peer } from './peer.js';

/** What the workloads of one plot have in common. */
export type Group =
  | '4k random read'
  | '4k random write'
  | '4k mix'
  | 'sequential read'
  | 'sequential write'
  | 'nbdcopy';

export interface Workload {
  readonly name: string;
  readonly group: Group;
  readonly unit: 'IOPS' | 'MB/s';
  readonly writes: boolean;
  /** Measured on the second store as well; the rest would take another 20 minutes. */
  readonly onEveryStore: boolean;
  measure(peer: Peer, seconds: number): Promise<Sample>;
}

const KIB = 1024;

export function isSmall(workload: Workload): boolean {
  return workload.unit === 'IOPS';
}

function random(job: FioJob & { group: Group; onEveryStore?: boolean }): Workload {
  const { group, onEveryStore = false, ...rest } = job;
  const connections = job.connections === 1 ? '' : ` x${job.connections}`;
  return {
    name: `${group} q${job.depth}${connections}`,
    group,
    unit: 'IOPS',
    writes: job.rw !== 'randread',
    onEveryStore,
    measure: (peer, seconds) => runFio(peer, rest, seconds),
  };
}

function sequential(rw: 'read' | 'write', kib: number, depth: number): Workload {
  const size = kib >= KIB ? `${kib / KIB}M` : `${kib}k`;
  return {
    name: `${size} sequential ${rw} q${depth}`,
    group: `sequential ${rw}`,
    unit: 'MB/s',
    writes: rw === 'write',
    onEveryStore: kib < KIB,
    async measure(peer, seconds) {
      const job = { rw, blockBytes: kib * KIB, depth, connections: 1 };
      const sample = await runFio(peer, job, seconds);
      return { ...sample, value: (sample.value * kib * KIB) / 1e6, latencyUs: null };
    },
  };
}

/** The whole disk in one go, with nbdcopy's default of four connections where the server can. */
function nbdcopy(direction: 'read' | 'write', filesOf: (peer: Peer) => [string, string]): Workload {
  return {
    name: `nbdcopy ${direction} of the whole disk`,
    group: 'nbdcopy',
    unit: 'MB/s',
    writes: direction === 'write',
    onEveryStore: false,
    async measure(peer) {
      const before = await cpuSecondsOf(peer.pid);
      const script = 'TIMEFORMAT="%R %U %S"; time nbdcopy -- "$1" "$2"';
      const files = filesOf(peer);
      // The shell's `time` writes to its own standard error.
      const output = await runOk('bash', ['-c', `{ ${script}; } 2>&1`, 'bash', ...files], {
        timeoutMs: 300_000,
      });
      const [seconds, user, system] = output.trim().split(' ').map(Number);
      if (seconds === undefined || user === undefined || system === undefined) {
        throw new Error(`nbdcopy: expected three times, got ${output.trim()}`);
      }
      return {
        value: peer.sizeBytes / 1e6 / seconds,
        operations: peer.sizeBytes / (256 * KIB),
        bytes: peer.sizeBytes,
        clientCpuSeconds: user + system,
        serverCpuSeconds: (await cpuSecondsOf(peer.pid)) - before,
        latencyUs: null,
      };
    },
  };
}

const READ = { group: '4k random read', rw: 'randread', blockBytes: 4 * KIB } as const;
const WRITE = { group: '4k random write', rw: 'randwrite', blockBytes: 4 * KIB } as const;
const MIX = { group: '4k mix', rw: 'randrw', blockBytes: 4 * KIB, readPercent: 70 } as const;

/** `copySource` is a file as large as the disks, without zeros. */
export function workloads(copySource: string): Workload[] {
  return [
    random({ ...READ, depth: 1, connections: 1 }),
    random({ ...READ, depth: 32, connections: 1, onEveryStore: true }),
    random({ ...READ, depth: 1, connections: 4 }),
    random({ ...READ, depth: 32, connections: 4 }),
    random({ ...WRITE, depth: 1, connections: 1 }),
    random({ ...WRITE, depth: 32, connections: 1, onEveryStore: true }),
    random({ ...WRITE, depth: 1, connections: 4 }),
    random({ ...WRITE, depth: 32, connections: 4 }),
    random({ ...MIX, depth: 32, connections: 1 }),
    sequential('read', 128, 16),
    sequential('write', 128, 16),
    sequential('read', 1024, 8),
    sequential('write', 1024, 8),
    nbdcopy('read', (peer) => [peer.uri, 'null:']),
    nbdcopy('write', (peer) => [copySource, peer.uri]),
  ];
}

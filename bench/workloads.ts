// SPDX-License-Identifier: Apache-2.0
import { runOk } from '../test/support/process.js';
import type { Peer } from './peers.js';

export interface Workload {
  readonly name: string;
  readonly unit: 'IOPS' | 'MB/s';
  measure(peer: Peer, seconds: number): Promise<number>;
}

interface FioJob {
  readonly rw: string;
  readonly blockSize: string;
  readonly depth: number;
  readonly jobs?: number;
}

interface FioSide {
  iops: number;
  bw_bytes: number;
}

/** One time-bounded fio run through its nbd engine; sums reads and writes. */
function fio(name: string, unit: Workload['unit'], job: FioJob): Workload {
  return {
    name,
    unit,
    async measure(peer, seconds) {
      const output = await runOk(
        'fio',
        [
          '--name=bench',
          '--ioengine=nbd',
          `--uri=${peer.uri}`,
          `--rw=${job.rw}`,
          `--bs=${job.blockSize}`,
          `--iodepth=${job.depth}`,
          `--numjobs=${job.jobs ?? 1}`,
          '--group_reporting',
          '--time_based',
          `--runtime=${seconds}`,
          '--ramp_time=0.5',
          '--size=100%',
          '--randrepeat=0',
          '--output-format=json',
        ],
        { timeoutMs: (seconds + 30) * 1000 },
      );
      // fio prints notes before its JSON.
      const parsed = JSON.parse(output.slice(output.indexOf('{'))) as {
        jobs: Array<{ read: FioSide; write: FioSide; error: number }>;
      };
      const result = parsed.jobs[0];
      if (result === undefined || result.error !== 0) throw new Error(`fio failed on ${peer.name}`);
      return unit === 'IOPS'
        ? result.read.iops + result.write.iops
        : (result.read.bw_bytes + result.write.bw_bytes) / 1e6;
    },
  };
}

/** The whole disk to nowhere through nbdcopy, four connections as is its default. */
const nbdcopyRead: Workload = {
  name: 'nbdcopy whole disk to null',
  unit: 'MB/s',
  async measure(peer) {
    const started = process.hrtime.bigint();
    await runOk('nbdcopy', [peer.uri, 'null:'], { timeoutMs: 120_000 });
    const seconds = Number(process.hrtime.bigint() - started) / 1e9;
    return peer.sizeBytes / 1e6 / seconds;
  },
};

export const WORKLOADS: readonly Workload[] = [
  fio('random read 4k q1', 'IOPS', { rw: 'randread', blockSize: '4k', depth: 1 }),
  fio('random read 4k q32', 'IOPS', { rw: 'randread', blockSize: '4k', depth: 32 }),
  fio('random write 4k q32', 'IOPS', { rw: 'randwrite', blockSize: '4k', depth: 32 }),
  fio('random read 4k q32 x4', 'IOPS', { rw: 'randread', blockSize: '4k', depth: 32, jobs: 4 }),
  fio('sequential read 128k q16', 'MB/s', { rw: 'read', blockSize: '128k', depth: 16 }),
  fio('sequential write 128k q16', 'MB/s', { rw: 'write', blockSize: '128k', depth: 16 }),
  fio('sequential read 1M q8', 'MB/s', { rw: 'read', blockSize: '1M', depth: 8 }),
  fio('sequential write 1M q8', 'MB/s', { rw: 'write', blockSize: '1M', depth: 8 }),
  nbdcopyRead,
];

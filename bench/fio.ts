// SPDX-License-Identifier: Apache-2.0
import { runOk } from '../test/support/process.js';
import { cpuSecondsOf } from './cpu.js';
import type { Percentiles, Sample } from './figures.js';
import type { Peer } from './peer.js';

export interface FioJob {
  readonly rw: 'randread' | 'randwrite' | 'read' | 'write' | 'randrw';
  readonly blockBytes: number;
  readonly depth: number;
  readonly connections: number;
  /** Of reads, with `randrw`. */
  readonly readPercent?: number;
  /** No more than so many; they come at random intervals, as of many independent clients. */
  readonly operationsPerSecond?: number;
}

interface FioSide {
  readonly total_ios: number;
  readonly io_bytes: number;
  readonly iops: number;
  readonly bw_bytes: number;
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

interface FioOutput {
  readonly jobs: ReadonlyArray<{
    readonly error: number;
    readonly read: FioSide;
    readonly write: FioSide;
    readonly usr_cpu: number;
    readonly sys_cpu: number;
    /** Milliseconds, the connections' together. */
    readonly job_runtime: number;
  }>;
}

/** Seconds that fio may take beside the run itself. */
const SLACK_SECONDS = 60;

/**
 * One time-bounded run through fio's nbd engine. `value` is in operations per second. There is no
 * ramp: the stores are filled, and so what a server's process used between start and end belongs to
 * the operations that are counted.
 */
export async function runFio(peer: Peer, job: FioJob, seconds: number): Promise<Sample> {
  const before = await cpuSecondsOf(peer.pid);
  const output = await runOk('fio', fioArguments(peer, job, seconds), {
    timeoutMs: (seconds + SLACK_SECONDS) * 1000,
  });
  const after = await cpuSecondsOf(peer.pid);
  return { ...parseFio(output), serverCpuSeconds: after - before };
}

/** Without the server's share, which fio does not know. */
export function parseFio(output: string): Omit<Sample, 'serverCpuSeconds'> {
  // fio prints notes before its JSON.
  const { jobs } = JSON.parse(output.slice(output.indexOf('{'))) as FioOutput;
  const [result] = jobs;
  if (result === undefined || result.error !== 0) {
    throw new Error(`fio: expected error 0, got ${result?.error ?? 'no job'}`);
  }
  const { read, write } = result;
  return {
    value: read.iops + write.iops,
    operations: read.total_ios + write.total_ios,
    bytes: read.io_bytes + write.io_bytes,
    // fio has its own rusage of the time in which it measures, in percent of that.
    clientCpuSeconds: ((result.usr_cpu + result.sys_cpu) / 100) * (result.job_runtime / 1000),
    latencyUs: percentilesOf(read.total_ios >= write.total_ios ? read : write),
  };
}

function percentilesOf(side: FioSide): Percentiles | null {
  const { percentile } = side.clat_ns;
  if (percentile === undefined) return null;
  const at = (name: string): number => (percentile[name] ?? Number.NaN) / 1000;
  return { p50: at('50.000000'), p99: at('99.000000'), p999: at('99.900000') };
}

function fioArguments(peer: Peer, job: FioJob, seconds: number): string[] {
  return [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${peer.uri}`,
    `--rw=${job.rw}`,
    ...(job.readPercent === undefined ? [] : [`--rwmixread=${job.readPercent}`]),
    `--bs=${job.blockBytes}`,
    `--iodepth=${job.depth}`,
    `--numjobs=${job.connections}`,
    ...(job.operationsPerSecond === undefined
      ? []
      : [`--rate_iops=${Math.round(job.operationsPerSecond)}`, '--rate_process=poisson']),
    '--group_reporting',
    '--time_based',
    `--runtime=${Math.round(seconds * 1000)}ms`,
    `--size=${peer.sizeBytes}`,
    '--randrepeat=0',
    // The way to read the clock that need not be calibrated: a third of a second each run.
    '--clocksource=clock_gettime',
    '--thread',
    '--output-format=json',
  ];
}

/** Writes the whole disk once: in a sparse store the first writes would pay for pages. */
export async function fill(peer: Peer): Promise<void> {
  const options = ['--name=fill', '--ioengine=nbd', `--uri=${peer.uri}`, '--rw=write', '--bs=1M'];
  await runOk(
    'fio',
    [...options, '--iodepth=8', `--size=${peer.sizeBytes}`, '--refill_buffers', '--thread'],
    { timeoutMs: 300_000 },
  );
}

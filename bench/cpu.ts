// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile } from 'node:fs/promises';

/** What Linux tells user space, on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

export interface ProcessStat {
  readonly pid: number;
  readonly parent: number;
  /** User and system time, that of ended children which were waited for included. */
  readonly cpuSeconds: number;
}

/** A line of /proc/PID/stat. The command, in brackets, may hold spaces and brackets itself. */
export function parseStat(line: string): ProcessStat {
  const close = line.lastIndexOf(')');
  const fields = line.slice(close + 2).split(' ');
  // proc(5) counts from 1, and two fields stand before these.
  const field = (number: number): number => Number(fields[number - 3]);
  const ticks = field(14) + field(15) + field(16) + field(17);
  return {
    pid: Number.parseInt(line, 10),
    parent: field(4),
    cpuSeconds: ticks / TICKS_PER_SECOND,
  };
}

/** The CPU time of a process and all its descendants. */
export function treeSeconds(processes: readonly ProcessStat[], root: number): number {
  const own = processes.find(({ pid }) => pid === root)?.cpuSeconds ?? 0;
  return processes
    .filter(({ parent }) => parent === root)
    .reduce((sum, child) => sum + treeSeconds(processes, child.pid), own);
}

export async function cpuSecondsOf(root: number): Promise<number> {
  const processes: ProcessStat[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      processes.push(parseStat(await readFile(`/proc/${name}/stat`, 'utf8')));
    } catch {
      continue; // it ended meanwhile
    }
  }
  return treeSeconds(processes, root);
}

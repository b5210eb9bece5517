// SPDX-License-Identifier: Apache-2.0
import { readFileSync, readlinkSync } from 'node:fs';

/** Linux counts a thread's time in these for every program, whatever its own tick is. */
const TICKS_PER_SECOND = 100;

/** Room for the thread ids that shards write and the control thread reads. */
export function createThreadIds(shards: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(shards * Int32Array.BYTES_PER_ELEMENT));
}

/** Called on the shard's own thread, since only it knows itself by /proc/thread-self. */
export function noteThreadId(threadIds: Int32Array, index: number): void {
  try {
    Atomics.store(threadIds, index, Number(/\d+$/.exec(readlinkSync('/proc/thread-self'))?.[0]));
  } catch {
    Atomics.store(threadIds, index, 0); // without /proc: nobody learns how busy it is
  }
}

/** Processor time of each shard's thread, user and system; null where it cannot be had. */
export function cpuSecondsOf(threadIds: Int32Array): Array<number | null> {
  return Array.from(threadIds, (_, index) => {
    try {
      const id = Atomics.load(threadIds, index);
      return parseThreadStat(readFileSync(`/proc/self/task/${id}/stat`, 'utf8'));
    } catch {
      return null; // it ended, or it has not begun
    }
  });
}

/** proc(5): the name stands in brackets and may hold anything; utime and stime are 14 and 15. */
export function parseThreadStat(text: string): number | null {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks) ? ticks / TICKS_PER_SECOND : null;
}

// SPDX-License-Identifier: Apache-2.0
import { loadAddon } from './load.js';
import { noteThreadId } from './shard-threads.js';

export interface ShardTask {
  readonly planeId: number;
  readonly index: number;
  /** Gets the id of the shard's thread, at `index`. */
  readonly threadIds: Int32Array;
}

const addon = loadAddon();

/**
 * One long Piscina task: runs a shard on this worker's thread until the plane stops. Blocks the
 * worker's event loop on purpose; nothing else is scheduled on it. Throws when the shard died.
 */
export default function runShard(task: ShardTask): void {
  noteThreadId(task.threadIds, task.index);
  addon.runShard(task.planeId, task.index);
}

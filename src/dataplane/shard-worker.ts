// SPDX-License-Identifier: Apache-2.0
import { loadAddon } from './load.js';

export interface ShardTask {
  readonly planeId: number;
  readonly index: number;
}

const addon = loadAddon();

/**
 * One long Piscina task: runs a shard on this worker's thread until the plane stops. Blocks the
 * worker's event loop on purpose; nothing else is scheduled on it. Throws when the shard died.
 */
export default function runShard(task: ShardTask): void {
  addon.runShard(task.planeId, task.index);
}

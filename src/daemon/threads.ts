// SPDX-License-Identifier: Apache-2.0
import { SHARDS_MAX } from '../config/schema.js';

/**
 * Beyond it a client of one connection is the limit: each thread adds what a shard does of long
 * READs, and the shard still copies all of them into the socket.
 */
const CIPHER_THREADS_USEFUL = 4;

/** How many shards the data plane gets: as the config says, or (0) one per core. */
export function shardsOf(setting: number, cores: number): number {
  return setting === 0 ? Math.min(cores, SHARDS_MAX) : setting;
}

/** How many cipher threads: as the config says, or (`auto`) one for each core but the first. */
export function cipherThreadsOf(setting: number | 'auto', cores: number): number {
  if (setting !== 'auto') return setting;
  return Math.min(cores - 1, CIPHER_THREADS_USEFUL);
}

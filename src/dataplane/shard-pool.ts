// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { cpuSecondsOf, createThreadIds } from './shard-threads.js';
import type { ShardTask } from './shard-worker.js';

/**
 * How often a shard is started again before the daemon gives up on it: a shard that dies at once
 * each time has a cause that another start does not mend (no io_uring, no memory).
 */
const SHARD_RESTARTS_MAX = 10;

export interface ShardStatus {
  readonly index: number;
  readonly alive: boolean;
  readonly restarts: number;
}

/**
 * Keeps one long Piscina task per shard. The pool is fixed; atomics are off, since a worker never
 * returns to its event loop while it serves; tasks carry no AbortSignal, since aborting one kills
 * its worker under running I/O. A task that ends before `stop` is a dead shard.
 */
export class ShardPool {
  readonly #pool: Piscina<ShardTask, void>;
  readonly #planeId: number;
  readonly #logger: Logger;
  readonly #onDeath: (index: number, message: string, final: boolean) => void;
  readonly #restarts: number[];
  readonly #alive: boolean[];
  readonly #threadIds: Int32Array;
  readonly #tasks = new Set<Promise<void>>();
  #stopping = false;

  constructor(options: {
    planeId: number;
    shards: number;
    logger: Logger;
    /** `final`: the shard will not be started again. */
    onDeath: (index: number, message: string, final: boolean) => void;
  }) {
    this.#planeId = options.planeId;
    this.#logger = options.logger;
    this.#onDeath = options.onDeath;
    this.#restarts = new Array<number>(options.shards).fill(0);
    this.#alive = new Array<boolean>(options.shards).fill(false);
    this.#threadIds = createThreadIds(options.shards);
    this.#pool = new Piscina({
      filename: fileURLToPath(new URL('./shard-worker.js', import.meta.url)),
      minThreads: options.shards,
      maxThreads: options.shards,
      maxQueue: options.shards,
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
      recordTiming: false,
      // A shard's worker makes one native call: no loader or flag of the process is needed there.
      execArgv: [],
    });
    for (let index = 0; index < options.shards; index += 1) this.#start(index);
  }

  status(): ShardStatus[] {
    return this.#alive.map((alive, index) => ({
      index,
      alive,
      restarts: this.#restarts[index] ?? 0,
    }));
  }

  /** Processor time of each shard's thread; null where the host does not tell. */
  cpuSeconds(): Array<number | null> {
    return cpuSecondsOf(this.#threadIds);
  }

  /** Call after the plane was told to stop: waits for the shards and ends the workers. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#tasks);
    await this.#pool.destroy();
  }

  /** From now on a task that ends is no death. For exit paths that cannot wait. */
  expectStop(): void {
    this.#stopping = true;
  }

  #start(index: number): void {
    this.#alive[index] = true;
    const task = this.#run(index).finally(() => this.#tasks.delete(task));
    this.#tasks.add(task);
  }

  async #run(index: number): Promise<void> {
    let message = 'its task ended although the plane was not stopped';
    try {
      const threadIds = this.#threadIds;
      await this.#pool.run({ planeId: this.#planeId, index, threadIds });
    } catch (error) {
      message = messageOf(error);
    }
    this.#alive[index] = false;
    if (this.#stopping) return;
    const restarts = this.#restarts[index] ?? 0;
    const final = restarts >= SHARD_RESTARTS_MAX;
    this.#logger.error({ shard: index, restarts, cause: message }, 'shard died');
    this.#onDeath(index, message, final);
    if (final) return;
    this.#restarts[index] = restarts + 1;
    this.#start(index);
  }
}

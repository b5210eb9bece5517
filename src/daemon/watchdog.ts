// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { ShardStatus } from '../dataplane/shard-pool.js';

/** sd_watchdog_enabled(3) recommends half of the time. */
const FEEDS_PER_PERIOD = 2;
/**
 * How often the shards are looked at again while one is stuck: one that goes on in the second half
 * of the time is still noticed before it is over.
 */
const LOOKS_PER_PERIOD_WHILE_STUCK = 8;

export interface WatchdogOptions {
  readonly watchdogMs: number;
  readonly shards: () => readonly ShardStatus[];
  /** Of each shard, a count that goes on for as long as its loop turns. */
  readonly shardTicks: () => readonly number[];
  readonly feed: () => void;
  readonly clock: Clock;
  readonly logger: Pick<Logger, 'error' | 'info'>;
}

/**
 * Feeds the service manager's watchdog for as long as the control plane, whose timer this is, and
 * every living shard go on. A shard that died is not stuck: the pool starts it again. One that
 * hangs inside a call cannot be helped from inside the process, and neither can a data plane that
 * has lost its last shard for good: then the feeding stops, and the service manager starts the
 * daemon anew.
 */
export class Watchdog {
  readonly #options: WatchdogOptions;
  #ticks: readonly number[];
  #restarts: readonly number[];
  #stuck = '';
  #timer: Timer | undefined;

  constructor(options: WatchdogOptions) {
    this.#options = options;
    this.#ticks = options.shardTicks();
    this.#restarts = options.shards().map(({ restarts }) => restarts);
    options.feed();
    this.#lookIn(options.watchdogMs / FEEDS_PER_PERIOD);
  }

  close(): void {
    this.#timer?.cancel();
  }

  #lookIn(delayMs: number): void {
    this.#timer = this.#options.clock.setTimer(delayMs, () => this.#look());
  }

  #look(): void {
    const { watchdogMs, feed } = this.#options;
    const stuck = this.#findStuck();
    if (stuck === '') {
      feed();
      this.#lookIn(watchdogMs / FEEDS_PER_PERIOD);
    } else {
      this.#lookIn(watchdogMs / LOOKS_PER_PERIOD_WHILE_STUCK);
    }
    this.#tell(stuck);
  }

  /** Empty when nothing is. */
  #findStuck(): string {
    const shards = this.#options.shards();
    const ticks = this.#options.shardTicks();
    const stuck = shards.filter(
      ({ index, alive, restarts }) =>
        alive && ticks[index] === this.#ticks[index] && restarts === this.#restarts[index],
    );
    this.#ticks = ticks;
    this.#restarts = shards.map(({ restarts }) => restarts);
    if (!shards.some(({ alive }) => alive)) return 'no shard is alive';
    return stuck.map(({ index }) => `shard ${index} is stuck`).join(', ');
  }

  #tell(stuck: string): void {
    if (stuck === this.#stuck) return;
    const { logger, watchdogMs } = this.#options;
    this.#stuck = stuck;
    if (stuck === '') logger.info({}, 'the watchdog is fed again');
    else logger.error({ cause: stuck, watchdogMs }, 'the watchdog is not fed');
  }
}

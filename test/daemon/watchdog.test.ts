// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { Watchdog } from '../../src/daemon/watchdog.js';
import { collectingLogger, type LogLine } from '../dataplane/lines.js';
import { FakeClock } from '../support/fake-clock.js';

const PERIOD_MS = 8000;

/** Two shards whose ticks a test moves. */
class Shards {
  readonly ticks = [5, 5];
  readonly alive = [true, true];
  readonly restarts = [0, 0];
  readonly stuck = new Set<number>();
  readonly clock = new FakeClock();
  readonly log: LogLine[] = [];
  fed = 0;
  readonly watchdog = new Watchdog({
    watchdogMs: PERIOD_MS,
    shards: () =>
      this.alive.map((alive, index) => ({ index, alive, restarts: this.restarts[index] ?? 0 })),
    shardTicks: () => [...this.ticks],
    feed: () => (this.fed += 1),
    clock: this.clock,
    logger: collectingLogger(this.log),
  });

  /** Lets time pass in which shards tick that are alive and not stuck. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 500) {
      this.ticks.forEach((count, index) => {
        if (this.alive[index] === true && !this.stuck.has(index)) this.ticks[index] = count + 1;
      });
      await this.clock.advance(500);
    }
  }
}

void test('the watchdog is fed at once and then twice in its time', async (t) => {
  const shards = new Shards();
  t.equal(shards.fed, 1);
  await shards.pass(2 * PERIOD_MS);
  t.equal(shards.fed, 5);
});

for (const index of [0, 1]) {
  void test(`shard ${index} alone stops the feeding while it is stuck`, async (t) => {
    const shards = new Shards();
    await shards.pass(PERIOD_MS);
    const fed = shards.fed;
    shards.stuck.add(index);
    await shards.pass(3 * PERIOD_MS);
    t.equal(shards.fed, fed);
    t.match(shards.log, [{ level: 'error', fields: { cause: `shard ${index} is stuck` } }]);
    t.equal(shards.log.length, 1, 'it is said once');
  });
}

void test('a shard that goes on is noticed before the time is over', async (t) => {
  const shards = new Shards();
  shards.stuck.add(1);
  await shards.pass(PERIOD_MS / 2 + 500);
  t.equal(shards.fed, 1);
  shards.stuck.clear();
  await shards.pass(PERIOD_MS / 4);
  t.equal(shards.fed, 2);
  t.match(shards.log[1], { level: 'info', message: 'the watchdog is fed again' });
});

void test('a shard that is given up does not stop the feeding', async (t) => {
  const shards = new Shards();
  shards.alive[1] = false;
  await shards.pass(PERIOD_MS);
  t.equal(shards.fed, 3);
});

void test('a shard that was just started again is not taken for stuck', async (t) => {
  const shards = new Shards();
  shards.stuck.add(1);
  shards.restarts[1] = 1;
  await shards.pass(PERIOD_MS / 2);
  t.equal(shards.fed, 2);
});

void test('one that never begins after it was started again is', async (t) => {
  const shards = new Shards();
  shards.stuck.add(1);
  shards.restarts[1] = 1;
  await shards.pass(2 * PERIOD_MS);
  t.equal(shards.fed, 2);
});

void test('a data plane without a living shard is not fed', async (t) => {
  const shards = new Shards();
  shards.alive.fill(false);
  await shards.pass(2 * PERIOD_MS);
  t.equal(shards.fed, 1);
  t.match(shards.log, [{ fields: { cause: 'no shard is alive' } }]);
});

void test('nothing is fed after the end', async (t) => {
  const shards = new Shards();
  shards.watchdog.close();
  await shards.pass(2 * PERIOD_MS);
  t.equal(shards.fed, 1);
  t.equal(shards.clock.pendingCount, 0);
});

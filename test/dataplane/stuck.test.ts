// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'tap';
import { createSystemClock } from '../../src/base/clock.js';
import { Watchdog } from '../../src/daemon/watchdog.js';
import { NotifySocket } from '../support/notify-socket.js';
import { eventually } from '../support/process.js';
import { collectingLogger, type LogLine } from './lines.js';
import { addon, Rig, temporaryDirectory } from './rig.js';

const WATCHDOG_MS = 1000;
const FED = 'WATCHDOG=1';

/** A real data plane with a watchdog that is fed over a real socket. */
async function watched(t: Parameters<typeof Rig.start>[0]) {
  const manager = await NotifySocket.bind(join(await temporaryDirectory(t), 'notify.sock'));
  t.teardown(() => manager.close());
  const { plane } = await Rig.start(t);
  await eventually('every shard turns', () => plane.shardTicks().every((count) => count > 0));
  const log: LogLine[] = [];
  const watchdog = new Watchdog({
    watchdogMs: WATCHDOG_MS,
    shards: () => plane.shards(),
    shardTicks: () => plane.shardTicks(),
    feed: () => addon.notify(manager.address, FED),
    clock: createSystemClock({ bootMs: () => addon.bootTimeMs() }),
    logger: collectingLogger(log),
  });
  t.teardown(() => watchdog.close());
  return { manager, plane, log };
}

void test('idle shards keep the watchdog fed', async (t) => {
  const { manager, log } = await watched(t);
  await eventually('it is fed again and again', () => manager.count(FED) >= 5);
  t.same(log, []);
});

void test('a shard that is stuck stops the feeding until it goes on', async (t) => {
  const { manager, plane, log } = await watched(t);
  plane.stallShard(0, 5 * WATCHDOG_MS);
  await eventually('it is noticed', () => log.length === 1);
  const fed = manager.count(FED);
  await sleep(2 * WATCHDOG_MS);
  t.equal(manager.count(FED), fed);
  t.match(log, [{ level: 'error', fields: { cause: 'shard 0 is stuck' } }]);
  await eventually('it goes on', () => manager.count(FED) > fed + 1);
});

void test('a shard that died and was started again does not stop it', async (t) => {
  const { manager, plane, log } = await watched(t);
  plane.failShard(0);
  await eventually('it was started again', () => plane.shards()[0]?.restarts === 1);
  const fed = manager.count(FED);
  await eventually('it is fed on', () => manager.count(FED) > fed + 2);
  t.same(log, []);
});

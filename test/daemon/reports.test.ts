// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { createSilentLogger } from '../../src/base/logger.js';
import { Notifier } from '../../src/daemon/notify.js';
import { type Counts, Reports, statusLine } from '../../src/daemon/reports.js';
import { FakeClock } from '../support/fake-clock.js';

const NONE: Counts = {
  disks: { total: 0, online: 0 },
  sets: { total: 0, granted: 0 },
  nextProbe: null,
  alarms: 0,
};

class World {
  readonly clock = new FakeClock();
  readonly sent: string[] = [];
  counts = NONE;
  readonly reports: Reports;

  constructor(watchdogMs: number | null = null, socketPath: string | null = '/run/n') {
    const logger = createSilentLogger();
    const notifier = new Notifier({
      socketPath,
      pid: 1,
      send: (_, state) => this.sent.push(state),
      monotonicUs: () => 1n,
      logger,
    });
    const reported = {
      counts: () => this.counts,
      shards: () => [{ index: 0, alive: true, restarts: 0 }],
      shardTicks: () => [this.clock.bootMs()],
      clock: this.clock,
    };
    const manager = { socketPath, watchdogMs };
    this.reports = new Reports({ notifier, manager, reported, logger });
  }

  online(online: number): void {
    this.counts = { ...this.counts, disks: { total: 4, online } };
  }
}

void test('the line says how many disks and sets there are of each', (t) => {
  const counts = { ...NONE, disks: { total: 4, online: 3 }, sets: { total: 2, granted: 1 } };
  t.equal(statusLine(counts), '3 of 4 disks online, 1 of 2 sets granted');
  t.end();
});

void test('alarms are counted in the line', (t) => {
  const counts = { ...NONE, disks: { total: 1, online: 1 }, sets: { total: 1, granted: 1 } };
  const line = '1 of 1 disk online, 1 of 1 set granted, 1 alarm';
  t.equal(statusLine({ ...counts, alarms: 1 }), line);
  t.end();
});

void test('the line says when the next probe is, and of which set', (t) => {
  const line = statusLine({ ...NONE, nextProbe: { set: 'prod', inMs: 3_600 }, alarms: 2 });
  const expected =
    '0 of 0 disks online, 0 of 0 sets granted, next probe in 4 s (set prod), 2 alarms';
  t.equal(line, expected);
  t.end();
});

void test('readiness comes with the status', (t) => {
  t.same(new World().sent, ['READY=1\nMAINPID=1\nSTATUS=0 of 0 disks online, 0 of 0 sets granted']);
  t.end();
});

void test('a status that stays the same is not sent again', async (t) => {
  const world = new World();
  await world.clock.advance(10_000);
  t.equal(world.sent.length, 1);
});

void test('a status that changes all the time is sent once a second', async (t) => {
  const world = new World();
  for (let i = 0; i < 30; i += 1) {
    world.online(i);
    await world.clock.advance(100);
  }
  t.equal(world.sent.length, 1 + 3);
});

void test('a reload is told of before it begins and after it has ended', async (t) => {
  const world = new World();
  await world.reports.around(async () => {
    world.online(1);
    await world.clock.advance(5000);
    t.match(world.sent.at(-1), /^RELOADING=1\n/);
  });
  t.match(world.sent.at(-1), /^READY=1\n.*\nSTATUS=1 of 4 disks/);
  t.equal(world.sent.length, 3);
});

void test('a reload that fails is over all the same', async (t) => {
  const world = new World();
  await t.rejects(world.reports.around(() => Promise.reject(new Error('no such file'))));
  t.match(world.sent.at(-1), /^READY=1\n/);
});

void test('the first of two reloads does not end the second', async (t) => {
  const world = new World();
  let end: () => void = () => undefined;
  const second = world.reports.around(() => new Promise<void>((resolve) => (end = resolve)));
  await world.reports.around(() => Promise.resolve());
  t.match(world.sent.at(-1), /^RELOADING=1\n/);
  end();
  await second;
  t.match(world.sent.at(-1), /^READY=1\n/);
});

void test('the end is the last word', async (t) => {
  const world = new World(2000);
  world.reports.stop();
  world.online(2);
  await world.clock.advance(10_000);
  t.match(world.sent.at(-1), /^STOPPING=1\n/);
  t.equal(world.clock.pendingCount, 0);
});

void test('a watchdog that nobody asked for is not fed', async (t) => {
  const world = new World(null);
  await world.clock.advance(60_000);
  t.notOk(world.sent.includes('WATCHDOG=1'));
});

void test('without a service manager no timer runs', (t) => {
  const world = new World(1000, null);
  t.equal(world.clock.pendingCount, 0);
  t.same(world.sent, []);
  t.end();
});

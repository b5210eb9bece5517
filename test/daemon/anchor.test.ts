// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { type Anchor, parseAnchor } from '../../src/audit/anchors.js';
import { type AuditLog, openAudit } from '../../src/audit/audit-log.js';
import { createSilentLogger } from '../../src/base/logger.js';
import type { AuditConfig } from '../../src/config/audit.js';
import { Alarms } from '../../src/daemon/alarms.js';
import { Anchors } from '../../src/daemon/anchor.js';
import { FakeClock } from '../support/fake-clock.js';
import { endProcess } from '../support/process.js';

const MINUTE_MS = 60_000;

interface World {
  readonly clock: FakeClock;
  readonly audit: AuditLog;
  readonly alarms: Alarms;
  readonly anchors: Anchors;
  readonly logged: string[];
  readonly results: string[];
}

async function makeWorld(t: Test, config: Partial<AuditConfig> = {}): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-anchor-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const clock = new FakeClock();
  const audit = await openAudit(join(directory, 'audit.jsonl'), { clock });
  t.teardown(() => audit.close());
  const alarms = new Alarms(clock);
  const logged: string[] = [];
  const results: string[] = [];
  const anchors = new Anchors({
    audit,
    config: { anchorIntervalMs: 10 * MINUTE_MS, syslog: false, ...config },
    clock,
    logger: { ...createSilentLogger(), info: (_fields, message) => void logged.push(message) },
    alarms,
    metrics: { observeAnchor: (result) => void results.push(result) },
  });
  anchors.start();
  return { clock, audit, alarms, anchors, logged, results };
}

/** A unix datagram socket in the place of /dev/log; `next` waits for what arrives. */
async function startSyslog(t: Test): Promise<{ path: string; next: () => Promise<string> }> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-syslog-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'log');
  const helper = new URL('../support/syslog-socket.py', import.meta.url).pathname;
  const receiver = spawn('python3', [helper, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => endProcess(receiver, 'SIGTERM'));
  const lines: string[] = [];
  let wake = (): void => undefined;
  receiver.stdout.on('data', (chunk: Buffer) => {
    lines.push(...chunk.toString().split('\n').filter(Boolean));
    wake();
  });
  const next = async (): Promise<string> => {
    while (lines.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return lines.shift() ?? '';
  };
  t.equal(await next(), 'ready');
  return { path, next };
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 2000 && !condition(); turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function anchorsOf(lines: readonly string[]): Anchor[] {
  return lines.flatMap((line) => parseAnchor(line) ?? []);
}

void test('an anchor names the end of the log', async (t) => {
  const { clock, audit, logged } = await makeWorld(t);
  const { seq, hash } = await audit.append('one');
  await clock.advance(10 * MINUTE_MS);
  t.match(anchorsOf(logged), [{ seq, hash, path: audit.path }]);
});

void test('nothing is anchored before the interval is over', async (t) => {
  const { clock, audit, logged } = await makeWorld(t);
  await audit.append('one');
  await clock.advance(10 * MINUTE_MS - 1);
  t.same(logged, []);
});

void test('a log that did not move is not anchored again', async (t) => {
  const { clock, audit, logged } = await makeWorld(t);
  await audit.append('one');
  await clock.advance(10 * MINUTE_MS);
  await clock.advance(10 * MINUTE_MS);
  t.equal(logged.length, 1);
});

void test('an empty log has no anchor', async (t) => {
  const { clock, logged } = await makeWorld(t);
  await clock.advance(20 * MINUTE_MS);
  t.same(logged, []);
});

void test('without an interval nothing is anchored, not even at the end', async (t) => {
  const { clock, audit, anchors, logged } = await makeWorld(t, { anchorIntervalMs: null });
  await audit.append('one');
  await clock.advance(60 * MINUTE_MS);
  await anchors.close();
  t.same(logged, []);
});

void test('the end of the daemon is anchored once, however often it is closed', async (t) => {
  const { audit, anchors, logged } = await makeWorld(t);
  const { seq } = await audit.append('daemon-stopped');
  await anchors.close();
  await anchors.close();
  t.match(anchorsOf(logged), [{ seq }]);
});

void test('after its end nothing is anchored any more', async (t) => {
  const { clock, audit, anchors, logged } = await makeWorld(t);
  await anchors.close();
  await audit.append('one');
  await clock.advance(60 * MINUTE_MS);
  t.same(logged, []);
});

void test('syslog gets the anchor with tag and pid', async (t) => {
  const { path, next } = await startSyslog(t);
  const { clock, audit, results } = await makeWorld(t, { syslog: true, syslogSocket: path });
  const { seq, hash } = await audit.append('one');
  await clock.advance(10 * MINUTE_MS);
  const line = await next();
  t.match(line, new RegExp(`^<85>.* keyhold\\[${process.pid}\\]: audit-anchor `));
  t.match(parseAnchor(line), { seq, hash, path: audit.path });
  await until(() => results.length > 0);
  t.same(results, ['ok']);
});

void test('a syslog that is not there raises an alarm and counts a failure', async (t) => {
  const world = await makeWorld(t, { syslog: true, syslogSocket: '/nonexistent/log' });
  await world.audit.append('one');
  await world.clock.advance(10 * MINUTE_MS);
  await until(() => world.results.length > 0);
  t.same(world.results, ['failed']);
  t.match(world.alarms.list(), [{ name: 'audit anchor', message: /nonexistent/ }]);
});

void test('an anchor that failed is tried again although the log did not move', async (t) => {
  const world = await makeWorld(t, { syslog: true, syslogSocket: '/nonexistent/log' });
  await world.audit.append('one');
  for (const count of [1, 2]) {
    await world.clock.advance(10 * MINUTE_MS);
    await until(() => world.results.length >= count);
  }
  t.same(world.results, ['failed', 'failed']);
});

void test('the log itself goes on while anchors fail', async (t) => {
  const world = await makeWorld(t, { syslog: true, syslogSocket: '/nonexistent/log' });
  await world.audit.append('one');
  await world.clock.advance(10 * MINUTE_MS);
  await until(() => world.results.length > 0);
  t.match(await world.audit.append('two'), { seq: 2 });
});

void test('another interval counts from when it is set', async (t) => {
  const { clock, audit, anchors, logged } = await makeWorld(t);
  await audit.append('command', {});
  anchors.reconfigure({ anchorIntervalMs: MINUTE_MS, syslog: false });
  await clock.advance(MINUTE_MS);
  t.equal(logged.length, 1);
  anchors.reconfigure({ anchorIntervalMs: null, syslog: false });
  await audit.append('command', {});
  await clock.advance(60 * MINUTE_MS);
  t.equal(logged.length, 1, 'none without an interval');
});

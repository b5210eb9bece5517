// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { makeCanary } from '../../src/sets/wrap.js';
import type { ProbeReport } from '../../src/sets/probe-line.js';
import { ProbeScheduler } from '../../src/sets/probe-scheduler.js';
import type { Canary, Verdict } from '../../src/vault/types.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeCustody } from '../support/fake-custody.js';
import { DISABLED, FakeVault, NO_ROLE, PROOF, SILENT } from '../support/fake-vault.js';
import { fixedRandom } from '../support/fixed-random.js';

const KID = 'https://vault.example/keys/k/v1';
const KEY = { identity: 'main', kid: KID };

interface Bench {
  clock: FakeClock;
  vault: FakeVault;
  scheduler: ProbeScheduler;
  reports: Map<string, ProbeReport[]>;
  subscribe: (
    id: string,
    options?: { intervalMs?: number; canary?: Canary },
  ) => Promise<() => void>;
  /** Starts of the probes, relative to the first. */
  starts: () => number[];
}

function bench(t: Test, options: { jitter?: number } = {}): Bench {
  const clock = new FakeClock();
  const vault = new FakeVault(clock, new FakeCustody(clock));
  const random = fixedRandom(options.jitter ?? 0);
  const scheduler = new ProbeScheduler({ vault, clock, random, timeoutMs: 5000 });
  t.teardown(() => scheduler.close());
  const reports = new Map<string, ProbeReport[]>();
  return {
    clock,
    vault,
    scheduler,
    reports,
    async subscribe(id, { intervalMs = 10_000, canary } = {}) {
      const key = await vault.fetchCustomerKey({ url: KID });
      const list: ProbeReport[] = [];
      reports.set(id, list);
      const own = canary ?? makeCanary(key, random);
      const onReport = (report: ProbeReport): void => void list.push(report);
      return scheduler.subscribe(KEY, { id, intervalMs, canary: own, onReport });
    },
    starts: () =>
      vault.probes.map((probe) => probe.startedBootMs - (vault.probes[0]?.startedBootMs ?? 0)),
  };
}

void test('the first probe starts at once, the next one interval after its start', async (t) => {
  const { clock, vault, subscribe, starts } = bench(t);
  vault.latencyMs = 300;
  await subscribe('a');
  await clock.advance(25_000);
  t.strictSame(starts(), [0, 10_000, 20_000]);
});

void test('jitter only shortens the interval, by at most a tenth', async (t) => {
  const { clock, subscribe, starts } = bench(t, { jitter: 0.999 });
  await subscribe('a');
  await clock.advance(9500);
  const [, second = 0] = starts();
  t.ok(second >= 9000 && second < 9100, String(second));
});

void test('a key shared by many sets is probed once for all, in the rhythm of the fastest', async (t) => {
  const { clock, vault, subscribe, reports } = bench(t);
  for (let index = 0; index < 50; index += 1) {
    await subscribe(`set-${String(index)}`, { intervalMs: index === 20 ? 5000 : 60_000 });
  }
  await clock.advance(20_000);
  t.equal(vault.probes.length, 5);
  t.ok(
    [...reports.values()].every((list) => list.length === 5),
    'every set hears every verdict',
  );
});

void test('a faster set that joins quickens the rhythm, and one that leaves slows it', async (t) => {
  const { clock, subscribe, starts } = bench(t);
  await subscribe('slow', { intervalMs: 60_000 });
  await clock.advance(1000);
  const leave = await subscribe('fast', { intervalMs: 5000 });
  await clock.advance(10_000);
  t.strictSame(starts(), [0, 5000, 10_000]);
  leave();
  await clock.advance(50_000);
  t.strictSame(starts().slice(3), [15_000], 'what was already due');
});

void test('no probe starts while one is under way, however slow', async (t) => {
  const { clock, vault, subscribe, scheduler } = bench(t);
  vault.latencyMs = 4000;
  await subscribe('a', { intervalMs: 1000 });
  for (let index = 0; index < 10; index += 1)
    void scheduler.probeNow(KEY, 'a').catch(() => undefined);
  await clock.advance(60_000);
  t.equal(vault.probesInFlightMax, 1);
});

void test('after the last set has left the key is not probed any more', async (t) => {
  const { clock, vault, subscribe } = bench(t);
  const leave = await subscribe('a');
  await clock.advance(1000);
  leave();
  const before = vault.probes.length;
  await clock.advance(600_000);
  t.equal(vault.probes.length, before);
  t.equal(clock.pendingCount, 0);
});

void test('a disabled key is confirmed at once on a fresh connection', async (t) => {
  const { clock, vault, subscribe, reports, starts } = bench(t);
  vault.latencyMs = 50;
  await subscribe('a');
  await clock.advance(5000);
  vault.behave(KID, DISABLED);
  await clock.advance(5200);
  t.strictSame(starts(), [0, 10_000, 10_050]);
  t.strictSame(
    vault.probes.map((probe) => probe.fresh),
    [false, false, true],
  );
  t.strictSame(
    reports.get('a')?.map((report) => report.denial),
    ['none', 'suspected', 'confirmed'],
  );
});

void test('a single denial between proofs takes nothing away', async (t) => {
  const { clock, vault, subscribe, reports } = bench(t);
  vault.behave(KID, PROOF, DISABLED, PROOF);
  await subscribe('a');
  await clock.advance(11_000);
  t.strictSame(
    reports.get('a')?.map((report) => report.denial),
    ['none', 'suspected', 'none'],
  );
});

void test('a missing role is confirmed by three denials over five seconds', async (t) => {
  const { clock, vault, subscribe, reports, starts } = bench(t);
  vault.behave(KID, NO_ROLE);
  await subscribe('a');
  await clock.advance(5100);
  t.strictSame(starts(), [0, 2510, 5020]);
  t.equal(reports.get('a')?.at(-1)?.denial, 'confirmed');
});

void test('a silent vault is asked again with growing pauses, never slower than the interval', async (t) => {
  const { clock, vault, subscribe, starts } = bench(t);
  vault.behave(KID, SILENT);
  await subscribe('a', { intervalMs: 3000 });
  await clock.advance(12_600);
  t.strictSame(starts(), [0, 500, 1500, 3500, 6500, 9500, 12_500]);
});

void test('Retry-After is honoured, also beyond the interval', async (t) => {
  const { clock, vault, subscribe, starts } = bench(t);
  vault.behave(KID, { kind: 'silent', retryAfterMs: 30_000 }, PROOF);
  await subscribe('a');
  await clock.advance(35_000);
  t.strictSame(starts(), [0, 30_000]);
});

void test('probeNow starts a probe of its own when one is under way already', async (t) => {
  const { clock, vault, subscribe, scheduler } = bench(t);
  vault.latencyMs = 1000;
  await subscribe('a');
  await clock.advance(500);
  const asked = scheduler.probeNow(KEY, 'a');
  await clock.advance(3000);
  t.equal((await asked).verdict.startedBootMs, vault.probes[1]?.startedBootMs);
});

void test('probeNow waits for the confirmation of a denial', async (t) => {
  const { clock, vault, subscribe, scheduler } = bench(t);
  await subscribe('a');
  await clock.advance(100);
  vault.behave(KID, NO_ROLE);
  const asked = scheduler.probeNow(KEY, 'a');
  await clock.advance(5100);
  t.equal((await asked).denial, 'confirmed');
});

void test('probeNow of a stranger is refused', async (t) => {
  const { scheduler, subscribe } = bench(t);
  await subscribe('a');
  await t.rejects(scheduler.probeNow(KEY, 'stranger'), { code: 'ERR_SET_CLOSED' });
  await t.rejects(scheduler.probeNow({ ...KEY, kid: 'other' }, 'a'), { code: 'ERR_SET_CLOSED' });
});

void test('closing ends those who wait', async (t) => {
  const { clock, vault, subscribe, scheduler } = bench(t);
  vault.latencyMs = 1000;
  await subscribe('a');
  await clock.advance(100);
  const asked = scheduler.probeNow(KEY, 'a');
  scheduler.close();
  await t.rejects(asked, { code: 'ERR_SET_CLOSED' });
});

void test('a probe that never ends is given up and counted as no answer', async (t) => {
  const { clock, vault, subscribe, reports } = bench(t);
  vault.probe = () => new Promise<Verdict>(() => undefined);
  await subscribe('a');
  await clock.advance(7100);
  t.match(reports.get('a'), [{ verdict: { kind: 'NO-ANSWER', code: 'TIMEOUT' } }]);
});

void test('a probe that throws against its contract is no answer', async (t) => {
  const { clock, vault, subscribe, reports } = bench(t);
  vault.probe = () => Promise.reject(new Error('bug'));
  await subscribe('a');
  await clock.advance(100);
  t.match(reports.get('a'), [{ verdict: { kind: 'NO-ANSWER', code: 'INTERNAL', message: 'bug' } }]);
});

void test('a spoiled canary condemns its own set alone', async (t) => {
  const { clock, vault, subscribe, reports } = bench(t);
  const key = await vault.fetchCustomerKey({ url: KID });
  const good = makeCanary(key, fixedRandom());
  await subscribe('bad', { canary: { ...good, plaintext: new Uint8Array(32) } });
  await subscribe('good');
  await clock.advance(30_000);
  t.ok(
    reports.get('bad')?.some((r) => r.verdict.class === 'integrity' && r.denial === 'confirmed'),
  );
  t.notOk(reports.get('bad')?.some((report) => report.verdict.kind === 'PROOF'));
  t.ok(reports.get('good')?.every((report) => report.verdict.kind === 'PROOF'));
  t.equal(reports.get('good')?.at(-1)?.denial, 'none');
});

void test('checking the set with the spoiled canary asks with that canary', async (t) => {
  const { clock, vault, subscribe, scheduler } = bench(t);
  const key = await vault.fetchCustomerKey({ url: KID });
  const good = makeCanary(key, fixedRandom());
  await subscribe('good');
  await subscribe('bad', { canary: { ...good, plaintext: new Uint8Array(32) } });
  await clock.advance(1000);
  const asked = scheduler.probeNow(KEY, 'bad');
  await clock.advance(100);
  t.match(await asked, { verdict: { class: 'integrity' }, denial: 'confirmed' });
});

void test('the next probe is told with who depends on it, and none when nobody does', async (t) => {
  const { clock, vault, scheduler, subscribe } = bench(t);
  t.equal(scheduler.nextProbe(), undefined);
  vault.latencyMs = 300;
  const leave = await subscribe('a');
  await clock.advance(100);
  t.equal(scheduler.nextProbe(), undefined, 'it is under way');
  await clock.advance(3900);
  const next = scheduler.nextProbe();
  t.equal(next?.subscriberId, 'a');
  t.equal((next?.atBootMs ?? 0) - clock.bootMs(), 6000);
  leave();
  t.equal(scheduler.nextProbe(), undefined);
});

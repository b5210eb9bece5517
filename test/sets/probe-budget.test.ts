// SPDX-License-Identifier: Apache-2.0
import { type Test, test } from 'tap';
import { makeCanary } from '../../src/sets/wrap.js';
import type { ProbeReport } from '../../src/sets/probe-line.js';
import { ProbeScheduler } from '../../src/sets/probe-scheduler.js';
import type { ProbeTurn, VaultAccess, Verdict } from '../../src/vault/types.js';
import { FakeClock } from '../support/fake-clock.js';
import { KEY_URL, World } from '../support/world.js';
import { FakeCustody } from '../support/fake-custody.js';
import {
  type Behaviour,
  DISABLED,
  FakeVault,
  NO_ROLE,
  PROOF,
  SILENT,
} from '../support/fake-vault.js';
import { fixedRandom } from '../support/fixed-random.js';

const KID = 'https://vault.example/keys/k/v1';
const throttled = (retryAfterMs: number): Behaviour => ({ kind: 'silent', retryAfterMs });

type TurnRequest = Parameters<NonNullable<VaultAccess['probeTurn']>>[0];

/** A vault whose budget admits when the test says so. */
class TurnVault extends FakeVault {
  readonly wishes: TurnRequest[] = [];
  readonly turns: Array<ProbeTurn | undefined> = [];
  turnAfterMs = 0;
  readonly #clock: FakeClock;

  constructor(clock: FakeClock) {
    super(clock, new FakeCustody(clock));
    this.#clock = clock;
  }

  probeTurn(request: TurnRequest): Promise<ProbeTurn> {
    this.wishes.push(request);
    return new Promise((resolve) =>
      this.#clock.setTimer(this.turnAfterMs, () => resolve({ kind: 'probe-turn' })),
    );
  }

  override probe(request: Parameters<VaultAccess['probe']>[0]): Promise<Verdict> {
    this.turns.push(request.turn);
    return super.probe(request);
  }
}

class Bench {
  readonly clock = new FakeClock();
  readonly vault = new TurnVault(this.clock);
  readonly scheduler: ProbeScheduler;
  readonly reports: ProbeReport[] = [];
  readonly #startBootMs = this.clock.bootMs();

  constructor(t: Test, options: { jitter?: number } = {}) {
    const { vault, clock } = this;
    const random = fixedRandom(options.jitter ?? 0);
    this.scheduler = new ProbeScheduler({ vault, clock, random, timeoutMs: 5000 });
    t.teardown(() => this.scheduler.close());
  }

  async subscribe(
    id = 'a',
    options: { kid?: string; intervalMs?: number; leaseMs?: number } = {},
  ): Promise<() => void> {
    const { kid = KID, intervalMs = 10_000, leaseMs = 900_000 } = options;
    const canary = makeCanary(await this.vault.fetchCustomerKey({ url: KID }), fixedRandom());
    const onReport = (report: ProbeReport): void => void this.reports.push(report);
    const subscriber = { id, canary, intervalMs, leaseMs, onReport };
    return this.scheduler.subscribe({ identity: 'main', kid }, subscriber);
  }

  starts(): number[] {
    return this.vault.probes.map(({ startedBootMs }) => startedBootMs - this.#startBootMs);
  }
}

void test('a probe carries the turn that it waited for', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe();
  await bench.clock.advance(0);
  t.match(bench.vault.turns, [{ kind: 'probe-turn' }]);
});

void test('waiting for a turn is no part of the time for the answer', async (t) => {
  const bench = new Bench(t);
  bench.vault.turnAfterMs = 60_000;
  await bench.subscribe();
  await bench.clock.advance(60_000);
  t.match(bench.reports, [{ verdict: { kind: 'PROOF' } }]);
  t.equal(bench.reports[0]?.verdict.durationMs, 0);
});

void test('the lease begins when the probe is sent, not when it was due', async (t) => {
  const bench = new Bench(t);
  bench.vault.turnAfterMs = 4000;
  await bench.subscribe();
  const dueBootMs = bench.clock.bootMs();
  await bench.clock.advance(4000);
  t.equal(bench.reports[0]?.verdict.startedBootMs, dueBootMs + 4000);
});

void test('a wish that comes while the turn is awaited is met by that probe', async (t) => {
  const bench = new Bench(t);
  bench.vault.turnAfterMs = 4000;
  await bench.subscribe();
  await bench.clock.advance(1000);
  const asked = bench.scheduler.probeNow({ identity: 'main', kid: KID }, 'a');
  await bench.clock.advance(3000);
  t.equal((await asked).verdict.kind, 'PROOF');
  t.equal(bench.vault.probes.length, 1);
});

void test('nobody is asked for when all sets have left before the turn', async (t) => {
  const bench = new Bench(t);
  bench.vault.turnAfterMs = 4000;
  const leave = await bench.subscribe();
  await bench.clock.advance(1000);
  leave();
  await bench.clock.advance(60_000);
  t.equal(bench.vault.probes.length, 0);
});

void test('usual probes are not urgent', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe();
  await bench.clock.advance(30_000);
  t.notOk(bench.vault.wishes.some(({ urgent }) => urgent));
});

void test('the confirmation of a certain denial is urgent, and what follows is not', async (t) => {
  const bench = new Bench(t);
  bench.vault.behave(KID, DISABLED);
  await bench.subscribe();
  await bench.clock.advance(10_000);
  t.strictSame(
    bench.vault.wishes.map(({ urgent }) => urgent),
    [false, true, false],
  );
});

void test('the confirmation of a denial that may be propagating is not urgent', async (t) => {
  const bench = new Bench(t);
  bench.vault.behave(KID, NO_ROLE);
  await bench.subscribe();
  await bench.clock.advance(6000);
  t.notOk(bench.vault.wishes.some(({ urgent }) => urgent));
});

void test('a confirmation that had no answer is not urgent any more', async (t) => {
  const bench = new Bench(t);
  bench.vault.behave(KID, DISABLED, SILENT);
  await bench.subscribe();
  await bench.clock.advance(300);
  t.strictSame(
    bench.vault.wishes.map(({ urgent }) => urgent),
    [false, true, false],
  );
});

void test('without a lease a probe may wait for its turn without limit', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe();
  await bench.clock.advance(0);
  t.equal(bench.vault.wishes[0]?.latestBootMs, undefined);
});

void test('with a lease a probe waits for its turn for half of it at most', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe('a', { leaseMs: 60_000 });
  await bench.clock.advance(10_000);
  t.equal(bench.vault.wishes[1]?.latestBootMs, bench.clock.bootMs() + 25_000);
});

void test('of several leases the shortest counts', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe('a', { leaseMs: 600_000 });
  await bench.subscribe('b', { leaseMs: 60_000 });
  await bench.clock.advance(10_000);
  t.equal(bench.vault.wishes[1]?.latestBootMs, bench.clock.bootMs() + 25_000);
});

void test('Retry-After does not outlast a lease: it is asked for again at half of the rest', async (t) => {
  const bench = new Bench(t);
  bench.vault.behave(KID, PROOF, throttled(60_000));
  await bench.subscribe('a', { intervalMs: 5000, leaseMs: 60_000 });
  await bench.clock.advance(59_000);
  t.strictSame(bench.starts(), [0, 5000, 32_500, 46_250, 53_125, 57_125]);
});

void test('Retry-After is honoured in full while the lease is long', async (t) => {
  const bench = new Bench(t);
  bench.vault.behave(KID, PROOF, throttled(60_000));
  await bench.subscribe();
  await bench.clock.advance(131_000);
  t.strictSame(bench.starts(), [0, 10_000, 70_000, 130_000]);
});

void test('a lease that has ended hastens nothing', async (t) => {
  const bench = new Bench(t);
  bench.vault.behave(KID, PROOF, throttled(60_000));
  await bench.subscribe('a', { intervalMs: 5000, leaseMs: 8000 });
  await bench.clock.advance(130_000);
  t.strictSame(bench.starts().slice(-2), [69_500, 129_500]);
});

void test('a vault that hangs is asked in the usual rhythm, not in that of its timeouts', async (t) => {
  const bench = new Bench(t);
  bench.vault.latencyMs = 1;
  bench.vault.behave(KID, SILENT);
  await bench.subscribe();
  await bench.clock.advance(100_000);
  const gaps = bench.starts().map((at, index, all) => at - (all[index - 1] ?? 0));
  t.ok(Math.max(...gaps) <= 10_000, String(gaps));
});

void test('keys that fail together are asked again at different times', async (t) => {
  const pause = async (jitter: number): Promise<number | undefined> => {
    const bench = new Bench(t, { jitter });
    bench.vault.behave(KID, SILENT);
    await bench.subscribe();
    await bench.clock.advance(600);
    return bench.starts()[1];
  };
  t.not(await pause(0), await pause(0.9));
});

void test('keys of one vault begin one after the other', async (t) => {
  const bench = new Bench(t);
  for (const id of ['a', 'b', 'c']) {
    await bench.subscribe(id, { kid: `https://vault.example/keys/${id}/v1` });
  }
  await bench.clock.advance(1000);
  t.strictSame(bench.starts(), [0, 10, 20]);
});

void test('the key of another vault does not wait for them', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe('a');
  await bench.subscribe('b', { kid: 'https://other.example/keys/k/v1' });
  await bench.clock.advance(1000);
  t.strictSame(bench.starts(), [0, 0]);
});

void test('a wish is not postponed by the keys that begin before', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe('a');
  const kid = 'https://vault.example/keys/other/v1';
  await bench.subscribe('b', { kid });
  void bench.scheduler.probeNow({ identity: 'main', kid }, 'b');
  await bench.clock.advance(1000);
  t.strictSame(bench.starts(), [0, 0]);
});

void test('after the machine was asleep the first thing is a probe', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe();
  await bench.clock.advance(500);
  bench.clock.suspend(3_600_000);
  await bench.clock.advance(1000);
  t.equal(bench.vault.probes.length, 2);
});

void test('a sleep that is no longer than a busy moment changes nothing', async (t) => {
  const bench = new Bench(t);
  await bench.subscribe();
  await bench.clock.advance(500);
  bench.clock.suspend(1500);
  await bench.clock.advance(1000);
  t.equal(bench.vault.probes.length, 1);
});

void test('after a sleep keys of one vault are asked one after the other', async (t) => {
  const bench = new Bench(t);
  for (const id of ['a', 'b', 'c']) {
    await bench.subscribe(id, { kid: `https://vault.example/keys/${id}/v1` });
  }
  await bench.clock.advance(500);
  bench.clock.suspend(3_600_000);
  await bench.clock.advance(1000);
  const [first = 0, second, third] = bench.starts().slice(3);
  t.strictSame([second, third], [first + 10, first + 20]);
});

void test('a sleep during a probe is followed by another one at once', async (t) => {
  const bench = new Bench(t);
  bench.vault.latencyMs = 3000;
  await bench.subscribe();
  await bench.clock.advance(500);
  bench.clock.suspend(5000);
  await bench.clock.advance(2600);
  t.equal(bench.vault.probes.length, 2);
});

void test('nobody watches for sleep when no key is probed', async (t) => {
  const bench = new Bench(t);
  const leave = await bench.subscribe();
  await bench.clock.advance(100);
  leave();
  t.equal(bench.clock.pendingCount, 0);
});

void test('a set loses no lease by obeying Retry-After', async (t) => {
  const world = await World.create();
  t.teardown(() => world.destroy());
  await world.createSet({ probeIntervalMs: 5000, leaseMs: 60_000 });
  world.vault.behave(KEY_URL, throttled(60_000), PROOF);
  await world.pass(120_000);
  t.strictSame(world.setEvents('lapsed'), []);
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { VaultBudget } from '../../src/vault/budget.js';
import { KeyCosts, unitsOf, WINDOW_MS, WINDOW_UNITS } from '../../src/vault/cost.js';
import { BULK_QUEUE_MAX, BULK_WAIT_MS_MAX } from '../../src/vault/vault-meter.js';
import { FakeClock } from '../support/fake-clock.js';
import { fixedRandom } from '../support/fixed-random.js';

const VAULT = 'v.example';
const USUAL = { urgent: false };
const URGENT = { urgent: true };

class Bench {
  readonly clock = new FakeClock();
  readonly budget = new VaultBudget({ clock: this.clock, random: fixedRandom() });
  /** Units that were let through, and the boot times at which. */
  readonly passed: Array<{ what: string; units: number; atMs: number }> = [];
  readonly refused: string[] = [];
  readonly #startMs = this.clock.bootMs();

  probe(units: number, wish: { urgent: boolean; latestBootMs?: number } = USUAL): void {
    void this.budget.takeProbe(VAULT, units, wish).then(() => this.#pass('probe', units));
  }

  bulk(units: number, options: { what?: string; signal?: AbortSignal } = {}): void {
    this.budget.takeBulk(VAULT, units, options.signal).then(
      () => this.#pass(options.what ?? 'bulk', units),
      (error: unknown) => this.refused.push((error as { code?: string }).code ?? String(error)),
    );
  }

  units(what: string): number {
    return this.passed
      .filter((call) => call.what === what)
      .reduce((sum, { units }) => sum + units, 0);
  }

  /** The most units in any window. */
  peak(): number {
    return Math.max(
      ...this.passed.map(({ atMs: from }) =>
        this.passed
          .filter(({ atMs }) => atMs >= from && atMs < from + WINDOW_MS)
          .reduce((sum, { units }) => sum + units, 0),
      ),
    );
  }

  #pass(what: string, units: number): void {
    this.passed.push({ what, units, atMs: this.clock.bootMs() - this.#startMs });
  }
}

function many(count: number, call: () => void): void {
  for (let index = 0; index < count; index += 1) call();
}

const PRICES: ReadonlyArray<readonly [number, boolean, number]> = [
  [2048, false, 4000],
  [2048, true, 2000],
  [3072, false, 1000],
  [3072, true, 500],
  [4096, false, 500],
  [4096, true, 250],
];
for (const [sizeBits, hsm, callsPer10s] of PRICES) {
  void test(`RSA ${sizeBits}${hsm ? ' HSM' : ''} costs what lets ${callsPer10s} through`, (t) => {
    t.equal(WINDOW_UNITS / unitsOf(sizeBits, hsm), callsPer10s);
    t.end();
  });
}

void test('a key of unknown protection costs as much as one in an HSM', (t) => {
  t.equal(unitsOf(3072, undefined), unitsOf(3072, true));
  t.end();
});

void test('a key of another size costs as much as the largest', (t) => {
  t.equal(unitsOf(16_384, false), unitsOf(4096, false));
  t.end();
});

void test('the length of what is unwrapped tells the size of the key', (t) => {
  t.equal(new KeyCosts().ofUnwrap('k', 384), unitsOf(3072, true));
  t.end();
});

void test('a key that was never read costs as much as a software key of 4096 bits', (t) => {
  t.equal(new KeyCosts().ofRead('url'), unitsOf(4096, false));
  t.end();
});

void test('what a read has told is remembered for both kinds of call', (t) => {
  const costs = new KeyCosts();
  costs.learn('url', { kid: 'url/v1', sizeBits: 2048, hsm: false });
  t.equal(costs.ofRead('url'), 1);
  t.equal(costs.ofUnwrap('url/v1', 256), 1);
  t.end();
});

void test('a single probe and a single call go at once', async (t) => {
  const bench = new Bench();
  bench.probe(16);
  bench.bulk(16);
  await bench.clock.settle();
  t.equal(bench.passed.length, 2);
});

void test('bulk takes what probes leave, but never the part of others', async (t) => {
  const bench = new Bench();
  many(900, () => bench.bulk(8));
  await bench.clock.advance(2 * WINDOW_MS);
  t.ok(bench.peak() > 0.6 * WINDOW_UNITS, String(bench.peak()));
  t.ok(bench.peak() <= 0.75 * WINDOW_UNITS, String(bench.peak()));
});

void test('bulk keeps to its fifth of the vault while probes use their share', async (t) => {
  const bench = new Bench();
  many(900, () => bench.bulk(8));
  for (let step = 0; step < 100; step += 1) {
    bench.probe(step === 0 ? 220 : 20);
    await bench.clock.advance(100);
  }
  t.ok(bench.units('bulk') <= 0.2 * WINDOW_UNITS, String(bench.units('bulk')));
});

void test('probes alone take three quarters and leave the rest to others', async (t) => {
  const bench = new Bench();
  many(1000, () => bench.probe(8));
  await bench.clock.advance(3 * WINDOW_MS);
  t.ok(bench.peak() > 0.65 * WINDOW_UNITS, String(bench.peak()));
  t.ok(bench.peak() <= 0.75 * WINDOW_UNITS, String(bench.peak()));
});

void test('whatever is asked, this daemon alone does not exceed what the vault answers', async (t) => {
  const bench = new Bench();
  many(900, () => bench.bulk(16));
  many(900, () => bench.probe(16));
  many(900, () => bench.probe(16, URGENT));
  await bench.clock.advance(3 * WINDOW_MS);
  t.ok(bench.peak() > 0.9 * WINDOW_UNITS, String(bench.peak()));
  t.ok(bench.peak() <= WINDOW_UNITS, String(bench.peak()));
});

void test('no amount of bulk delays a probe within the share of probes', async (t) => {
  const bench = new Bench();
  many(1000, () => bench.bulk(16));
  for (let count = 0; count < 100; count += 1) {
    const asked = bench.units('probe');
    bench.probe(16);
    await bench.clock.settle();
    t.equal(bench.units('probe'), asked + 16);
    await bench.clock.advance(100);
  }
});

void test('bulk gets nothing while a probe waits, though it would have enough', async (t) => {
  const bench = new Bench();
  many(100, () => bench.probe(16));
  await bench.clock.settle();
  t.ok((bench.budget.samples()[0]?.bulkTokens ?? 0) > 1);
  bench.bulk(1);
  await bench.clock.advance(1000);
  t.equal(bench.units('bulk'), 0);
});

void test('bulk goes in the order of asking', async (t) => {
  const bench = new Bench();
  for (const what of ['a', 'b', 'c']) bench.bulk(70, { what });
  await bench.clock.advance(3000);
  t.strictSame(
    bench.passed.map(({ what }) => what),
    ['a', 'b', 'c'],
  );
});

void test('a cheap call does not overtake a dear one', async (t) => {
  const bench = new Bench();
  bench.bulk(75);
  bench.bulk(16, { what: 'dear' });
  bench.bulk(1, { what: 'cheap' });
  await bench.clock.settle();
  t.equal(bench.passed.length, 1);
});

void test('a confirmation goes at once, in front of other probes', async (t) => {
  const bench = new Bench();
  many(100, () => bench.probe(16));
  await bench.clock.settle();
  const before = bench.passed.length;
  bench.probe(16, URGENT);
  await bench.clock.settle();
  t.equal(bench.passed.length, before + 1);
});

void test('a confirmation that has to wait waits in front of other probes', async (t) => {
  const bench = new Bench();
  many(100, () => bench.probe(8));
  many(100, () => bench.probe(16, URGENT));
  await bench.clock.settle();
  const before = bench.passed.length;
  await bench.clock.advance(1000);
  const next = bench.passed.slice(before);
  t.ok(next.length > 0);
  t.ok(next.every(({ units }) => units === 16));
});

void test('confirmations are paid by bulk and delay no other probe', async (t) => {
  const bench = new Bench();
  many(50, () => bench.probe(16, URGENT));
  bench.probe(16);
  await bench.clock.settle();
  t.equal(bench.passed.length, 51);
  t.equal(bench.budget.samples()[0]?.bulkTokens, 80 - 800);
});

void test('a probe that the lease cannot spare longer is sent whatever the budget says', async (t) => {
  const bench = new Bench();
  many(300, () => bench.probe(16));
  const latestBootMs = bench.clock.bootMs() + 500;
  bench.probe(1, { urgent: false, latestBootMs });
  await bench.clock.advance(499);
  t.notOk(bench.passed.some(({ units }) => units === 1));
  await bench.clock.advance(1);
  t.ok(bench.passed.some(({ units }) => units === 1));
});

void test('more waiting calls than may wait are refused', async (t) => {
  const bench = new Bench();
  bench.bulk(80);
  many(BULK_QUEUE_MAX + 1, () => bench.bulk(1));
  await bench.clock.settle();
  t.strictSame(bench.refused, ['ERR_VAULT_BUDGET_FULL']);
});

void test('a call that has waited too long is refused', async (t) => {
  const bench = new Bench();
  many(BULK_QUEUE_MAX, () => bench.bulk(80));
  await bench.clock.advance(BULK_WAIT_MS_MAX);
  t.ok(bench.refused.length > 0);
  t.ok(bench.refused.every((code) => code === 'ERR_VAULT_BUDGET_WAIT'));
});

void test('a call that is given up leaves its place to the next', async (t) => {
  const bench = new Bench();
  const abort = new AbortController();
  bench.bulk(80);
  bench.bulk(80, { what: 'gone', signal: abort.signal });
  bench.bulk(10, { what: 'next' });
  abort.abort(new Error('changed my mind'));
  await bench.clock.advance(200);
  t.strictSame(bench.refused, ['Error: changed my mind']);
  t.equal(bench.passed.at(-1)?.what, 'next');
});

void test('a call that was given up before it was made is not charged', async (t) => {
  const bench = new Bench();
  bench.bulk(50, { signal: AbortSignal.abort(new Error('no')) });
  await bench.clock.settle();
  t.equal(bench.refused.length, 1);
  t.equal(bench.budget.samples()[0]?.bulkTokens, 80);
});

void test('429 puts bulk on hold for Retry-After', async (t) => {
  const bench = new Bench();
  bench.budget.throttled(VAULT, 7000);
  bench.bulk(1);
  await bench.clock.advance(6999);
  t.equal(bench.passed.length, 0);
  await bench.clock.advance(10);
  t.equal(bench.passed.length, 1);
});

void test('429 does not hold probes', async (t) => {
  const bench = new Bench();
  bench.budget.throttled(VAULT, 7000);
  bench.probe(1);
  await bench.clock.settle();
  t.equal(bench.passed.length, 1);
});

void test('429 after 429 without Retry-After holds longer, at most 16 s', async (t) => {
  const bench = new Bench();
  const holds: number[] = [];
  for (let count = 0; count < 7; count += 1) {
    bench.budget.throttled(VAULT, undefined);
    const from = bench.clock.bootMs();
    const passed = bench.passed.length;
    bench.bulk(1);
    while (bench.passed.length === passed) await bench.clock.advance(100);
    holds.push(Math.floor((bench.clock.bootMs() - from) / 1000));
  }
  t.strictSame(holds, [1, 2, 4, 8, 16, 16, 16]);
});

void test('calls that are throttled together count once for the next hold', async (t) => {
  const bench = new Bench();
  many(5, () => bench.budget.throttled(VAULT, undefined));
  bench.bulk(1);
  await bench.clock.advance(1100);
  t.equal(bench.passed.length, 1);
  t.equal(bench.budget.samples()[0]?.throttled, 5);
});

void test('an answer ends the growing of holds', async (t) => {
  const bench = new Bench();
  many(2, () => bench.budget.throttled(VAULT, undefined));
  await bench.clock.advance(1500);
  bench.budget.answered(VAULT);
  bench.budget.throttled(VAULT, undefined);
  bench.bulk(1);
  await bench.clock.advance(1100);
  t.equal(bench.passed.length, 1);
});

void test('vaults do not pay for each other', async (t) => {
  const bench = new Bench();
  many(200, () => bench.bulk(16));
  let passed = false;
  void bench.budget.takeBulk('other.example', 16).then(() => (passed = true));
  await bench.clock.settle();
  t.ok(passed);
});

void test('closing refuses what waits and lets probes go on to the closed vault', async (t) => {
  const bench = new Bench();
  many(3, () => bench.bulk(80));
  many(50, () => bench.probe(16));
  await bench.clock.settle();
  bench.budget.close();
  await bench.clock.settle();
  t.strictSame(bench.refused, ['ERR_VAULT_CLOSED', 'ERR_VAULT_CLOSED']);
  t.equal(bench.units('probe'), 800);
});

void test('after closing calls are refused', async (t) => {
  const bench = new Bench();
  bench.budget.close();
  bench.bulk(1);
  await bench.clock.settle();
  t.strictSame(bench.refused, ['ERR_VAULT_CLOSED']);
});

void test('ever new vaults do not fill memory', async (t) => {
  const bench = new Bench();
  for (let index = 0; index < 1000; index += 1) {
    await bench.budget.takeBulk(`v${index}.example`, 1);
    await bench.clock.advance(1000);
  }
  t.ok(bench.budget.samples().length <= 256);
});

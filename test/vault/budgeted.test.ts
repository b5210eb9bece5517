// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { KeyholdError } from '../../src/base/errors.js';
import type { ClosableVaultAccess } from '../../src/vault/access.js';
import { VaultBudget } from '../../src/vault/budget.js';
import { budgeted } from '../../src/vault/budgeted.js';
import type { CustomerKey, Verdict } from '../../src/vault/types.js';
import { FakeClock } from '../support/fake-clock.js';
import { FakeSetKey } from '../support/fake-custody.js';
import { fixedRandom } from '../support/fixed-random.js';

const VAULT = 'v.example';
const URL_OF_KEY = `https://${VAULT}/keys/k`;
const KID = `${URL_OF_KEY}/1`;
const IDENTITY = { identity: 'main', timeoutMs: 5000 };

const PROBE_BURST = 220;
const BULK_BURST = 80;

const KEY: CustomerKey = {
  kid: KID,
  name: 'k',
  version: '1',
  modulus: new Uint8Array(256),
  exponent: new Uint8Array([1, 0, 1]),
  sizeBits: 2048,
  hsm: false,
  recoveryLevel: 'Recoverable',
};

function verdict(httpStatus: number, retryAfterMs?: number): Verdict {
  const retry = retryAfterMs === undefined ? {} : { retryAfterMs };
  const facts = { kind: 'NO-ANSWER', class: 'no-answer', message: 'm' } as const;
  return { ...facts, httpStatus, ...retry, startedBootMs: 0, durationMs: 0 };
}

/** The budget over a vault that counts calls and answers what the test says. */
class Bench {
  readonly clock = new FakeClock();
  readonly budget = new VaultBudget({ clock: this.clock, random: fixedRandom() });
  readonly calls = { probe: 0, unwrap: 0, read: 0, close: 0 };
  answer: Verdict = verdict(200);
  failure: Error | undefined;
  release: Promise<void> = Promise.resolve();
  readonly #inner: ClosableVaultAccess = {
    probe: async () => {
      this.calls.probe += 1;
      await this.release;
      return this.answer;
    },
    unwrapSetKey: async () => {
      this.calls.unwrap += 1;
      await this.release;
      if (this.failure !== undefined) throw this.failure;
      return { key: new FakeSetKey(new Uint8Array(32)), requestId: undefined };
    },
    fetchCustomerKey: async () => {
      this.calls.read += 1;
      await this.release;
      if (this.failure !== undefined) throw this.failure;
      return KEY;
    },
    reconfigure: () => undefined,
    close: () => {
      this.calls.close += 1;
    },
  };
  readonly vault = budgeted(this.#inner, { budget: this.budget, clock: this.clock });

  probe(turn?: Parameters<ClosableVaultAccess['probe']>[0]['turn']): Promise<Verdict> {
    const canary = { plaintext: new Uint8Array(32), wrapped: new Uint8Array(512) };
    return this.vault.probe({ ...IDENTITY, kid: KID, canary, fresh: false, turn });
  }

  unwrap(wrappedBytes = 512): ReturnType<ClosableVaultAccess['unwrapSetKey']> {
    return this.vault.unwrapSetKey({
      ...IDENTITY,
      kid: KID,
      wrapped: new Uint8Array(wrappedBytes),
    });
  }

  read(): Promise<CustomerKey> {
    return this.vault.fetchCustomerKey({ ...IDENTITY, url: URL_OF_KEY, allowPurgeable: false });
  }

  tokens(): { probe: number | undefined; bulk: number | undefined } {
    const sample = this.budget.samples()[0];
    return { probe: sample?.probeTokens, bulk: sample?.bulkTokens };
  }

  /** Leaves nothing of the bulk share for `seconds`. */
  async exhaust(seconds: number): Promise<void> {
    await this.budget.takeBulk(VAULT, BULK_BURST);
    // All that flows in, for nobody probes.
    this.budget.correct(VAULT, 270 * seconds);
  }
}

const TURN = { kid: KID, wrapped: new Uint8Array(512), urgent: false };

void test('a probe is charged to the share of probes', async (t) => {
  const bench = new Bench();
  await bench.probe();
  t.strictSame(bench.tokens(), { probe: PROBE_BURST - 16, bulk: BULK_BURST });
});

void test('a probe that has its turn is not charged again', async (t) => {
  const bench = new Bench();
  const turn = await bench.vault.probeTurn(TURN);
  await bench.probe(turn);
  t.equal(bench.tokens().probe, PROBE_BURST - 16);
});

void test('a turn is good for one probe', async (t) => {
  const bench = new Bench();
  const turn = await bench.vault.probeTurn(TURN);
  await bench.probe(turn);
  await bench.probe(turn);
  t.equal(bench.tokens().probe, PROBE_BURST - 32);
});

void test('a turn that the budget did not give is none', async (t) => {
  const bench = new Bench();
  await bench.probe({ kind: 'probe-turn' });
  t.equal(bench.tokens().probe, PROBE_BURST - 16);
});

void test('an unwrap is charged to bulk, and the probes keep their share', async (t) => {
  const bench = new Bench();
  await bench.unwrap();
  t.strictSame(bench.tokens(), { probe: PROBE_BURST, bulk: BULK_BURST - 16 });
});

void test('a read is charged at what the key turned out to cost', async (t) => {
  const bench = new Bench();
  await bench.read();
  t.equal(bench.tokens().bulk, BULK_BURST - 1);
});

void test('once read, a software key is no longer taken for one in an HSM', async (t) => {
  const bench = new Bench();
  await bench.read();
  await bench.unwrap(256);
  t.equal(bench.tokens().bulk, BULK_BURST - 2);
});

void test('an unwrap waits while the budget is used up', async (t) => {
  const bench = new Bench();
  await bench.exhaust(5);
  const unwrapped = bench.unwrap();
  await bench.clock.advance(4900);
  t.equal(bench.calls.unwrap, 0);
  await bench.clock.advance(500);
  await unwrapped;
  t.equal(bench.calls.unwrap, 1);
});

void test('a probe does not wait while bulk is used up', async (t) => {
  const bench = new Bench();
  await bench.exhaust(5);
  await bench.probe();
  t.equal(bench.calls.probe, 1);
});

void test('an unwrap that never had its turn is one without an answer', async (t) => {
  const bench = new Bench();
  await bench.exhaust(1000);
  const unwrapped = t.rejects(bench.unwrap(), {
    code: 'ERR_KEY_UNWRAP_NO_ANSWER',
    fields: { verdict: { kind: 'NO-ANSWER', code: 'ERR_VAULT_BUDGET_WAIT' } },
  });
  await bench.clock.advance(200_000);
  await unwrapped;
  t.equal(bench.calls.unwrap, 0);
});

void test('a read that never had its turn says so', async (t) => {
  const bench = new Bench();
  await bench.exhaust(1000);
  const read = t.rejects(bench.read(), { code: 'ERR_VAULT_BUDGET_WAIT' });
  await bench.clock.advance(200_000);
  await read;
});

void test('a throttled probe is told as it is, and holds bulk', async (t) => {
  const bench = new Bench();
  bench.answer = verdict(429, 3000);
  t.match(await bench.probe(), { kind: 'NO-ANSWER', httpStatus: 429 });
  const unwrapped = bench.unwrap();
  await bench.clock.advance(2900);
  t.equal(bench.calls.unwrap, 0);
  await bench.clock.advance(300);
  await unwrapped;
});

for (const call of ['unwrap', 'read'] as const) {
  void test(`a throttled ${call} fails as it would, and holds bulk`, async (t) => {
    const bench = new Bench();
    const fields = { verdict: verdict(429) };
    bench.failure = new KeyholdError('ERR_KEY_NO_ANSWER', 'throttled', { fields });
    const called: Promise<unknown> = bench[call]();
    await t.rejects(called, { code: 'ERR_KEY_NO_ANSWER' });
    t.equal(bench.budget.samples()[0]?.throttled, 1);
    t.equal(bench.tokens().bulk, 0);
  });
}

for (const [what, status] of [
  ['a vault in trouble', 503],
  ['a denial', 403],
] as const) {
  void test(`${what} holds nothing`, async (t) => {
    const bench = new Bench();
    bench.answer = verdict(status);
    await bench.probe();
    await bench.unwrap();
    t.equal(bench.calls.unwrap, 1);
    t.equal(bench.budget.samples()[0]?.throttled, 0);
  });
}

void test('reads of one key at once are one call', async (t) => {
  const bench = new Bench();
  await Promise.all([bench.read(), bench.read(), bench.read()]);
  t.equal(bench.calls.read, 1);
});

void test('a read that failed is not kept for the next', async (t) => {
  const bench = new Bench();
  bench.failure = new Error('no');
  await t.rejects(bench.read());
  bench.failure = undefined;
  await bench.read();
  t.equal(bench.calls.read, 2);
});

void test('closing ends the vault and whoever waits', async (t) => {
  const bench = new Bench();
  await bench.exhaust(5);
  const unwrapped = t.rejects(bench.unwrap(), {
    code: 'ERR_KEY_UNWRAP_NO_ANSWER',
    fields: { verdict: { code: 'ERR_VAULT_CLOSED' } },
  });
  bench.vault.close();
  await unwrapped;
  t.equal(bench.calls.close, 1);
});

void test('what is no URL is left to the vault to refuse', async (t) => {
  const bench = new Bench();
  bench.failure = new KeyholdError('ERR_KEY_URL', 'not a URL');
  const request = { ...IDENTITY, url: 'nonsense', allowPurgeable: false };
  await t.rejects(bench.vault.fetchCustomerKey(request), { code: 'ERR_KEY_URL' });
});

// SPDX-License-Identifier: Apache-2.0
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Clock } from '../base/clock.js';
import type { ClosableVaultAccess } from './access.js';
import type { VaultBudget } from './budget.js';
import { classify } from './classify.js';
import { KeyCosts } from './cost.js';
import { codes } from './errors.js';
import type { CustomerKey, ProbeTurn, VaultAccess, Verdict } from './types.js';

const TOO_MANY_REQUESTS = 429;

type FetchRequest = Parameters<VaultAccess['fetchCustomerKey']>[0];
type ProbeRequest = Parameters<VaultAccess['probe']>[0];
type TurnRequest = Parameters<NonNullable<VaultAccess['probeTurn']>>[0];
type UnwrapRequest = Parameters<VaultAccess['unwrapSetKey']>[0];

/** The same vault access, whose calls wait for the budget of their vault. */
export function budgeted(
  vault: ClosableVaultAccess,
  options: { budget: VaultBudget; clock: Clock },
): Required<VaultAccess> & ClosableVaultAccess {
  return new BudgetedVaultAccess(vault, options);
}

class BudgetedVaultAccess implements ClosableVaultAccess {
  readonly #vault: ClosableVaultAccess;
  readonly #budget: VaultBudget;
  readonly #clock: Clock;
  readonly #costs = new KeyCosts();
  readonly #turns = new WeakSet<ProbeTurn>();
  /** Reads under way: sets that share a key look at it together. */
  readonly #reads = new Map<string, Promise<CustomerKey>>();

  constructor(vault: ClosableVaultAccess, options: { budget: VaultBudget; clock: Clock }) {
    this.#vault = vault;
    this.#budget = options.budget;
    this.#clock = options.clock;
  }

  async probeTurn({ kid, wrapped, ...wish }: TurnRequest): Promise<ProbeTurn> {
    const units = this.#costs.ofUnwrap(kid, wrapped.length);
    await this.#budget.takeProbe(vaultOf(kid), units, wish);
    const turn: ProbeTurn = { kind: 'probe-turn' };
    this.#turns.add(turn);
    return turn;
  }

  async probe({ turn, ...request }: ProbeRequest): Promise<Verdict> {
    const { kid, canary } = request;
    const paid = turn !== undefined && this.#turns.delete(turn);
    if (!paid) await this.probeTurn({ kid, wrapped: canary.wrapped, urgent: false });
    const verdict = await this.#vault.probe(request);
    this.#observe(kid, verdict);
    return verdict;
  }

  async fetchCustomerKey(request: FetchRequest): Promise<CustomerKey> {
    const id = JSON.stringify([request.identity, request.url, request.allowPurgeable]);
    const under = this.#reads.get(id);
    if (under !== undefined) return under;
    const read = this.#read(request).finally(() => this.#reads.delete(id));
    this.#reads.set(id, read);
    return read;
  }

  async unwrapSetKey(request: UnwrapRequest): ReturnType<VaultAccess['unwrapSetKey']> {
    const { kid, wrapped } = request;
    await this.#takeUnwrap(kid, wrapped.length);
    try {
      const result = await this.#vault.unwrapSetKey(request);
      this.#budget.answered(vaultOf(kid));
      return result;
    } catch (error) {
      this.#observe(kid, verdictOf(error));
      throw error;
    }
  }

  reconfigure(config: Parameters<ClosableVaultAccess['reconfigure']>[0]): void {
    this.#vault.reconfigure(config);
  }

  close(): void {
    // First the vault, so that whoever is let go finds it closed.
    this.#vault.close();
    this.#budget.close();
  }

  async #read(request: FetchRequest): Promise<CustomerKey> {
    const { url } = request;
    const units = this.#costs.ofRead(url);
    await this.#budget.takeBulk(vaultOf(url), units);
    try {
      const key = await this.#vault.fetchCustomerKey(request);
      this.#costs.learn(url, key);
      this.#budget.correct(vaultOf(url), this.#costs.ofRead(url) - units);
      this.#budget.answered(vaultOf(url));
      return key;
    } catch (error) {
      this.#observe(url, verdictOf(error));
      throw error;
    }
  }

  /** A call that could not be sent is one without an answer, as unwrapping's contract has it. */
  async #takeUnwrap(kid: string, wrappedBytes: number): Promise<void> {
    const startedBootMs = this.#clock.bootMs();
    try {
      const units = this.#costs.ofUnwrap(kid, wrappedBytes);
      await this.#budget.takeBulk(vaultOf(kid), units);
    } catch (error) {
      if (!(error instanceof KeyholdError)) throw error;
      const durationMs = this.#clock.bootMs() - startedBootMs;
      const found = { ...classify({ message: messageOf(error) }), code: error.code };
      throw new KeyholdError(
        codes.ERR_KEY_UNWRAP_NO_ANSWER,
        `cannot unwrap the set key with ${kid}: ${error.message}`,
        { fields: { kid, verdict: { ...found, startedBootMs, durationMs } }, cause: error },
      );
    }
  }

  #observe(url: string, verdict: Partial<Verdict> | undefined): void {
    const { httpStatus } = verdict ?? {};
    if (httpStatus === TOO_MANY_REQUESTS) {
      this.#budget.throttled(vaultOf(url), verdict?.retryAfterMs);
    } else if (httpStatus !== undefined) {
      this.#budget.answered(vaultOf(url));
    }
  }
}

/** The host of a key URL, with its port. What is no URL is refused further on. */
function vaultOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : 'unknown';
}

function verdictOf(error: unknown): Partial<Verdict> | undefined {
  return error instanceof KeyholdError
    ? (error.fields['verdict'] as Partial<Verdict> | undefined)
    : undefined;
}

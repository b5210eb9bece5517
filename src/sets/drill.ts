// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import { codes as vaultCodes } from '../vault/errors.js';
import type { VaultAccess, Verdict } from '../vault/types.js';
import { codes } from './errors.js';
import type { Scenario } from './impact.js';

export interface Drill {
  readonly set: string;
  readonly scenario: Scenario;
  readonly kids: readonly string[];
  readonly endsAtMs: number;
}

/**
 * The vaults with drills between them and the sets: while one is on, the vault is not asked about
 * its keys, and the answer is what the scenario says. Everything behind it (confirmation, wiping,
 * healing) is real. A drill ends by itself, and with the daemon.
 */
export class DrillVault implements VaultAccess {
  /** Whoever has no budget has no turns either. */
  readonly probeTurn?: NonNullable<VaultAccess['probeTurn']>;
  readonly #vault: VaultAccess;
  readonly #clock: Clock;
  readonly #drills = new Map<string, { drill: Drill; timer: Timer }>();

  constructor(options: { vault: VaultAccess; clock: Clock }) {
    this.#vault = options.vault;
    this.#clock = options.clock;
    const { vault } = options;
    const probeTurn = vault.probeTurn?.bind(vault);
    if (probeTurn !== undefined) this.probeTurn = probeTurn;
  }

  of(set: string): Drill | undefined {
    return this.#drills.get(set)?.drill;
  }

  /** Throws ERR_SET_DRILL when one is on already. `onEnd` runs when its time is over. */
  begin(
    request: { set: string; scenario: Scenario; kids: readonly string[]; durationMs: number },
    onEnd: () => void,
  ): Drill {
    const { set, scenario, kids, durationMs } = request;
    if (this.#drills.has(set)) throw drillError(set, 'a drill is on already, expected none');
    const drill = { set, scenario, kids, endsAtMs: this.#clock.nowMs() + durationMs };
    const timer = this.#clock.setTimer(durationMs, () => {
      this.end(set);
      onEnd();
    });
    this.#drills.set(set, { drill, timer });
    return drill;
  }

  /** Returns what ended; undefined when there was none. */
  end(set: string): Drill | undefined {
    const found = this.#drills.get(set);
    found?.timer.cancel();
    this.#drills.delete(set);
    return found?.drill;
  }

  close(): void {
    for (const set of [...this.#drills.keys()]) this.end(set);
  }

  async fetchCustomerKey(
    request: Parameters<VaultAccess['fetchCustomerKey']>[0],
  ): ReturnType<VaultAccess['fetchCustomerKey']> {
    return this.#vault.fetchCustomerKey(request);
  }

  async probe(request: Parameters<VaultAccess['probe']>[0]): Promise<Verdict> {
    return this.#verdictOf(request.kid) ?? this.#vault.probe(request);
  }

  async unwrapSetKey(
    request: Parameters<VaultAccess['unwrapSetKey']>[0],
  ): ReturnType<VaultAccess['unwrapSetKey']> {
    const verdict = this.#verdictOf(request.kid);
    if (verdict === undefined) return this.#vault.unwrapSetKey(request);
    const { ERR_KEY_UNWRAP_DENIED, ERR_KEY_UNWRAP_NO_ANSWER } = vaultCodes;
    throw new KeyholdError(
      verdict.kind === 'DENIED' ? ERR_KEY_UNWRAP_DENIED : ERR_KEY_UNWRAP_NO_ANSWER,
      `cannot unwrap the set key with ${request.kid}: ${verdict.message}`,
      { fields: { kid: request.kid, verdict } },
    );
  }

  #verdictOf(kid: string): Verdict | undefined {
    for (const { drill } of this.#drills.values()) {
      if (drill.kids.includes(kid)) return verdictOf(drill.scenario, this.#clock.bootMs());
    }
    return undefined;
  }
}

export function drillError(set: string, problem: string): KeyholdError {
  return new KeyholdError(codes.ERR_SET_DRILL, `drill of encryption set ${set}: ${problem}`, {
    fields: { set },
  });
}

function verdictOf(scenario: Scenario, bootMs: number): Verdict {
  const common = {
    message: `a drill says so (${scenario}); no vault was asked`,
    requestId: 'drill',
    startedBootMs: bootMs,
    receivedBootMs: bootMs,
    durationMs: 0,
  };
  if (scenario === 'outage') {
    return { ...common, kind: 'NO-ANSWER', class: 'no-answer', code: 'DRILL' };
  }
  const denied = { ...common, kind: 'DENIED', class: 'denied-certain' } as const;
  return scenario === 'disable'
    ? { ...denied, reason: 'key-disabled', code: 'KeyDisabled' }
    : { ...denied, reason: 'key-deleted', code: 'KeyNotFound' };
}

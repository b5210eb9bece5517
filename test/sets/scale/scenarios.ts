// SPDX-License-Identifier: Apache-2.0
import { Fleet, INTERVAL_MS, keyUrl } from './fleet.js';
import { type KeyKind, peakOf, type Sent } from './vault-model.js';

export interface Size {
  readonly stateDir: string;
  readonly kind: KeyKind;
  readonly seed: number;
  readonly sets: number;
  readonly disksPerSet: number;
  readonly unbudgeted?: boolean;
}

/** What a scenario came to. Times in milliseconds of virtual time. */
export interface Outcome {
  readonly scenario: string;
  readonly kind: string;
  readonly seed: number;
  readonly calls: number;
  readonly peakCalls: number;
  readonly throttled: number;
  /** By how much the latest probe missed its interval; 0 when none did. */
  readonly lateMsMax: number;
  readonly lapses: number;
  readonly keyFailures: number;
  readonly disksOnline: number;
  /** What the scenario is about: until every disk was online, every set denied, … */
  readonly tookMs: number;
}

/** Part of the vault's limit that other users take, in the scenarios that leave room for them. */
export const OTHERS = 1 / 4;

const WARM_MS = 90_000;

async function start(size: Size, others = OTHERS): Promise<Fleet> {
  const fleet = new Fleet(size);
  fleet.model.others = others;
  await fleet.sets.load();
  return fleet;
}

/** Past the cold start, at a moment that is no multiple of anything. */
async function startWarm(size: Size, others = OTHERS): Promise<Fleet> {
  const fleet = await start(size, others);
  await fleet.run(WARM_MS + 1234);
  return fleet;
}

export async function steadyState(size: Size, durationMs: number): Promise<Outcome> {
  const fleet = await startWarm(size);
  const fromBootMs = fleet.clock.bootMs();
  await fleet.run(durationMs);
  return finish('steady state', { size, fleet, fromBootMs, tookMs: durationMs });
}

/** Until every disk has its key. */
export async function coldStart(size: Size): Promise<Outcome> {
  const fleet = await start(size);
  const { startedBootMs: fromBootMs } = fleet;
  await fleet.run(WARM_MS);
  const tookMs = fleet.lastOnlineBootMs - fromBootMs;
  return finish('cold start', { size, fleet, fromBootMs, tookMs });
}

/** All keys disabled, or all roles removed, at one instant; until the last set is denied. */
export async function massRevocation(
  size: Size,
  denied: 'certain' | 'propagating',
): Promise<Outcome> {
  const fleet = await startWarm(size, 0);
  const fromBootMs = fleet.clock.bootMs();
  fleet.model.denied = denied;
  await fleet.run(WARM_MS);
  const times = [...fleet.deniedBootMs.values()];
  const tookMs = times.length < size.sets ? Number.POSITIVE_INFINITY : Math.max(...times);
  const scenario = denied === 'certain' ? 'all keys disabled' : 'all roles removed';
  return finish(scenario, { size, fleet, fromBootMs, tookMs: tookMs - fromBootMs });
}

/** No answers for a time; then until every set has its proof again. */
export async function outage(
  size: Size,
  options: { kind: 'refuses' | 'hangs'; durationMs: number },
): Promise<Outcome> {
  const { kind, durationMs } = options;
  const fleet = await startWarm(size);
  fleet.model.outage = kind;
  await fleet.run(durationMs);
  fleet.model.outage = 'none';
  return recover(`outage (${kind})`, size, fleet);
}

/** Others use up the vault; every call of ours is throttled. */
export async function throttledByOthers(
  size: Size,
  options: { durationMs: number; retryAfterMs: number | undefined },
): Promise<Outcome> {
  const fleet = await startWarm(size);
  fleet.model.others = 1;
  fleet.model.retryAfterMs = options.retryAfterMs;
  await fleet.run(options.durationMs);
  fleet.model.others = OTHERS;
  return recover('throttled by others', size, fleet);
}

/** Only what happens from now on is told; lapses of the whole run are. */
async function recover(scenario: string, size: Size, fleet: Fleet): Promise<Outcome> {
  const fromBootMs = fleet.clock.bootMs();
  fleet.provedBootMs.clear();
  let tookMs = Number.POSITIVE_INFINITY;
  for (let second = 0; second < 120 && tookMs === Number.POSITIVE_INFINITY; second += 1) {
    await fleet.run(1000);
    const proved = [...fleet.provedBootMs.values()];
    if (proved.length === size.sets) tookMs = fleet.clock.bootMs() - fromBootMs;
  }
  return finish(scenario, { size, fleet, fromBootMs, tookMs });
}

/** Every key has a new version, and every set notices at the same moment. */
export async function rotationStorm(size: Size): Promise<Outcome> {
  const fleet = await startWarm(size);
  const fromBootMs = fleet.clock.bootMs();
  fleet.model.rotate();
  let doneBootMs = Number.POSITIVE_INFINITY;
  const all = fleet.sets.list().map(async ({ name }) => {
    await rotate(fleet, size.kind, name).catch(() => (fleet.keyFailures += 1));
  });
  void Promise.all(all).then(() => (doneBootMs = fleet.clock.bootMs()));
  // Before the sets look for newer versions by themselves, and leave the old ones behind.
  await fleet.run(WARM_MS);
  const tookMs = doneBootMs - fromBootMs;
  return finish('rotation storm', { size, fleet, fromBootMs, tookMs });
}

/** The calls of one rewrap: look at the new version, unwrap by it what it wrapped, prove it. */
async function rotate({ vault }: Fleet, { sizeBits }: KeyKind, name: string): Promise<void> {
  const common = { identity: 'main', timeoutMs: 5000 };
  const wrapped = new Uint8Array(sizeBits / 8);
  const canary = { plaintext: new Uint8Array(32), wrapped };
  const url = keyUrl(name);
  const { kid } = await vault.fetchCustomerKey({ ...common, url, allowPurgeable: false });
  await vault.unwrapSetKey({ ...common, kid, wrapped });
  const verdict = await vault.probe({ ...common, kid, canary, fresh: true });
  if (verdict.kind !== 'PROOF') throw new Error(`rotating ${name}: ${verdict.message}`);
}

function finish(
  scenario: string,
  run: { size: Size; fleet: Fleet; fromBootMs: number; tookMs: number },
): Outcome {
  const { size, fleet, fromBootMs, tookMs } = run;
  const sent = fleet.model.sent.filter(({ atBootMs }) => atBootMs >= fromBootMs);
  const outcome = {
    scenario,
    kind: size.kind.name,
    seed: size.seed,
    calls: sent.length,
    peakCalls: peakOf(sent),
    throttled: sent.filter(({ throttled }) => throttled).length,
    lateMsMax: lateMsMax(fleet, sent),
    lapses: fleet.lapses,
    keyFailures: fleet.keyFailures,
    disksOnline: fleet.disksOnline,
    tookMs,
  };
  fleet.close();
  return outcome;
}

/** The first probe of a set is due an interval after the beginning, and the next one at the end. */
function lateMsMax(fleet: Fleet, sent: readonly Sent[]): number {
  const own = fleet.sets.list().flatMap(({ record }) => record.keys.map(({ kid }) => kid));
  const lastBootMs = new Map<string, number>(own.map((kid) => [kid, sent[0]?.atBootMs ?? 0]));
  let lateMs = 0;
  for (const { call, kid, atBootMs } of sent) {
    const last = lastBootMs.get(kid);
    if (call !== 'probe' || last === undefined) continue;
    lateMs = Math.max(lateMs, atBootMs - last - INTERVAL_MS);
    lastBootMs.set(kid, atBootMs);
  }
  const endBootMs = sent.at(-1)?.atBootMs ?? 0;
  for (const last of lastBootMs.values()) lateMs = Math.max(lateMs, endBootMs - last - INTERVAL_MS);
  return lateMs;
}

// SPDX-License-Identifier: Apache-2.0
import type { AdminEvent, DiskView } from '../../admin/api.js';
import type { Impact, SetView } from '../../admin/api-sets.js';
import type { AdminClient } from '../../admin/client.js';
import type { CliIo } from '../io.js';
import type { DrillDisk, DrillReport, DrillStep } from './report.js';

/*
 * A drill: foretell, strike, watch, restore, watch, report. Whatever happens in between, `restore`
 * runs.
 */

/** How often disks are looked at. */
const LOOK_MS = 100;

/** Longer than what was foretold, before a disk counts as late. */
const GRACE_MS = 5000;

/** Striking and restoring, in the embedded vault or by simulation. */
export interface DrillHands {
  readonly by: DrillReport['by'];
  strike(): Promise<void>;
  restore(): Promise<void>;
}

export interface DrillOptions {
  readonly client: AdminClient;
  readonly io: CliIo;
  readonly set: string;
  readonly scenario: Impact['scenario'];
  readonly hands: DrillHands;
  /** Instead of what was foretold plus a grace. */
  readonly timeoutMs?: number;
  readonly onStep: (step: DrillStep) => void;
}

export async function runDrill(options: DrillOptions): Promise<DrillReport> {
  const { client, io, set, scenario, hands } = options;
  const view = await client.showSet(set);
  const impact = await client.impactOfSet(set, { scenario });
  const before = await statesOf(client, impact);
  const watch = new Watch(options);
  const ended = new AbortController();
  const events = await client.events(ended.signal);
  const reading = watch.follow(events);
  const startedAt = new Date(io.nowMs()).toISOString();
  try {
    watch.begin();
    await hands.strike();
    watch.note(`struck: ${scenario}`);
    const observed = await watch.until(impact, struckLimitMs(impact, options.timeoutMs));
    await hands.restore();
    watch.note('restored');
    const restoredMs = watch.elapsedMs;
    const healed = await watch.untilBack(before, options.timeoutMs ?? healLimitMs(view));
    const disks = impact.disks.map((disk) => judge(disk, { before, observed, healed, restoredMs }));
    return {
      set,
      scenario,
      by: hands.by,
      startedAt,
      why: impact.why,
      kids: impact.kids,
      deadlineSeconds: view.revocation?.deadlineSeconds ?? null,
      disks,
      timeline: watch.steps,
      passed: disks.every((disk) => disk.asForetold && disk.healedAfterMs !== null),
    };
  } finally {
    await hands.restore();
    ended.abort();
    await reading;
  }
}

interface Seen {
  readonly state: string;
  readonly atMs: number;
}

class Watch {
  readonly steps: DrillStep[] = [];
  readonly #options: DrillOptions;
  #beganMs = 0;

  constructor(options: DrillOptions) {
    this.#options = options;
  }

  get elapsedMs(): number {
    return this.#options.io.nowMs() - this.#beganMs;
  }

  begin(): void {
    this.#beganMs = this.#options.io.nowMs();
  }

  note(what: string, atMs = this.elapsedMs): void {
    const step = { atMs, what };
    this.steps.push(step);
    this.#options.onStep(step);
  }

  /** What the daemon tells of the set and its disks, with the daemon's own times. */
  async follow(events: AsyncIterable<AdminEvent>): Promise<void> {
    try {
      for await (const event of events) {
        const { set } = this.#options;
        if (event['set'] === set && this.#beganMs > 0) {
          this.note(wordsOf(event), Date.parse(event.time) - this.#beganMs);
        }
      }
    } catch {
      this.note('the event stream broke off');
    }
  }

  /** Until every disk shows what was foretold of it, or the time is over. */
  async until(impact: Impact, limitMs: number): Promise<Map<string, Seen>> {
    const seen = new Map<string, Seen>();
    const pending = new Map(impact.disks.map((disk) => [disk.disk, disk.outcome]));
    while (pending.size > 0 && this.elapsedMs < limitMs) {
      for (const view of await this.#disks(pending.keys())) {
        const outcome = pending.get(view.name);
        if (outcome === undefined || !shows(view, outcome)) continue;
        pending.delete(view.name);
        seen.set(view.name, { state: stateOf(view), atMs: this.elapsedMs });
      }
      if (pending.size > 0) await this.#options.io.wait(LOOK_MS);
    }
    for (const view of await this.#disks(pending.keys())) {
      seen.set(view.name, { state: stateOf(view), atMs: Number.NaN });
    }
    return seen;
  }

  async untilBack(
    before: ReadonlyMap<string, string>,
    limitMs: number,
  ): Promise<Map<string, number>> {
    const back = new Map<string, number>();
    const beganMs = this.elapsedMs;
    while (back.size < before.size && this.elapsedMs - beganMs < limitMs) {
      for (const view of await this.#disks(before.keys())) {
        if (back.has(view.name) || stateOf(view) !== before.get(view.name)) continue;
        back.set(view.name, this.elapsedMs);
      }
      if (back.size < before.size) await this.#options.io.wait(LOOK_MS);
    }
    return back;
  }

  async #disks(names: Iterable<string>): Promise<DiskView[]> {
    const wanted = new Set(names);
    if (wanted.size === 0) return [];
    return (await this.#options.client.listDisks()).filter(({ name }) => wanted.has(name));
  }
}

async function statesOf(client: AdminClient, impact: Impact): Promise<Map<string, string>> {
  const names = new Set(impact.disks.map(({ disk }) => disk));
  const views = (await client.listDisks()).filter(({ name }) => names.has(name));
  return new Map(views.map((view) => [view.name, stateOf(view)]));
}

function judge(
  { disk, outcome }: Impact['disks'][number],
  found: {
    before: ReadonlyMap<string, string>;
    observed: ReadonlyMap<string, Seen>;
    healed: ReadonlyMap<string, number>;
    restoredMs: number;
  },
): DrillDisk {
  const seen = found.observed.get(disk);
  const backMs = found.healed.get(disk);
  const inTime = seen !== undefined && !Number.isNaN(seen.atMs);
  return {
    disk,
    before: found.before.get(disk) ?? 'gone',
    foretold: outcome,
    observed: seen?.state ?? 'gone',
    asForetold: inTime,
    afterMs: inTime ? seen.atMs : null,
    healedAfterMs: backMs === undefined ? null : Math.max(0, backMs - found.restoredMs),
  };
}

function stateOf({ state, reason, revoked }: DiskView): string {
  if (reason !== null) return `${state}(${reason})`;
  return revoked ? `${state}, revoked` : state;
}

/** A disk that serves on is looked at when the others have had their time. */
function shows(view: DiskView, outcome: Impact['disks'][number]['outcome']): boolean {
  switch (outcome) {
    case 'goes-offline':
      return view.state === 'offline';
    case 'suspends':
      return view.state === 'suspended';
    case 'revoked':
      return view.revoked;
    case 'serves-on':
      return view.state === 'online';
    case 'stays-offline':
      return view.state === 'offline';
  }
}

function struckLimitMs(impact: Impact, timeoutMs: number | undefined): number {
  const foretoldMs = impact.disks.map(({ withinSeconds }) => (withinSeconds ?? 0) * 1000);
  return timeoutMs ?? Math.max(0, ...foretoldMs) + GRACE_MS;
}

function healLimitMs({ probeIntervalSeconds }: SetView): number {
  return probeIntervalSeconds * 1000 + GRACE_MS;
}

function wordsOf(event: AdminEvent): string {
  const { disk, reason, state, verdict, code, wipedAfterMs } = event as Record<string, unknown>;
  const facts = { disk, verdict, state, reason, code, wipedAfterMs };
  const words = Object.entries(facts)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(
      ([key, value]) => `${key}=${typeof value === 'number' ? value.toFixed(3) : String(value)}`,
    );
  return [event.kind, ...words].join(' ');
}

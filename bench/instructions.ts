// SPDX-License-Identifier: Apache-2.0
import { table } from './report.js';

/** What bench/instructions.json holds. */
export interface Baseline {
  readonly compiler: string;
  readonly perRequest: Readonly<Record<string, number>>;
}

export interface Comparison {
  readonly name: string;
  readonly before: number | null;
  readonly now: number | null;
  /** Above 0: more instructions than before. */
  readonly percent: number | null;
  readonly verdict: 'same' | 'worse' | 'better' | 'new' | 'missing';
}

/**
 * `cases` are request_cost's lines `REQUESTS NAME`; there are two dumps for each: of a run, and of
 * one with REQUESTS more.
 */
export function parseCounts(cases: string, dumps: readonly string[]): Record<string, number> {
  const lines = cases.trim().split('\n');
  if (dumps.length !== 2 * lines.length) {
    throw new Error(`dumps: expected ${2 * lines.length}, got ${dumps.length}`);
  }
  const entries = lines.map((line, index): [string, number] => {
    const [, requests, name] = /^(\d+) (.+)$/.exec(line) ?? [];
    if (requests === undefined || name === undefined) {
      throw new Error(`a case: expected a number and a name, got "${line}"`);
    }
    const [shorter = '', longer = ''] = dumps.slice(2 * index, 2 * index + 2);
    return [name, Math.round((total(longer) - total(shorter)) / Number(requests))];
  });
  return Object.fromEntries(entries);
}

function total(dump: string): number {
  const found = /^(?:totals|summary): (\d+)/m.exec(dump)?.[1];
  if (found === undefined) throw new Error('a dump of callgrind: expected a total, got none');
  return Number(found);
}

export function compareCounts(
  before: Baseline,
  now: Baseline,
  tolerancePercent: number,
): Comparison[] {
  const names = new Set([...Object.keys(before.perRequest), ...Object.keys(now.perRequest)]);
  return [...names].map((name) => {
    const then = before.perRequest[name] ?? null;
    const count = now.perRequest[name] ?? null;
    if (then === null || count === null) {
      const verdict = then === null ? 'new' : 'missing';
      return { name, before: then, now: count, percent: null, verdict };
    }
    const percent = ((count - then) * 100) / then;
    const changed = percent > 0 ? 'worse' : 'better';
    const verdict = Math.abs(percent) > tolerancePercent ? changed : 'same';
    return { name, before: then, now: count, percent, verdict };
  });
}

export function renderComparison(rows: readonly Comparison[]): string {
  return table(
    ['instructions per request', 'before', 'now', 'change', 'verdict'],
    rows.map(({ name, before, now, percent, verdict }) => [
      name,
      before === null ? '–' : String(before),
      now === null ? '–' : String(now),
      percent === null ? '–' : `${percent >= 0 ? '+' : ''}${percent.toFixed(1)} %`,
      verdict,
    ]),
  );
}

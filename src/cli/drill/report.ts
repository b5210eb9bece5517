// SPDX-License-Identifier: Apache-2.0
import type { Impact } from '../../admin/api-sets.js';
import { formatDuration } from '../../base/units.js';

/** One thing that happened, in ms since the scenario began. */
export interface DrillStep {
  readonly atMs: number;
  readonly what: string;
}

export interface DrillDisk {
  readonly disk: string;
  readonly before: string;
  readonly foretold: Impact['disks'][number]['outcome'];
  readonly observed: string;
  /** Whether what was observed is what was foretold. */
  readonly asForetold: boolean;
  /** Scenario's begin to that; null when it did not come in time. */
  readonly afterMs: number | null;
  /** Restoring to the state before; null when it did not come in time. */
  readonly healedAfterMs: number | null;
}

export interface DrillReport {
  readonly set: string;
  readonly scenario: Impact['scenario'];
  /** The embedded vault did it, or the daemon simulated the verdicts. */
  readonly by: 'embedded-vault' | 'simulation';
  readonly startedAt: string;
  readonly why: string;
  readonly kids: readonly string[];
  readonly deadlineSeconds: number | null;
  readonly disks: readonly DrillDisk[];
  readonly timeline: readonly DrillStep[];
  readonly passed: boolean;
}

/** The report as a page for people: Markdown, which a terminal shows as it is. */
export function formatReport(report: DrillReport): string {
  const { set, scenario, by, disks, timeline } = report;
  const how = by === 'simulation' ? 'simulated by the daemon' : 'done in the embedded vault';
  const deadline =
    report.deadlineSeconds === null
      ? 'none (platform key)'
      : `${formatDuration(report.deadlineSeconds * 1000)} for a denial that is certain`;
  return [
    `# Drill of encryption set ${set}: ${scenario}`,
    '',
    `- ${how}, begun at ${report.startedAt}`,
    `- keys: ${report.kids.join(', ')}`,
    `- expected: ${report.why}; deadline: ${deadline}`,
    `- result: ${report.passed ? 'as foretold, and everything came back' : 'NOT as foretold'}`,
    '',
    '| disk | before | foretold | observed | after | back after |',
    '|---|---|---|---|---|---|',
    ...disks.map(
      (disk) =>
        `| ${disk.disk} | ${disk.before} | ${disk.foretold} | ${disk.observed} | ` +
        `${msOf(disk.afterMs)} | ${msOf(disk.healedAfterMs)} |`,
    ),
    '',
    '| at | what |',
    '|---|---|',
    ...timeline.map(({ atMs, what }) => `| ${msOf(atMs)} | ${what} |`),
    '',
  ].join('\n');
}

function msOf(ms: number | null): string {
  return ms === null ? 'not in time' : `${(ms / 1000).toFixed(3)} s`;
}

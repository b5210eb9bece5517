// SPDX-License-Identifier: Apache-2.0
import type { Workload } from './workloads.js';

/** Measured values by `workload\npeer`, one per round. */
export type Figures = Map<string, number[]>;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/**
 * A Markdown table: a row per workload, our median, then for each peer its median and, in brackets, our
 * median over the peer's (above 1: we are faster).
 */
export function renderTable(
  figures: Figures,
  workloads: readonly Workload[],
  peers: readonly string[],
): string {
  const [us = '', ...others] = peers;
  const lines = [
    `| workload | unit | ${[us, ...others.map((peer) => `${peer} (ratio)`)].join(' | ')} |`,
    `|---|---|${'---|'.repeat(peers.length)}`,
  ];
  for (const workload of workloads) {
    const ours = median(figures.get(`${workload.name}\n${us}`) ?? []);
    const cells = others.map((peer) => {
      const theirs = median(figures.get(`${workload.name}\n${peer}`) ?? []);
      return `${theirs.toFixed(0)} (${(ours / theirs).toFixed(2)})`;
    });
    lines.push(`| ${[workload.name, workload.unit, ours.toFixed(0), ...cells].join(' | ')} |`);
  }
  return `${lines.join('\n')}\n`;
}

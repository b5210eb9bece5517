// SPDX-License-Identifier: Apache-2.0
import type { DiskMetric } from './disk-metrics.js';
import type { Sample } from './sampled-metric.js';
import type { DiskSample } from './sources.js';

/**
 * Disks that are looked at in one turn of the event loop, about a millisecond's work. A page about
 * ten thousand disks takes a while, and a verdict that comes meanwhile must not wait for it.
 */
const DISKS_A_TURN = 64;

/** What prom-client would print for these metrics, without an object for each sample to outlive. */
export async function renderDiskPage(
  metrics: readonly DiskMetric[],
  source: Iterable<DiskSample>,
): Promise<string> {
  // Read once, so that all metrics show a disk at the same instant.
  const disks: DiskSample[] = [];
  for (const disk of source) {
    disks.push(disk);
    if (disks.length % DISKS_A_TURN === 0) await nextTurn();
  }
  const page: string[] = [];
  for (const { name, help, type, read } of metrics) {
    page.push(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`);
    for (const [index, disk] of disks.entries()) {
      for (const sample of read(disk)) page.push(lineOf(name, sample));
      if ((index + 1) % DISKS_A_TURN === 0) await nextTurn();
    }
    page.push('\n');
  }
  return page.join('');
}

function lineOf(name: string, { labels, value, metricName }: Sample): string {
  const pairs: string[] = [];
  for (const label in labels) pairs.push(`${label}="${escapeLabel(labels[label] ?? '')}"`);
  return `${metricName ?? name}{${pairs.join(',')}} ${String(value)}\n`;
}

/** Exposition format 0.0.4: backslash, line feed and quote. */
function escapeLabel(value: string): string {
  if (!/[\\\n"]/.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

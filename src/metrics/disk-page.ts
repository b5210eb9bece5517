// SPDX-License-Identifier: Apache-2.0
import type { DiskMetric } from './disk-metrics.js';
import type { DiskSample } from './sources.js';

/**
 * Disks that are looked at in one turn of the event loop, about a millisecond's work. A page about
 * ten thousand disks takes a while, and a verdict that comes meanwhile must not wait for it.
 */
const DISKS_A_TURN = 64;

/**
 * What prom-client would print for these metrics, without an object for each sample: half a million
 * lines, which ten thousand busy disks come to, must take less than a second.
 */
export async function renderDiskPage(
  metrics: readonly DiskMetric[],
  source: Iterable<DiskSample>,
): Promise<string> {
  // Read once, so that all metrics show a disk at the same instant.
  const disks: DiskSample[] = [];
  const heads: string[] = [];
  for (const disk of source) {
    disks.push(disk);
    heads.push(`{disk="${escapeLabel(disk.name)}"`);
    if (disks.length % DISKS_A_TURN === 0) await nextTurn();
  }
  const page: string[] = [];
  for (const { name, help, type, print } of metrics) {
    page.push(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`);
    for (const [index, disk] of disks.entries()) {
      const start = name + (heads[index] ?? '');
      print(disk, (labels, value) => {
        page.push(`${start}${labels}} ${value}\n`);
      });
      if ((index + 1) % DISKS_A_TURN === 0) await nextTurn();
    }
    page.push('\n');
  }
  return page.join('');
}

/** A label's value in the exposition format 0.0.4: backslash, line feed and quote are escaped. */
export function escapeLabel(value: string): string {
  if (!/[\\\n"]/.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

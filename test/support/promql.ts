// SPDX-License-Identifier: Apache-2.0
import { Metrics } from '../../src/metrics/metrics.js';

const KEYWORDS = new Set(['by', 'on', 'or', 'and', 'unless', 'ignoring', 'without']);
/** What Prometheus itself makes. */
const OF_PROMETHEUS = ['up', 'ALERTS'];

/** Names of metrics in an expression: what is no string, no label, no function and no operator. */
export function metricNames(expr: string): string[] {
  const bare = expr
    .replaceAll(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '')
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]/g, '')
    .replaceAll(/\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  const names = [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\w*\s*\()/g)].map(([name]) => name);
  return [...new Set(names.filter((name) => !KEYWORDS.has(name)))];
}

/** What a real registry exports, histograms as the series that they come to. */
export function exportedNames(): Set<string> {
  const metrics = new Metrics({
    version: '0.0.0',
    sources: {
      disks: () => [],
      sets: () => [],
      connections: () => ({ total: 0, negotiating: 0 }),
      vaults: () => [],
      shards: () => ({ total: 0, alive: 0, restarts: 0, cpuSeconds: [] }),
    },
  });
  const names = metrics.names().flatMap((name) => {
    const isHistogram = /_(?:duration|offline)_seconds$/.test(name);
    return isHistogram ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name];
  });
  return new Set([...names, ...OF_PROMETHEUS]);
}

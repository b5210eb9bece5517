// SPDX-License-Identifier: Apache-2.0
import type { Metric, Registry } from 'prom-client';

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** Left out: the metric's own name; histograms have `_bucket`, `_sum` and `_count`. */
  readonly metricName?: string;
}

export interface SampledMetricOptions {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly read: () => readonly Sample[];
}

/**
 * A metric whose numbers live elsewhere and are read at the scrape. prom-client's own classes only
 * count what they are told; setting them from native counters would need a copy of each counter,
 * and a Histogram cannot be set at all. The registry asks a metric for nothing but what stands
 * here.
 */
export function registerSampledMetric(registry: Registry, options: SampledMetricOptions): void {
  const { name, help, type, read } = options;
  const metric = {
    name,
    help,
    // Nothing is stored here, so there is nothing to reset.
    reset: () => undefined,
    get: () => Promise.resolve({ name, help, type, values: read(), aggregator: 'sum' }),
  };
  registry.registerMetric(metric as unknown as Metric);
}

/** The samples of one histogram: `counts` are per bucket, the last one above every bound. */
export function histogramSamples(
  name: string,
  labels: Labels,
  histogram: { bounds: readonly number[]; counts: readonly number[]; sum: number },
): Sample[] {
  const { bounds, counts, sum } = histogram;
  if (counts.length !== bounds.length + 1) {
    throw new Error(`${name}: expected ${bounds.length + 1} buckets, got ${counts.length}`);
  }
  let total = 0;
  const buckets = counts.map((count, index) => {
    total += count;
    const le = index < bounds.length ? String(bounds[index]) : '+Inf';
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: total },
  ];
}

/** One sample for each possible value, 1 for the one that holds: how Prometheus models states. */
export function stateSamples(
  labels: Labels,
  label: string,
  values: readonly string[],
  current: string | null,
): Sample[] {
  return values.map((value) => ({
    labels: { ...labels, [label]: value },
    value: value === current ? 1 : 0,
  }));
}

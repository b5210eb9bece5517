// SPDX-License-Identifier: Apache-2.0
import { median } from './statistics.js';

export type StoreKind = 'tmpfs' | 'ext4';

/** Microseconds. */
export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** One run of one workload against one server. */
export interface Sample {
  /** In the workload's unit. */
  readonly value: number;
  readonly operations: number;
  readonly bytes: number;
  readonly clientCpuSeconds: number;
  readonly serverCpuSeconds: number;
  readonly latencyUs: Percentiles | null;
}

export interface Cell {
  readonly store: StoreKind;
  readonly workload: string;
  readonly peer: string;
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly clientCpuUsPerOperation: number;
  readonly serverCpuUsPerOperation: number;
  readonly clientCpuSecondsPerGb: number;
  readonly serverCpuSecondsPerGb: number;
  readonly latencyUs: Percentiles | null;
}

/** Everything that was measured, in the order of measuring. */
export class Figures {
  readonly #samples = new Map<string, { cell: Cell; samples: Sample[] }>();

  add(cell: Cell, sample: Sample): void {
    const key = keyOf(cell);
    const entry = this.#samples.get(key) ?? { cell, samples: [] };
    entry.samples.push(sample);
    this.#samples.set(key, entry);
  }

  samples(cell: Cell): readonly Sample[] {
    return this.#samples.get(keyOf(cell))?.samples ?? [];
  }

  cells(): Array<{ cell: Cell; samples: readonly Sample[] }> {
    return [...this.#samples.values()];
  }

  has(store: StoreKind, workload: string): boolean {
    return this.cells().some(({ cell }) => cell.store === store && cell.workload === workload);
  }

  /** NaN when it was not measured. */
  median(cell: Cell): number {
    return median(this.samples(cell).map(({ value }) => value));
  }
}

export function medianPercentiles(all: readonly Percentiles[]): Percentiles | null {
  if (all.length === 0) return null;
  return {
    p50: median(all.map(({ p50 }) => p50)),
    p99: median(all.map(({ p99 }) => p99)),
    p999: median(all.map(({ p999 }) => p999)),
  };
}

export function summarize(samples: readonly Sample[]): Summary {
  const values = samples.map(({ value }) => value);
  const over = (pick: (sample: Sample) => number): number => median(samples.map(pick));
  return {
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    clientCpuUsPerOperation: over((s) => (s.clientCpuSeconds / s.operations) * 1e6),
    serverCpuUsPerOperation: over((s) => (s.serverCpuSeconds / s.operations) * 1e6),
    clientCpuSecondsPerGb: over((s) => (s.clientCpuSeconds / s.bytes) * 1e9),
    serverCpuSecondsPerGb: over((s) => (s.serverCpuSeconds / s.bytes) * 1e9),
    latencyUs: medianPercentiles(samples.flatMap(({ latencyUs }) => latencyUs ?? [])),
  };
}

function keyOf(cell: Cell): string {
  return `${cell.store}\n${cell.workload}\n${cell.peer}`;
}

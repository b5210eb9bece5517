// SPDX-License-Identifier: Apache-2.0

export interface Unit {
  /** As it stands behind a title. */
  readonly name: string;
  /** One of it, in the metric's own unit. */
  readonly size: number;
}

export interface PanelScale {
  readonly at: (value: number) => number;
  readonly ticks: ReadonlyArray<{ readonly value: number; readonly label: string }>;
}

/** From a pixel of the lowest value to one of the highest. */
type PixelRange = readonly [bottom: number, top: number];

const MIB = 1024 * 1024;
const TICKS = 4;

/** What a reader wants values of one of Grafana's units in. */
export function unitOf(unit: string, values: readonly number[]): Unit {
  const highest = Math.max(0, ...values);
  switch (unit) {
    case 'binBps':
      return highest >= MIB ? { name: 'MiB/s', size: MIB } : { name: 'KiB/s', size: 1024 };
    case 's':
      if (highest >= 1) return { name: 's', size: 1 };
      return highest >= 1e-3 ? { name: 'ms', size: 1e-3 } : { name: 'µs', size: 1e-6 };
    case 'percentunit':
      return { name: '%', size: 0.01 };
    case 'iops':
    case 'cps':
      return { name: 'per second', size: 1 };
    case 'cpm':
      return { name: 'per minute', size: 1 };
    default:
      return { name: '', size: 1 };
  }
}

export function linearScale(
  values: readonly number[],
  options: {
    range: PixelRange;
    unit: Unit;
    min: number | undefined;
    max: number | undefined;
    whole: boolean;
  },
): PanelScale {
  const { range, unit } = options;
  const low = (options.min ?? Math.min(0, ...values)) / unit.size;
  const high = (options.max ?? Math.max(...values, low + unit.size * 1e-9)) / unit.size;
  const step = Math.max(options.whole ? 1 : 0, niceStep((high - low) / TICKS));
  const from = Math.floor(low / step + 1e-9) * step;
  const to = Math.max(from + step, Math.ceil(high / step - 1e-9) * step);
  const at = (value: number): number =>
    range[0] + ((value / unit.size - from) / (to - from)) * (range[1] - range[0]);
  const count = Math.round((to - from) / step);
  const ticks = Array.from({ length: count + 1 }, (_, index) => {
    const shown = from + index * step;
    return { value: shown * unit.size, label: shown.toLocaleString('en', DIGITS) };
  });
  return { at, ticks };
}

const DIGITS = { maximumFractionDigits: 3 };

/** Seconds, in decades around the values. */
export function logScale(values: readonly number[], range: PixelRange): PanelScale {
  const positive = values.filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...positive, 1)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive, 10 ** low))));
  const at = (value: number): number =>
    range[0] + ((Math.log10(value) - low) / (high - low)) * (range[1] - range[0]);
  const ticks = Array.from({ length: high - low + 1 }, (_, index) => {
    const value = 10 ** (low + index);
    const unit = unitOf('s', [value * 1.001]);
    return { value, label: `${Math.round(value / unit.size)} ${unit.name}` };
  });
  return { at, ticks };
}

/** The least of 1, 2 and 5, times a power of ten, that is not below. */
function niceStep(rough: number): number {
  if (!(rough > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return ([1, 2, 5].find((one) => one * power >= rough * 0.999) ?? 10) * power;
}

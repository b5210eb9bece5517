// SPDX-License-Identifier: Apache-2.0
import { type PanelScale, linearScale, logScale, unitOf } from './dashboard-scale.js';
import { COLOURS, escapeXml } from './scale-plot.js';

// Panels of a dashboard over one run, as Grafana lays them out: a line for each series, its legend
// below, and behind all of them the spans of time in which something was done to the system.

export interface TimeSeries {
  readonly name: string;
  /** Seconds since the start of the run. */
  readonly points: ReadonlyArray<readonly [seconds: number, value: number]>;
}

export interface TimePanel {
  readonly title: string;
  /** Grafana's name of it. */
  readonly unit: string;
  readonly style: 'line' | 'steps' | 'points' | 'stacked';
  readonly log: boolean;
  /** Of things that cannot be halved. */
  readonly whole: boolean;
  readonly min: number | undefined;
  readonly max: number | undefined;
  readonly series: readonly TimeSeries[];
}

export interface Span {
  readonly label: string;
  readonly colour: string;
  readonly from: number;
  readonly to: number;
}

const COLUMNS = 3;
const PANEL_WIDTH = 400;
const PANEL_HEIGHT = 218;
const HEAD = 64;
const MARGIN = 12;
/** Of a panel's own coordinates: where its plot lies. */
const PLOT = { left: 58, right: PANEL_WIDTH - 22, top: 38, bottom: 162 };
const LEGEND_TOP = 196;
const LEGEND_ROW = 16;
/** Of the font at 11 px, generously. */
const CHARACTER = 6.3;
const CAPITAL = 8.2;
/** A pause in a series this long is a gap. */
const GAP_SECONDS = 3;

/** What these words mean has one colour on every panel. */
const MEANINGS: Readonly<Record<string, string>> = {
  online: '#009e73',
  PROOF: '#009e73',
  suspended: '#e69f00',
  'NO-ANSWER': '#e69f00',
  parked: '#e69f00',
  offline: '#d55e00',
  DENIED: '#d55e00',
};

export function renderDashboard(
  title: string,
  panels: readonly TimePanel[],
  { seconds, spans }: { seconds: number; spans: readonly Span[] },
): string {
  const rows = Math.ceil(panels.length / COLUMNS);
  const width = 2 * MARGIN + COLUMNS * PANEL_WIDTH;
  const height = HEAD + rows * PANEL_HEIGHT + MARGIN;
  const body = panels.flatMap((panel, index) => {
    const x = MARGIN + (index % COLUMNS) * PANEL_WIDTH;
    const y = HEAD + Math.floor(index / COLUMNS) * PANEL_HEIGHT;
    return [
      `<g transform="translate(${x},${y})">`,
      ...renderPanel(panel, { seconds, spans }),
      '</g>',
    ];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11" fill="#303030">`,
    `<rect width="${width}" height="${height}" fill="#f4f5f5"/>`,
    `<text x="${MARGIN + 4}" y="26" font-size="17" font-weight="bold">${escapeXml(title)}</text>`,
    ...spanLegend(spans),
    ...body,
    '</svg>',
    '',
  ].join('\n');
}

function spanLegend(spans: readonly Span[]): string[] {
  let x = MARGIN + 4;
  return spans.map(({ label, colour }) => {
    const at = x;
    x += 34 + label.length * 7;
    return (
      `<rect x="${at}" y="39" width="16" height="12" fill="${colour}" fill-opacity="0.2"/>` +
      `<path d="M${at} 39v12" stroke="${colour}" stroke-width="1.5"/>` +
      `<text x="${at + 22}" y="49" font-size="12">${escapeXml(label)}</text>`
    );
  });
}

interface Axes {
  readonly x: (seconds: number) => number;
  readonly y: PanelScale;
}

function renderPanel(
  panel: TimePanel,
  { seconds, spans }: { seconds: number; spans: readonly Span[] },
): string[] {
  const series = panel.style === 'stacked' ? stacked(panel.series) : panel.series;
  const values = series.flatMap(({ points }) => points.map(([, value]) => value));
  const unit = unitOf(panel.unit, values);
  const range = [PLOT.bottom, PLOT.top] as const;
  const y = panel.log
    ? logScale(values, range)
    : linearScale(values, { range, unit, min: panel.min, max: panel.max, whole: panel.whole });
  const x = (at: number): number => PLOT.left + (at / seconds) * (PLOT.right - PLOT.left);
  const suffix = panel.log || unit.name === '' ? '' : `(${unit.name})`;
  return [
    `<rect x="4" y="4" width="${PANEL_WIDTH - 8}" height="${PANEL_HEIGHT - 8}" rx="3" ` +
      `fill="#ffffff" stroke="#dcdee0"/>`,
    `<text x="16" y="24" font-size="13" font-weight="bold">${escapeXml(panel.title)}` +
      `<tspan dx="5" font-weight="normal" fill="#707070">${escapeXml(suffix)}</tspan></text>`,
    ...backdrop(spans, x),
    ...grid(y),
    ...timeAxis(seconds, x),
    ...draw({ ...panel, series }, { x, y }),
    ...marks(spans, x),
    ...legend(panel.series),
  ];
}

/** Each series on top of those before it; drawn from the last one, so that none hides another. */
function stacked(series: readonly TimeSeries[]): TimeSeries[] {
  const below = new Map<number, number>();
  return series.map(({ name, points }) => ({
    name,
    points: points.map(([at, value]) => {
      const sum = (below.get(at) ?? 0) + value;
      below.set(at, sum);
      return [at, sum] as const;
    }),
  }));
}

function backdrop(spans: readonly Span[], x: Axes['x']): string[] {
  return spans.map(({ from, to, colour }) => {
    const width = (x(to) - x(from)).toFixed(1);
    return (
      `<rect x="${x(from).toFixed(1)}" y="${PLOT.top}" width="${width}" ` +
      `height="${PLOT.bottom - PLOT.top}" fill="${colour}" fill-opacity="0.13"/>`
    );
  });
}

function marks(spans: readonly Span[], x: Axes['x']): string[] {
  return spans.map(
    ({ from, colour }) =>
      `<path d="M${x(from).toFixed(1)} ${PLOT.top - 5}V${PLOT.bottom}" stroke="${colour}" ` +
      `stroke-width="1.2" stroke-dasharray="3 2"/>`,
  );
}

function grid(y: PanelScale): string[] {
  return y.ticks.map(({ value, label }) => {
    const at = y.at(value).toFixed(1);
    return (
      `<path d="M${PLOT.left} ${at}H${PLOT.right}" stroke="#e6e7e8"/>` +
      `<text x="${PLOT.left - 6}" y="${(y.at(value) + 4).toFixed(1)}" text-anchor="end" ` +
      `fill="#606060">${escapeXml(label)}</text>`
    );
  });
}

function timeAxis(seconds: number, x: Axes['x']): string[] {
  const labels: string[] = [];
  for (let at = 0; at <= seconds; at += 30) {
    const text = `${Math.floor(at / 60)}:${String(at % 60).padStart(2, '0')}`;
    const mark = `<path d="M${x(at).toFixed(1)} ${PLOT.bottom}v4" stroke="#a0a0a0"/>`;
    labels.push(
      `${mark}<text x="${x(at).toFixed(1)}" y="${PLOT.bottom + 16}" text-anchor="middle" ` +
        `fill="#606060">${text}</text>`,
    );
  }
  return [`<path d="M${PLOT.left} ${PLOT.bottom}H${PLOT.right}" stroke="#a0a0a0"/>`, ...labels];
}

function draw({ style, series }: TimePanel, axes: Axes): string[] {
  const coloured = series.map((one, index) => ({ ...one, colour: colourOf(one.name, index) }));
  switch (style) {
    case 'line':
      return coloured.map(({ points, colour }) => line(points, colour, axes));
    case 'steps':
      return coloured.map(({ points, colour }) => line(stepsOf(points), colour, axes));
    case 'stacked':
      return coloured.reverse().map(({ points, colour }) => area(points, colour, axes));
    case 'points':
      return coloured.flatMap(({ points, colour }) =>
        points.map(([at, value]) => {
          const [cx, cy] = [axes.x(at).toFixed(1), axes.y.at(value).toFixed(1)];
          return `<circle cx="${cx}" cy="${cy}" r="2.6" fill="${colour}" fill-opacity="0.75"/>`;
        }),
      );
  }
}

type Points = TimeSeries['points'];

function line(points: Points, colour: string, { x, y }: Axes): string {
  let path = '';
  points.forEach(([at, value], index) => {
    const before = points[index - 1]?.[0] ?? -Infinity;
    const command = at - before > GAP_SECONDS ? 'M' : 'L';
    path += `${command}${x(at).toFixed(1)} ${y.at(value).toFixed(1)}`;
  });
  const stroke = `stroke="${colour}" stroke-width="1.7" stroke-linejoin="round"`;
  return `<path d="${path}" fill="none" ${stroke}/>`;
}

/** A value holds until the next one. */
function stepsOf(points: Points): Points {
  return points.flatMap((point, index) => {
    const before = points[index - 1];
    return before === undefined ? [point] : [[point[0], before[1]] as const, point];
  });
}

/** As steps: a state holds until the next one. */
function area(points: Points, colour: string, { x, y }: Axes): string {
  const first = points[0];
  if (first === undefined) return '';
  const floor = y.at(0).toFixed(1);
  const steps = points.map(([at, value]) => `H${x(at).toFixed(1)}V${y.at(value).toFixed(1)}`);
  const path = `M${x(first[0]).toFixed(1)} ${floor}${steps.join('')}V${floor}Z`;
  // White below: what is covered must not shine through.
  return (
    `<path d="${path}" fill="#ffffff"/>` + `<path d="${path}" fill="${colour}" fill-opacity="0.7"/>`
  );
}

function legend(series: readonly TimeSeries[]): string[] {
  let [left, top] = [16, LEGEND_TOP];
  return series.map(({ name }, index) => {
    const width = 22 + widthOf(name);
    if (left + width > PANEL_WIDTH - 12 && left > 16) [left, top] = [16, top + LEGEND_ROW];
    const at = left;
    left += width + 4;
    return (
      `<path d="M${at} ${top - 4}h12" stroke="${colourOf(name, index)}" stroke-width="3"/>` +
      `<text x="${at + 16}" y="${top}">${escapeXml(name)}</text>`
    );
  });
}

function widthOf(text: string): number {
  const capitals = text.match(/[A-Z]/g)?.length ?? 0;
  return (text.length - capitals) * CHARACTER + capitals * CAPITAL;
}

function colourOf(name: string, index: number): string {
  return MEANINGS[name] ?? COLOURS[index % COLOURS.length] ?? '#000000';
}

// SPDX-License-Identifier: Apache-2.0

/** One line of a plot. */
export interface Series {
  readonly name: string;
  readonly points: ReadonlyArray<{ readonly x: number; readonly y: number }>;
}

const WIDTH = 760;
const HEIGHT = 460;
const LEFT = 70;
/** Room for the names, which stand at the ends of their lines. */
const RIGHT = 210;
const TOP = 44;
const BOTTOM = 50;
/** Told apart by people who do not see colours, too (Okabe and Ito). */
export const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00'];
const NAME_HEIGHT = 17;

interface Axis {
  readonly low: number;
  readonly high: number;
  readonly at: (value: number) => number;
}

/**
 * A plot with logarithmic axes, on which a cost that grows linearly is a line of slope one: dashed
 * guides show that slope. Decades are squares on neither axis, so the guides matter.
 */
export function renderLogLog(
  series: readonly Series[],
  labels: { title: string; xLabel: string; yLabel: string },
): string {
  const all = series.flatMap(({ points }) => points);
  const x = axis(
    all.map((point) => point.x),
    [LEFT, WIDTH - RIGHT],
  );
  const y = axis(
    all.map((point) => point.y),
    [HEIGHT - BOTTOM, TOP],
  );
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}"`,
    ' font-family="sans-serif" font-size="13">',
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    `<text x="${LEFT}" y="24" font-size="16">${escapeXml(labels.title)}</text>`,
    ...grid(x, y),
    ...guides(x, y),
    axisLabel(labels.xLabel, { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 10 }),
    axisLabel(labels.yLabel, { x: 18, y: TOP - 12 }),
    ...series.flatMap((one, index) => line(one, { x, y, colour: colourOf(index) })),
    ...names(series, x, y),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

/** Whole decades around the values; throws for what has no logarithm. */
function axis(values: readonly number[], [from, to]: readonly [number, number]): Axis {
  for (const value of values) {
    if (value > 0) continue;
    throw new Error(`plotting on a logarithmic axis: got ${value}, expected more than 0`);
  }
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const at = (value: number): number =>
    from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  return { low, high, at };
}

function decades({ low, high }: Axis): number[] {
  return Array.from({ length: high - low + 1 }, (_, index) => low + index);
}

function grid(x: Axis, y: Axis): string[] {
  const vertical = decades(x).map((decade) => {
    const at = x.at(10 ** decade).toFixed(1);
    return (
      `<line x1="${at}" y1="${TOP}" x2="${at}" y2="${HEIGHT - BOTTOM}" stroke="#dddddd"/>` +
      `<text x="${at}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${tick(decade)}</text>`
    );
  });
  const horizontal = decades(y).map((decade) => {
    const at = y.at(10 ** decade);
    return (
      `<line x1="${LEFT}" y1="${at.toFixed(1)}" x2="${WIDTH - RIGHT}" y2="${at.toFixed(1)}"` +
      ` stroke="#dddddd"/>` +
      `<text x="${LEFT - 8}" y="${(at + 4).toFixed(1)}" text-anchor="end">${tick(decade)}</text>`
    );
  });
  return [...vertical, ...horizontal];
}

/** Lines of slope one, a decade apart, clipped to the plot. */
function guides(x: Axis, y: Axis): string[] {
  const lines: string[] = [];
  for (let shift = y.low - x.high; shift <= y.high - x.low; shift += 1) {
    const from = Math.max(x.low, y.low - shift);
    const to = Math.min(x.high, y.high - shift);
    if (from >= to) continue;
    const [x1, x2] = [x.at(10 ** from), x.at(10 ** to)];
    const [y1, y2] = [y.at(10 ** (from + shift)), y.at(10 ** (to + shift))];
    lines.push(
      `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}"` +
        ` y2="${y2.toFixed(1)}" stroke="#bbbbbb" stroke-dasharray="2 5"/>`,
    );
  }
  return lines;
}

function line(
  { points }: Series,
  { x, y, colour }: { x: Axis; y: Axis; colour: string },
): string[] {
  const at = points.map((point) => [x.at(point.x).toFixed(1), y.at(point.y).toFixed(1)] as const);
  return [
    `<polyline points="${at.map((pair) => pair.join(',')).join(' ')}" fill="none"` +
      ` stroke="${colour}" stroke-width="2"/>`,
    ...at.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3.5" fill="${colour}"/>`),
  ];
}

/** Each name at the end of its line, moved down as far as the one above needs. */
function names(series: readonly Series[], x: Axis, y: Axis): string[] {
  const ends = series.map(({ name, points }, index) => {
    const last = points.at(-1);
    return { name, index, endY: last === undefined ? TOP : y.at(last.y) };
  });
  ends.sort((a, b) => a.endY - b.endY);
  let above = -Infinity;
  return ends.map(({ name, index, endY }) => {
    above = Math.max(endY + 4, above + NAME_HEIGHT);
    const left = x.at(10 ** x.high) + 10;
    return (
      `<text x="${left.toFixed(1)}" y="${above.toFixed(1)}" fill="${colourOf(index)}">` +
      `${escapeXml(name)}</text>`
    );
  });
}

function axisLabel(text: string, at: { x: number; y: number }): string {
  return `<text x="${at.x}" y="${at.y}" fill="#555555">${escapeXml(text)}</text>`;
}

/** Up to six digits plain, the rest as powers. */
function tick(decade: number): string {
  if (decade >= 0 && decade <= 6) return String(10 ** decade);
  return decade >= -4 && decade < 0 ? (10 ** decade).toFixed(-decade) : `1e${decade}`;
}

function colourOf(index: number): string {
  return COLOURS[index % COLOURS.length] ?? '#000000';
}

export function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

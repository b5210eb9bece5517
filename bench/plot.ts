// SPDX-License-Identifier: Apache-2.0
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type StoreKind, summarize } from './figures.js';
import type { PeerKind } from './peer.js';
import type { Report } from './report.js';
import type { Group } from './workloads.js';

// Horizontal bars: the names of servers stand left of them, one to a line, so no label can cover
// another. A panel for each workload, since their scales differ.

export interface Bar {
  readonly label: string;
  readonly kind: PeerKind;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly Bar[];
}

const WIDTH = 760;
const LABELS = 150;
/** Right of the longest whisker, for the figures. */
const VALUES = 90;
const BAR = 16;
const ROW = 22;
const TITLE = 30;
const GAP = 16;
const HEAD = 56;

/** Distinct in hue and in lightness: also told apart in grey. */
const COLOURS: Readonly<Record<PeerKind, string>> = {
  keyhold: '#0b5fa5',
  null: '#c9c9c9',
  plain: '#e0a030',
  encrypting: '#a03030',
};

const MEANINGS: Readonly<Record<PeerKind, string>> = {
  keyhold: 'keyhold, encrypting',
  plain: 'not encrypting',
  encrypting: 'encrypting',
  null: 'null: no disk',
};

export function renderPlot(title: string, panels: readonly Panel[]): string {
  const heights = panels.map(({ bars }) => TITLE + bars.length * ROW + GAP);
  const height = HEAD + heights.reduce((sum, one) => sum + one, 0);
  const body: string[] = [];
  let top = HEAD;
  panels.forEach((panel, index) => {
    body.push(...renderPanel(panel, top));
    top += heights[index] ?? 0;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
      `viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(12, 22, title, 'font-size="15" font-weight="bold"'),
    ...legend(),
    ...body,
    '</svg>',
    '',
  ].join('\n');
}

function legend(): string[] {
  return (Object.keys(MEANINGS) as PeerKind[]).flatMap((kind, index) => [
    `<rect x="${12 + index * 170}" y="34" width="12" height="12" fill="${COLOURS[kind]}"/>`,
    text(30 + index * 170, 44, MEANINGS[kind]),
  ]);
}

function renderPanel({ title, unit, bars }: Panel, top: number): string[] {
  const longest = Math.max(...bars.map(({ max }) => max));
  const scale = (WIDTH - LABELS - VALUES) / longest;
  const lines = [text(12, top + 20, `${title} (${unit})`, 'font-weight="bold"')];
  bars.forEach((bar, index) => {
    const y = top + TITLE + index * ROW;
    const middle = y + BAR / 2;
    const at = (value: number): string => (LABELS + value * scale).toFixed(1);
    const whisker =
      `d="M${at(bar.min)} ${middle}H${at(bar.max)}M${at(bar.min)} ${middle - 4}v8` +
      `M${at(bar.max)} ${middle - 4}v8"`;
    lines.push(
      text(LABELS - 8, middle + 4, bar.label, 'text-anchor="end"'),
      `<rect x="${LABELS}" y="${y}" width="${(bar.median * scale).toFixed(1)}" height="${BAR}" ` +
        `fill="${COLOURS[bar.kind]}"/>`,
      // White below black: seen on every colour.
      `<path ${whisker} stroke="#ffffff" stroke-width="3.2"/>`,
      `<path ${whisker} stroke="#202020" stroke-width="1.2"/>`,
      text(Number(at(bar.max)) + 8, middle + 4, bar.median.toLocaleString('en', DIGITS)),
    );
  });
  return lines;
}

const DIGITS = { maximumFractionDigits: 0 };

function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replace(/&/g, '&amp;').replace(/</g, '&lt;');
  return `<text x="${x}" y="${y}" fill="#202020" ${attributes}>${escaped}</text>`;
}

function panelsOf(report: Report, store: StoreKind, group: Group): Panel[] {
  return report.workloads
    .filter((workload) => workload.group === group && report.figures.has(store, workload.name))
    .map(({ name, unit }) => ({
      title: name,
      unit,
      bars: report.peers.flatMap((peer) => {
        const samples = report.figures.samples({ store, workload: name, peer: peer.name });
        if (samples.length === 0) return [];
        const { median, min, max } = summarize(samples);
        return [{ label: peer.name, kind: peer.kind, median, min, max }];
      }),
    }));
}

/** A file for each group of workloads and store; returns their names. */
export async function writePlots(report: Report, directory: string): Promise<string[]> {
  await mkdir(directory, { recursive: true });
  const names: string[] = [];
  const groups = new Set(report.workloads.map(({ group }) => group));
  for (const store of report.stores) {
    for (const group of groups) {
      const panels = panelsOf(report, store, group);
      if (panels.length === 0) continue;
      const name = `${store}-${group.replaceAll(' ', '-')}.svg`;
      const title = `${group}, store on ${store}: median, min to max of ${report.rounds} rounds`;
      await writeFile(join(directory, name), renderPlot(title, panels));
      names.push(name);
    }
  }
  return names;
}

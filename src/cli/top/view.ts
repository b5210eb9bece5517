// SPDX-License-Identifier: Apache-2.0
import { throughputOf, type TopDisk } from './model.js';

/* What the person at the keys has chosen, and how each key changes it. */

export const SORT_COLUMNS = [
  'throughput',
  'disk',
  'state',
  'read',
  'write',
  'iops',
  'p50',
  'p99',
  'flight',
  'lease',
] as const;
export type SortColumn = (typeof SORT_COLUMNS)[number];

export interface TopView {
  readonly sort: SortColumn;
  /** The other way round than what the column has first: most for numbers, A for names. */
  readonly reverse: boolean;
  /** Rows above the window. */
  readonly offset: number;
  /** The screen stays as it is. */
  readonly paused: boolean;
}

export const FIRST_VIEW: TopView = {
  sort: 'throughput',
  reverse: false,
  offset: 0,
  paused: false,
};

/** What a key means, given how many rows there are and how many the window shows. */
export function press(
  view: TopView,
  key: string,
  window: { rows: number; shown: number },
): TopView | 'quit' | 'suspend' {
  const { rows, shown } = window;
  const scrolled = (offset: number): TopView => ({
    ...view,
    offset: Math.max(0, Math.min(offset, rows - shown)),
  });
  switch (key) {
    case 'q':
    case 'Q':
    case '\u0003': // Ctrl-C
    case '\u0004': // Ctrl-D
      return 'quit';
    case '\u001a': // Ctrl-Z
      return 'suspend';
    case 's':
    case '\u001b[C': // right
      return { ...view, sort: neighbour(view.sort, 1), reverse: false, offset: 0 };
    case 'S':
    case '\u001b[D': // left
      return { ...view, sort: neighbour(view.sort, -1), reverse: false, offset: 0 };
    case 'r':
      return { ...view, reverse: !view.reverse };
    case 'p':
    case ' ':
      return { ...view, paused: !view.paused };
    case 'k':
    case '\u001b[A': // up
      return scrolled(view.offset - 1);
    case 'j':
    case '\u001b[B': // down
      return scrolled(view.offset + 1);
    case '\u001b[5~': // page up
      return scrolled(view.offset - shown);
    case '\u001b[6~': // page down
      return scrolled(view.offset + shown);
    case 'g':
    case '\u001b[H': // home
      return scrolled(0);
    case 'G':
    case '\u001b[F': // end
      return scrolled(rows);
    default:
      return view;
  }
}

/** Keys of one read from a terminal: an escape sequence is one, anything else a character. */
export function splitKeys(text: string): string[] {
  return text.match(/\u001b\[[0-9;]*[A-Za-z~]|[\s\S]/gu) ?? [];
}

function neighbour(sort: SortColumn, step: number): SortColumn {
  const index = SORT_COLUMNS.indexOf(sort) + step + SORT_COLUMNS.length;
  return SORT_COLUMNS[index % SORT_COLUMNS.length] ?? sort;
}

/** Most first for numbers, A first for words; equal ones by name, so that no row jumps about. */
export function sortDisks(
  disks: readonly TopDisk[],
  { sort, reverse }: Pick<TopView, 'sort' | 'reverse'>,
): TopDisk[] {
  const direction = reverse ? -1 : 1;
  return [...disks].sort((a, b) => direction * compareBy(sort, a, b) || (a.name < b.name ? -1 : 1));
}

function compareBy(sort: SortColumn, a: TopDisk, b: TopDisk): number {
  switch (sort) {
    case 'disk':
      return compareText(a.name, b.name);
    case 'state':
      return compareText(`${a.state} ${a.reason ?? ''}`, `${b.state} ${b.reason ?? ''}`);
    case 'throughput':
      return throughputOf(b) - throughputOf(a);
    case 'read':
      return b.readBytesPerSecond - a.readBytesPerSecond;
    case 'write':
      return b.writeBytesPerSecond - a.writeBytesPerSecond;
    case 'iops':
      return b.requestsPerSecond - a.requestsPerSecond;
    case 'p50':
      return (b.p50Seconds ?? -1) - (a.p50Seconds ?? -1);
    case 'p99':
      return (b.p99Seconds ?? -1) - (a.p99Seconds ?? -1);
    case 'flight':
      return b.inFlight + b.parked - (a.inFlight + a.parked);
    case 'lease':
      // What ends first is what one looks for; without a lease nothing ends.
      return compareLease(a.leaseSecondsLeft, b.leaseSecondsLeft);
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function compareLease(a: number | null, b: number | null): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return a - b;
}

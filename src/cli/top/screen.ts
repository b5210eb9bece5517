// SPDX-License-Identifier: Apache-2.0
import { formatSize } from '../../base/units.js';
import { type Column, formatTable, type TableSink } from '../table.js';
import { clip, paint, plain } from '../text.js';
import { type DiskState, paintOf, stateOf } from '../views/disk.js';
import { formatLease, formatSpan } from '../views/time.js';
import type { Rates, TopDisk, TopFrame, TopModel, TopShard } from './model.js';
import { sortDisks, type SortColumn, type TopView } from './view.js';

/* Drawing is a function of what is known and of the terminal's size; it writes nothing. */

export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
  readonly color: boolean;
}

const HEAD_ROWS = 4;
/** The table's titles and the line of keys. */
const OTHER_ROWS = 2;
const SPARK_WIDTH_MAX = 24;
const BLOCKS = ' ▁▂▃▄▅▆▇█';

/** How many disks fit. */
export function shownRows({ rows }: Pick<ScreenSize, 'rows'>): number {
  return Math.max(0, rows - HEAD_ROWS - OTHER_ROWS);
}

/** At most `rows` lines of at most `columns` characters each. */
export function drawScreen(
  model: TopModel,
  view: TopView,
  size: ScreenSize,
  trouble?: string,
): string[] {
  const { disks } = model.frame;
  const shown = shownRows(size);
  const first = Math.max(0, Math.min(view.offset, disks.length - shown));
  const window = sortDisks(disks, view).slice(first, first + shown);
  const head = [
    drawTitle(model.frame, size, view.paused),
    drawTotal(model, size),
    drawShards(model.frame.shards, size),
    trouble === undefined ? '' : paint(size, `no answer, trying again: ${plain(trouble)}`, 'red'),
  ];
  const table = drawTable(model, window, { sink: size, sort: view.sort });
  const last = first + window.length;
  const position = disks.length === 0 ? 'no disks' : `${first + 1}-${last} of ${disks.length}`;
  const order = `sorted by ${view.sort}${view.reverse ? ', reversed' : ''}`;
  const keys = `${position} ${order}  q quit  s sort  r reverse  ↑↓ scroll  p pause`;
  const body = [...head, ...table].slice(0, Math.max(0, size.rows - 1));
  const filler = new Array<string>(Math.max(0, size.rows - 1 - body.length)).fill('');
  const lines = [...body, ...filler, paint(size, clip(keys, size.columns), 'dim')];
  return lines.slice(-size.rows).map((line) => clip(line, size.columns));
}

/** One look for a pipe or a file: everything, as wide as it is. */
export function formatFrame(model: TopModel): string {
  const sink = { columns: undefined, color: false };
  const size = { columns: Number.POSITIVE_INFINITY, rows: Number.POSITIVE_INFINITY, color: false };
  const disks = sortDisks(model.frame.disks, { sort: 'disk', reverse: false });
  const lines = [
    drawTitle(model.frame, size, false),
    drawTotal(model, size),
    drawShards(model.frame.shards, size),
    ...drawTable(model, disks, { sink, sort: 'disk' }),
  ];
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n\n`;
}

function drawTitle(frame: TopFrame, size: ScreenSize, paused: boolean): string {
  const count = (state: DiskState): number =>
    frame.disks.filter((disk) => disk.state === state).length;
  const states = (['online', 'suspended', 'offline'] as const)
    .map((state) => [count(state), state] as const)
    .filter(([number]) => number > 0)
    .map(([number, state]) => `${number} ${state}`);
  const disks = [`disks ${frame.disks.length}`, states.join(', ')].filter(Boolean).join(': ');
  const parts = [
    paint(size, 'keyhold top', 'bold'),
    `up ${formatSpan(Math.floor(frame.uptimeSeconds) * 1000)}`,
    disks,
    `connections ${frame.connections}`,
    ...(paused ? [paint(size, 'paused', 'yellow')] : []),
  ];
  return parts.join('   ');
}

function drawTotal({ frame, totalHistory }: TopModel, { columns }: ScreenSize): string {
  const { total } = frame;
  const text = [
    `read ${formatRate(total.readBytesPerSecond)}`,
    `write ${formatRate(total.writeBytesPerSecond)}`,
    `IOPS ${formatCount(total.requestsPerSecond)}`,
    `p50 ${formatTime(total.p50Seconds)}`,
    `p99 ${formatTime(total.p99Seconds)}`,
    `in flight ${total.inFlight}`,
  ].join('   ');
  const room = Math.min(SPARK_WIDTH_MAX, columns - text.length - 3);
  return room > 3 ? `${text}   ${sparkline(totalHistory, room)}` : text;
}

/** `shards 0 ▆ 82%`: as many as there is room for, and how many are left out. */
function drawShards(shards: readonly TopShard[], { columns }: ScreenSize): string {
  const cells = shards.map(({ index, alive, load }) => {
    if (!alive) return `${index} dead`;
    if (load === null) return `${index} -`;
    return `${index} ${blockOf(load)} ${String(Math.round(load * 100)).padStart(3)}%`;
  });
  let line = 'shards';
  for (const [index, cell] of cells.entries()) {
    const rest = `  and ${cells.length - index} more`;
    const needed = index === cells.length - 1 ? 0 : rest.length;
    if (line.length + 2 + cell.length + needed > columns) return `${line}${rest}`;
    line = `${line}  ${cell}`;
  }
  return line;
}

interface Row {
  readonly disk: TopDisk;
  readonly history: readonly number[];
}

function drawTable(
  model: TopModel,
  disks: readonly TopDisk[],
  { sink, sort }: { sink: TableSink; sort: SortColumn },
): string[] {
  const rows = disks.map((disk) => ({ disk, history: model.histories.get(disk.name) ?? [] }));
  return formatTable(sink, columnsOf(sort), rows).trimEnd().split('\n');
}

/** Numbers have a width of their own, so that columns stand still while they change. */
function columnsOf(sort: SortColumn): ReadonlyArray<Column<Row>> {
  const number = (
    title: string,
    of: SortColumn,
    width: number,
    value: (disk: TopDisk) => string,
  ): Column<Row> => ({
    title: titleOf(title, of, sort),
    value: ({ disk }) => value(disk).padStart(width),
    align: 'right',
  });
  const lease = (disk: TopDisk): string => formatLease(disk.leaseSecondsLeft);
  return [
    { title: titleOf('DISK', 'disk', sort), value: ({ disk }) => disk.name, widthMin: 8 },
    {
      title: titleOf('STATE', 'state', sort),
      value: ({ disk }) => stateOf(disk),
      paint: ({ disk }) => paintOf(disk),
      widthMin: 8,
    },
    number('READ/S', 'read', 10, (disk) => formatRate(disk.readBytesPerSecond).replace('/s', '')),
    number('WRITE/S', 'write', 10, (disk) =>
      formatRate(disk.writeBytesPerSecond).replace('/s', ''),
    ),
    number('IOPS', 'iops', 6, (disk) => formatCount(disk.requestsPerSecond)),
    { ...number('P50', 'p50', 6, (disk) => formatTime(disk.p50Seconds)), optional: true },
    number('P99', 'p99', 6, (disk) => formatTime(disk.p99Seconds)),
    number('FLIGHT', 'flight', 4, (disk) => String(disk.inFlight + disk.parked)),
    number('LEASE', 'lease', 6, lease),
    {
      title: titleOf('THROUGHPUT', 'throughput', sort),
      value: ({ history }) => sparkline(history, SPARK_WIDTH_MAX).padEnd(SPARK_WIDTH_MAX),
      widthMin: 11,
      cut: 'start',
      quiet: true,
      optional: true,
    },
  ];
}

function titleOf(title: string, of: SortColumn, sort: SortColumn): string {
  return of === sort ? `${title}*` : title;
}

/** The last `width` values as blocks, against the largest of them; nothing at all is a blank. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width);
  const most = Math.max(0, ...shown);
  return shown.map((value) => blockOf(most === 0 ? 0 : value / most)).join('');
}

/** A share from 0 to 1; whatever is not nothing shows. */
function blockOf(share: number): string {
  const level = share <= 0 ? 0 : Math.max(1, Math.round(share * (BLOCKS.length - 1)));
  return BLOCKS[Math.min(level, BLOCKS.length - 1)] ?? ' ';
}

function formatRate(bytesPerSecond: Rates['readBytesPerSecond']): string {
  return `${formatSize(Math.round(bytesPerSecond))}/s`;
}

function formatCount(perSecond: number): string {
  if (perSecond >= 1_000_000) return `${(perSecond / 1_000_000).toFixed(1)}M`;
  if (perSecond >= 100_000) return `${Math.round(perSecond / 1000)}k`;
  return String(perSecond >= 10 ? Math.round(perSecond) : Math.round(perSecond * 10) / 10);
}

/** `87µs`, `1.2ms`, `2.5s`, or `-` where nothing was timed. */
export function formatTime(timeSeconds: number | null): string {
  if (timeSeconds === null) return '-';
  if (timeSeconds < 0.001) return `${Math.round(timeSeconds * 1_000_000)}µs`;
  if (timeSeconds < 1) return `${short(timeSeconds * 1000)}ms`;
  return `${short(timeSeconds)}s`;
}

function short(value: number): string {
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

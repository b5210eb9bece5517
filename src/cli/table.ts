// SPDX-License-Identifier: Apache-2.0
import type { TextSink } from './io.js';
import { type Paint, paint, plain } from './text.js';

/** What a table needs to know of where it goes. */
export type TableSink = Pick<TextSink, 'columns' | 'color'>;

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  readonly align?: 'right';
  readonly paint?: (row: Row) => Paint | undefined;
  /** May be cut down to this width, with an ellipsis, when the terminal is too narrow. */
  readonly widthMin?: number;
  /** Cuts the beginning instead of the end: paths and URLs differ at their end. */
  readonly cut?: 'start';
  /** Is cut without an ellipsis, since it is a picture. */
  readonly quiet?: true;
  /** Left out where even shrunk columns do not fit the terminal. */
  readonly optional?: true;
}

const GAP = '  ';

/**
 * Rows under titles. On a terminal the table fits its width: columns that may shrink do so first,
 * optional ones go next, and only then the others are cut too. In a pipe nothing is ever cut, so
 * that scripts see whole values.
 */
export function formatTable<Row>(
  sink: TableSink,
  columns: ReadonlyArray<Column<Row>>,
  rows: readonly Row[],
): string {
  const whole = measure(columns, rows);
  if (sink.columns === undefined || widthMinOf(whole) <= sink.columns) {
    return layOutTable(sink, whole, rows);
  }
  const needed = columns.filter((column) => column.optional !== true);
  return layOutTable(sink, measure(needed, rows), rows);
}

interface Measured<Row> {
  readonly columns: ReadonlyArray<Column<Row>>;
  readonly cells: ReadonlyArray<readonly string[]>;
  readonly widths: number[];
}

function measure<Row>(columns: ReadonlyArray<Column<Row>>, rows: readonly Row[]): Measured<Row> {
  const cells = rows.map((row) => columns.map((column) => plain(column.value(row))));
  const widths = columns.map((column, index) =>
    Math.max(lengthOf(column.title), ...cells.map((line) => lengthOf(line[index] ?? ''))),
  );
  return { columns, cells, widths };
}

/** What is left of the table when every column has shrunk as far as it may. */
function widthMinOf<Row>({ columns, widths }: Measured<Row>): number {
  const gaps = GAP.length * (columns.length - 1);
  return columns.reduce((sum, column, index) => {
    const width = widths[index] ?? 0;
    return sum + Math.min(width, floorOf(column));
  }, gaps);
}

function floorOf<Row>(column: Column<Row>): number {
  return Math.max(column.widthMin ?? Number.POSITIVE_INFINITY, lengthOf(column.title));
}

function titleWidthOf<Row>({ title }: Column<Row>): number {
  return lengthOf(title);
}

function layOutTable<Row>(
  sink: TableSink,
  { columns, cells, widths }: Measured<Row>,
  rows: readonly Row[],
): string {
  if (sink.columns !== undefined) {
    shrink(widths, columns.map(floorOf), sink.columns);
    shrink(widths, columns.map(titleWidthOf), sink.columns);
    shrink(
      widths,
      columns.map(() => 1),
      sink.columns,
    );
  }
  const titles = layOut(
    columns.map((column) => column.title),
    columns,
    widths,
  );
  const lines = cells.map((line, rowIndex) => {
    const row = rows[rowIndex];
    return layOut(line, columns, widths, (text, column) =>
      row === undefined ? text : paint(sink, text, column.paint?.(row)),
    );
  });
  return `${[paint(sink, titles, 'bold'), ...lines].join('\n')}\n`;
}

/** Takes columns from the widest shrinkable one, again and again, until the table fits. */
function shrink(widths: number[], floors: readonly number[], available: number): void {
  const gaps = GAP.length * (widths.length - 1);
  let excess = widths.reduce((sum, width) => sum + width, gaps) - available;
  while (excess > 0) {
    let widest = -1;
    widths.forEach((width, index) => {
      if (width > (floors[index] ?? 0) && width > (widths[widest] ?? 0)) widest = index;
    });
    if (widest < 0) return;
    widths[widest] = (widths[widest] ?? 0) - 1;
    excess -= 1;
  }
}

function layOut<Row>(
  line: readonly string[],
  columns: ReadonlyArray<Column<Row>>,
  widths: readonly number[],
  decorate: (text: string, column: Column<Row>) => string = (text) => text,
): string {
  const parts = columns.map((column, index) => {
    const width = widths[index] ?? 0;
    const text = cut(line[index] ?? '', width, column);
    const padding = ' '.repeat(width - lengthOf(text));
    const shown = decorate(text, column);
    return column.align === 'right' ? padding + shown : shown + padding;
  });
  return parts.join(GAP).trimEnd();
}

function cut<Row>(text: string, width: number, column: Column<Row>): string {
  const characters = Array.from(text);
  if (characters.length <= width) return text;
  if (column.quiet === true) {
    return column.cut === 'start'
      ? characters.slice(characters.length - width).join('')
      : characters.slice(0, width).join('');
  }
  return column.cut !== 'start'
    ? `${characters.slice(0, width - 1).join('')}…`
    : `…${characters.slice(characters.length - width + 1).join('')}`;
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}

/** `label   value` lines for the views of one object. Undefined values are left out. */
export function formatFields(
  fields: ReadonlyArray<readonly [label: string, value: string | undefined]>,
): string {
  const shown = fields.filter((field) => field[1] !== undefined);
  const width = Math.max(0, ...shown.map(([label]) => lengthOf(label)));
  return shown
    .map(([label, value]) => `  ${label.padEnd(width)}  ${value ?? ''}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('');
}

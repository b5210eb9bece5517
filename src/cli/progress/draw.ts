// SPDX-License-Identifier: Apache-2.0
import cliProgress from 'cli-progress';
import { formatSpan } from '../views/time.js';
import { clip, plain } from '../text.js';

/** How far something is; `total` is above 0. */
export interface Share {
  readonly done: number;
  readonly total: number;
  /** What is counted, such as `disks`; undefined for bytes, of which only the share is told. */
  readonly unit?: string;
}

export interface ProgressState {
  /** What goes on, such as `rotating set demo`. */
  readonly doing: string;
  readonly elapsedMs: number;
  /** Undefined while nobody can say. */
  readonly share: Share | undefined;
}

const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const SPIN_MS = 250;
const BAR_WIDTH = 20;
const BAR = {
  barsize: BAR_WIDTH,
  barGlue: '',
  barCompleteString: '█'.repeat(BAR_WIDTH),
  barIncompleteString: '░'.repeat(BAR_WIDTH),
};
const STEP_PERCENT = 5;

/** One line of at most `columns` characters. */
export function drawProgress(state: ProgressState, columns: number): string {
  const spinner = SPINNER[Math.floor(state.elapsedMs / SPIN_MS) % SPINNER.length] ?? '';
  const elapsed = formatSpan(Math.floor(state.elapsedMs / 1000) * 1000);
  const bar = state.share === undefined ? '' : `  ${drawBar(state.share)}`;
  return clip(`${spinner} ${plain(state.doing)}${bar}  ${elapsed}`, columns);
}

function drawBar(share: Share): string {
  return `${cliProgress.Format.BarFormat(percentOf(share) / 100, BAR)} ${textOf(share)}`;
}

function textOf(share: Share): string {
  const percent = `${percentOf(share)}%`;
  if (share.unit === undefined) return percent;
  return `${percent}, ${share.done} of ${share.total} ${share.unit}`;
}

function percentOf({ done, total }: Share): number {
  return Math.max(0, Math.min(100, Math.floor((100 * done) / total)));
}

/**
 * Where there is no terminal: the line to print now, if any, and the step that it stands for. The
 * first line comes as soon as there is something to wait for, then one for every 5 %.
 */
export function lineOfStep(
  { doing, share }: ProgressState,
  printed: number | undefined,
): { line: string; step: number } | undefined {
  const step = share === undefined ? 0 : Math.floor(percentOf(share) / STEP_PERCENT);
  if (printed !== undefined && step <= printed) return undefined;
  const text = share === undefined ? '' : `: ${textOf(share)}`;
  return { line: `keyhold: ${plain(doing)}${text}\n`, step };
}

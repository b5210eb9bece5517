// SPDX-License-Identifier: Apache-2.0
import type { TextSink } from '../io.js';
import { drawProgress, lineOfStep, type ProgressState, type Share } from './draw.js';

/** What ends sooner needs no picture. */
const PATIENCE_MS = 2000;
const DRAW_MS = 250;
/** How often it is asked how far things are: that may cost the daemon something. */
const LOOK_MS = 2000;

export interface Task {
  readonly doing: string;
  /** How far it is. A failure is taken for not knowing: what counts is the work itself. */
  readonly look?: () => Promise<Share | undefined>;
}

/**
 * Does `work`, and shows on standard error what goes on when it takes longer than two seconds: a
 * bar or a spinner on a terminal, plain lines elsewhere. The picture is gone when this settles.
 */
export async function showProgress<T>(
  sink: TextSink,
  task: Task,
  work: () => Promise<T>,
  patienceMs = PATIENCE_MS,
): Promise<T> {
  const picture = new Picture(sink, task);
  const timer = setTimeout(() => picture.begin(), patienceMs);
  picture.startedMs = performance.now();
  try {
    return await work();
  } finally {
    clearTimeout(timer);
    picture.end();
  }
}

class Picture {
  startedMs = 0;
  readonly #sink: TextSink;
  readonly #task: Task;
  readonly #timers: NodeJS.Timeout[] = [];
  #share: Share | undefined;
  #isLooking = false;
  #printed: number | undefined;
  #isDrawn = false;

  constructor(sink: TextSink, task: Task) {
    this.#sink = sink;
    this.#task = task;
  }

  begin(): void {
    this.#timers.push(setInterval(() => this.#draw(), DRAW_MS));
    if (this.#task.look !== undefined) {
      this.#timers.push(setInterval(() => void this.#look(), LOOK_MS));
      void this.#look();
    }
    this.#draw();
  }

  end(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    if (this.#isDrawn) this.#sink.write('\r\u001b[K');
    this.#isDrawn = false;
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const share = await this.#task.look?.().catch(() => undefined);
    this.#isLooking = false;
    if (share !== undefined && share.total > 0) this.#share = share;
  }

  #draw(): void {
    const { columns } = this.#sink;
    const state: ProgressState = {
      doing: this.#task.doing,
      elapsedMs: performance.now() - this.startedMs,
      share: this.#share,
    };
    if (columns === undefined) {
      const next = lineOfStep(state, this.#printed);
      if (next === undefined) return;
      this.#printed = next.step;
      this.#sink.write(next.line);
      return;
    }
    // The last column is left free, where some terminals wrap already.
    this.#sink.write(`\r${drawProgress(state, columns - 1)}\u001b[K`);
    this.#isDrawn = true;
  }
}

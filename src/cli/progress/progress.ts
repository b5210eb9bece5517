// SPDX-License-Identifier: Apache-2.0
import type { TextSink } from '../io.js';
import { lineOfStep, type Share } from './draw.js';
import { startTerminalBar, type TerminalBar } from './terminal-bar.js';

/** What ends sooner needs no picture. */
const PATIENCE_MS = 2000;
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
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;
  #printed: number | undefined;
  #bar: TerminalBar | undefined;
  #isOver = false;

  constructor(sink: TextSink, task: Task) {
    this.#sink = sink;
    this.#task = task;
  }

  begin(): void {
    const { doing, look } = this.#task;
    const elapsedMs = (): number => performance.now() - this.startedMs;
    if (this.#sink.columns === undefined) this.#print(undefined);
    else this.#bar = startTerminalBar(this.#sink, doing, elapsedMs);
    if (look === undefined) return;
    this.#timer = setInterval(() => void this.#look(look), LOOK_MS);
    void this.#look(look);
  }

  end(): void {
    this.#isOver = true;
    clearInterval(this.#timer);
    this.#bar?.stop();
  }

  async #look(look: NonNullable<Task['look']>): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const share = await look().catch(() => undefined);
    this.#isLooking = false;
    if (this.#isOver || share === undefined || share.total <= 0) return;
    if (this.#bar === undefined) this.#print(share);
    else this.#bar.show(share);
  }

  /** Where there is no terminal. */
  #print(share: Share | undefined): void {
    const state = { doing: this.#task.doing, elapsedMs: 0, share };
    const next = lineOfStep(state, this.#printed);
    if (next === undefined) return;
    this.#printed = next.step;
    this.#sink.write(next.line);
  }
}

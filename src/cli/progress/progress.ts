// SPDX-License-Identifier: Apache-2.0
import type { TextSink } from '../io.js';
import { lineOfStep, type ProgressState, type Share } from './draw.js';
import { TerminalBar } from './terminal-bar.js';

/** What ends sooner needs no picture. */
const PATIENCE_MS = 2000;
const PRINT_MS = 250;
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
  #bar: TerminalBar | undefined;

  constructor(sink: TextSink, task: Task) {
    this.#sink = sink;
    this.#task = task;
  }

  begin(): void {
    const { columns } = this.#sink;
    if (columns === undefined) {
      this.#timers.push(setInterval(() => this.#print(), PRINT_MS));
      this.#print();
    } else {
      this.#bar = new TerminalBar(this.#sink, columns, () => this.#state());
    }
    if (this.#task.look !== undefined) {
      this.#timers.push(setInterval(() => void this.#look(), LOOK_MS));
      void this.#look();
    }
  }

  end(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    this.#bar?.stop();
    this.#bar = undefined;
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const share = await this.#task.look?.().catch(() => undefined);
    this.#isLooking = false;
    if (share !== undefined && share.total > 0) this.#share = share;
  }

  #state(): ProgressState {
    return {
      doing: this.#task.doing,
      elapsedMs: performance.now() - this.startedMs,
      share: this.#share,
    };
  }

  #print(): void {
    const next = lineOfStep(this.#state(), this.#printed);
    if (next === undefined) return;
    this.#printed = next.step;
    this.#sink.write(next.line);
  }
}

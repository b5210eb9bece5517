// SPDX-License-Identifier: Apache-2.0
import { Writable } from 'node:stream';
import { SingleBar, type Params } from 'cli-progress';
import type { TextSink } from '../io.js';
import { drawProgress, type Share } from './draw.js';

const DRAWS_PER_SECOND = 4;

/** One line of a terminal that says how far something is, drawn anew until `stop`. */
export interface TerminalBar {
  show(share: Share): void;
  /** Clears the line. */
  stop(): void;
}

/** Draws at once. `elapsedMs` is asked at every drawing. */
export function startTerminalBar(
  sink: TextSink,
  doing: string,
  elapsedMs: () => number,
): TerminalBar {
  const bar = new SingleBar({
    format: (_options, params: Params, { share }: { share?: Share }) =>
      drawProgress({ doing, elapsedMs: elapsedMs(), share }, params.maxWidth),
    stream: new SinkTerminal(sink),
    fps: DRAWS_PER_SECOND,
    clearOnComplete: true,
    noTTYOutput: false,
    // Lines are made to fit. A terminal told not to wrap would stay so after Ctrl-C, and a cursor
    // that is hidden would stay hidden.
    linewrap: true,
    hideCursor: false,
  });
  bar.start(1, 0, {});
  return {
    show(share) {
      bar.setTotal(share.total);
      bar.update(share.done, { share });
    },
    stop: () => bar.stop(),
  };
}

/** What cli-progress takes for a terminal. */
class SinkTerminal extends Writable {
  readonly isTTY = true;
  readonly #sink: TextSink;

  constructor(sink: TextSink) {
    super({ decodeStrings: false });
    this.#sink = sink;
  }

  /** The last column is left free, where some terminals wrap already; at least 1. */
  get columns(): number {
    return Math.max(1, (this.#sink.columns ?? 0) - 1);
  }

  override _write(text: string, _encoding: string, done: () => void): void {
    this.#sink.write(text);
    done();
  }
}

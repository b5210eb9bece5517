// SPDX-License-Identifier: Apache-2.0
import { Writable } from 'node:stream';
import cliProgress, { type Options } from 'cli-progress';
import type { TextSink } from '../io.js';
import { lineOf, type ProgressState } from './draw.js';

const LOOK = {
  barsize: 20,
  barCompleteString: '█'.repeat(20),
  barIncompleteString: '░'.repeat(20),
  barGlue: '',
} satisfies Options;
const FRAMES_PER_SECOND = 4;

/** One line of a terminal; its last column is left free, where some wrap already. */
export function drawProgress(state: ProgressState, columns: number): string {
  return lineOf(state, columns - 1, (ratio) => cliProgress.Format.BarFormat(ratio, LOOK));
}

/** One line of a terminal, drawn anew until `stop`, which leaves nothing of it. */
export class TerminalBar {
  readonly #bar: cliProgress.SingleBar;

  constructor(sink: TextSink, columns: number, state: () => ProgressState) {
    this.#bar = new cliProgress.SingleBar({
      ...LOOK,
      stream: terminalOf(sink, columns),
      format: () => drawProgress(state(), columns),
      fps: FRAMES_PER_SECOND,
      clearOnComplete: true,
      gracefulExit: false,
    });
    // What is drawn comes from `state` alone.
    this.#bar.start(1, 0);
  }

  stop(): void {
    this.#bar.stop();
  }
}

function terminalOf(sink: TextSink, columns: number): Writable {
  const stream = new Writable({
    decodeStrings: false,
    write(text: string, _encoding, done) {
      sink.write(text);
      done();
    },
  });
  return Object.assign(stream, { isTTY: true, columns });
}

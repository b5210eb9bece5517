// SPDX-License-Identifier: Apache-2.0
import type { Writable } from 'node:stream';
import { Presets, SingleBar } from 'cli-progress';

export interface Progress {
  /** One more step begins. Throws when the user wants no more. */
  readonly step: (label: string) => void;
  readonly end: () => void;
}

/** A bar on a terminal, else a line per 5 %. Standard output stays free for the tables. */
export function createProgress(
  total: number,
  signal: AbortSignal,
  stream: Writable & { readonly isTTY?: boolean } = process.stderr,
): Progress {
  const { step, end } = stream.isTTY === true ? bar(total, stream) : lines(total, stream);
  return {
    step(label) {
      signal.throwIfAborted();
      step(label);
    },
    end,
  };
}

function bar(total: number, stream: NodeJS.WritableStream): Progress {
  const single = new SingleBar(
    {
      format: '{bar} {percentage} %  {value}/{total}  {eta_formatted} left  {label}',
      stream,
      hideCursor: true,
      etaBuffer: 50,
    },
    Presets.shades_classic,
  );
  single.start(total, 0, { label: '' });
  return {
    step: (label) => single.increment(1, { label }),
    end: () => single.stop(),
  };
}

function lines(total: number, stream: Writable): Progress {
  let done = 0;
  let shown = -1;
  return {
    step(label) {
      done += 1;
      const twentieth = Math.floor((done / total) * 20);
      if (twentieth === shown) return;
      shown = twentieth;
      stream.write(`${String(twentieth * 5).padStart(3)} %  ${label}\n`);
    },
    end: () => undefined,
  };
}

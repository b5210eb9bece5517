// SPDX-License-Identifier: Apache-2.0
import { setTimeout as delay } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import type { AdminClient } from '../../admin/client.js';
import { KeyholdError } from '../../base/errors.js';
import { parseDurationMs } from '../../base/units.js';
import {
  addCommand,
  type CliContext,
  connect,
  isJson,
  parsedBy,
  print,
  wholeNumber,
} from '../context.js';
import type { Screen } from '../io.js';
import { advance, type TopModel } from '../top/model.js';
import { drawScreen, formatFrame, shownRows } from '../top/screen.js';
import { TerminalSession } from '../top/terminal.js';
import { FIRST_VIEW, press, splitKeys, type TopView } from '../top/view.js';

const INTERVAL_MS = 1000;
/** Faster than that shows noise, and asks a lot of a daemon with 10,000 disks. */
const INTERVAL_MS_MIN = 100;

const HELP = `
On a terminal: q quits, s or → sorts by the next column and ← by the one before, r turns the order
round, ↑ ↓ and the page keys scroll, p or space holds the picture. In a pipe, with --once, --count
or --json: plain frames, or one JSON object a line. Rates are over the time between two looks, by
the daemon's clock; p50 and p99 are of reads and writes in that time, out of a histogram.`;

interface TopOptions {
  readonly once?: true;
  readonly count?: number;
  readonly interval: number;
}

export function addTopCommand(program: Command, context: CliContext): void {
  addCommand(program, 'top', 'watch disks live: throughput, IOPS, latency, in flight, lease')
    .addOption(new Option('--once', 'one frame, then end').conflicts('count'))
    .addOption(
      new Option('--count <n>', 'end after this many frames').argParser(
        wholeNumber({ min: 1, max: 1_000_000_000 }),
      ),
    )
    .addOption(
      new Option('--interval <time>', 'time between two looks')
        .argParser(parsedBy(parseInterval))
        .default(INTERVAL_MS, '1s'),
    )
    .addHelpText('after', HELP)
    .action(async (options: TopOptions, command: Command) => {
      const client = await connect(context, command);
      const count = options.once === true ? 1 : options.count;
      const screen = isJson(command) || count !== undefined ? undefined : context.io.screen();
      if (screen === undefined) {
        await printFrames(context, command, { client, count, intervalMs: options.interval });
      } else {
        await new LiveTop({ client, screen, intervalMs: options.interval }).run();
      }
    });
}

function parseInterval(text: string): number {
  const intervalMs = parseDurationMs(text);
  if (intervalMs < INTERVAL_MS_MIN) {
    throw new Error(`expected at least ${INTERVAL_MS_MIN}ms, got ${intervalMs}ms`);
  }
  return intervalMs;
}

/** The first look has no rates, so that it is not shown. */
async function printFrames(
  context: CliContext,
  command: Command,
  options: { client: AdminClient; count: number | undefined; intervalMs: number },
): Promise<void> {
  const { client, count = Number.POSITIVE_INFINITY, intervalMs } = options;
  const { stdout } = context.io;
  let model = advance(undefined, await client.counters());
  for (let shown = 0; shown < count && !stdout.closed.aborted; shown += 1) {
    await context.io.wait(intervalMs);
    model = advance(model, await client.counters());
    print(context, isJson(command) ? `${JSON.stringify(model.frame)}\n` : formatFrame(model));
    await stdout.drained();
  }
}

/** One run on a terminal: looks at the daemon on one side, keys on the other, one picture. */
class LiveTop {
  readonly #client: AdminClient;
  readonly #screen: Screen;
  readonly #intervalMs: number;
  readonly #session: TerminalSession;
  readonly #ended = new AbortController();
  #view: TopView = FIRST_VIEW;
  #model: TopModel | undefined;
  #trouble: string | undefined;

  constructor(options: { client: AdminClient; screen: Screen; intervalMs: number }) {
    this.#client = options.client;
    this.#screen = options.screen;
    this.#intervalMs = options.intervalMs;
    this.#session = new TerminalSession(options.screen, {
      onKeys: (text) => this.#onKeys(text),
      onRedraw: () => this.#draw(),
      onInterrupt: () => this.#ended.abort(),
    });
  }

  /** A daemon that does not answer at the start is a failure; later it may come back. */
  async run(): Promise<void> {
    this.#model = advance(undefined, await this.#client.counters());
    this.#session.open();
    try {
      while (!this.#isOver()) {
        this.#draw();
        await this.#pause();
        if (!this.#view.paused && !this.#isOver()) await this.#look();
      }
    } finally {
      this.#session.close();
    }
  }

  #isOver(): boolean {
    return this.#ended.signal.aborted;
  }

  async #look(): Promise<void> {
    try {
      // Not longer than the person: q must not wait for a daemon that hangs.
      const counters = await this.#client.counters(this.#ended.signal);
      this.#model = advance(this.#model, counters);
      this.#trouble = undefined;
    } catch (error) {
      if (this.#isOver()) return;
      if (!(error instanceof KeyholdError && error.kind === 'unavailable')) throw error;
      this.#trouble = error.message;
    }
  }

  async #pause(): Promise<void> {
    const { signal } = this.#ended;
    await delay(this.#intervalMs, undefined, { signal }).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  #onKeys(text: string): void {
    for (const key of splitKeys(text)) {
      const rows = this.#model?.frame.disks.length ?? 0;
      const next = press(this.#view, key, { rows, shown: shownRows(this.#screen) });
      if (next === 'quit') this.#ended.abort();
      else if (next === 'suspend') this.#session.suspend();
      else this.#view = next;
    }
    this.#draw();
  }

  #draw(): void {
    if (this.#model === undefined || this.#isOver()) return;
    this.#session.draw(drawScreen(this.#model, this.#view, this.#screen, this.#trouble));
  }
}

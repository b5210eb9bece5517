// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { AdminEvent } from '../../admin/api.js';
import type { AdminClient } from '../../admin/client.js';
import { KeyholdError } from '../../base/errors.js';
import {
  addCommand,
  type CliContext,
  connect,
  isJson,
  notEmpty,
  print,
  wholeNumber,
} from '../context.js';
import { plain } from '../text.js';

/** A daemon that restarts is back within seconds; one that is gone is not asked all the time. */
const RETRY_MS = 250;
const RETRY_MS_MAX = 5000;

const HELP = `
With --follow a daemon that restarts is waited for; without it the end of the stream is the end.
What happened in between, and everything earlier, is in the audit log: keyhold audit export.`;

interface EventsOptions {
  readonly follow?: true;
  readonly count?: number;
  readonly disk?: string;
  readonly set?: string;
  readonly kind?: string;
}

export function addEventsCommand(program: Command, context: CliContext): void {
  const filter = (flags: string, description: string): Option =>
    new Option(flags, description).argParser(notEmpty);
  addCommand(program, 'events', 'print events as they happen, one a line')
    .addOption(new Option('-f, --follow', 'go on until Ctrl-C, also over restarts of the daemon'))
    .addOption(
      new Option('--count <n>', 'end after this many events')
        .argParser(wholeNumber({ min: 1, max: 1_000_000_000 }))
        .conflicts('follow'),
    )
    .addOption(filter('--disk <disk>', 'only events about this disk'))
    .addOption(filter('--set <set>', 'only events about this set and its disks'))
    .addOption(filter('--kind <kind>', 'only events of this kind, such as disk-state'))
    .addHelpText('after', HELP)
    .action(async (options: EventsOptions, command: Command) => {
      const interrupted = new AbortController();
      const onSignal = (): void => interrupted.abort();
      process.once('SIGINT', onSignal);
      try {
        const signal = AbortSignal.any([interrupted.signal, context.io.stdout.closed]);
        await followEvents(context, command, { options, signal });
      } finally {
        process.removeListener('SIGINT', onSignal);
      }
    });
}

async function followEvents(
  context: CliContext,
  command: Command,
  { options, signal }: { options: EventsOptions; signal: AbortSignal },
): Promise<void> {
  const client = await connect(context, command);
  const json = isJson(command);
  let left = options.count ?? Number.POSITIVE_INFINITY;
  for await (const event of eventsOf(context, client, {
    follow: options.follow === true,
    signal,
  })) {
    if (!isAbout(event, options)) continue;
    print(context, json ? `${JSON.stringify(event)}\n` : formatEvent(event));
    left -= 1;
    if (left === 0) return;
  }
}

/** The first connection must stand; with `follow` later ones are tried again until `signal`. */
async function* eventsOf(
  { io }: CliContext,
  client: AdminClient,
  { follow, signal }: { follow: boolean; signal: AbortSignal },
): AsyncGenerator<AdminEvent> {
  const isOver = (): boolean => signal.aborted; // it changes while we wait
  let pauseMs = RETRY_MS;
  let events = await client.events(signal);
  for (;;) {
    try {
      for await (const event of events) {
        pauseMs = RETRY_MS;
        yield event;
      }
      if (!follow) return;
    } catch (error) {
      if (!follow || !isUnavailable(error)) throw error;
    }
    if (isOver()) return;
    io.stderr.write('keyhold: the stream of events broke off; waiting for the daemon\n');
    for (;;) {
      await Promise.race([io.wait(pauseMs), aborted(signal)]);
      if (isOver()) return;
      pauseMs = Math.min(RETRY_MS_MAX, pauseMs * 2);
      try {
        events = await client.events(signal);
        break;
      } catch (error) {
        if (isOver()) return;
        if (!isUnavailable(error)) throw error;
      }
    }
    io.stderr.write('keyhold: following again; what happened meanwhile is in the audit log\n');
  }
}

function isUnavailable(error: unknown): boolean {
  return error instanceof KeyholdError && error.kind === 'unavailable';
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Records of commands name their object as `target`, and say by the command which kind it is. */
function isAbout(event: AdminEvent, { disk, set, kind }: EventsOptions): boolean {
  const isTarget = (noun: string, name: string): boolean =>
    event.kind === 'command' &&
    event['target'] === name &&
    String(event['command']).startsWith(`${noun}-`);
  return (
    (kind === undefined || event.kind === kind) &&
    (disk === undefined || event['disk'] === disk || isTarget('disk', disk)) &&
    (set === undefined || event['set'] === set || isTarget('set', set))
  );
}

/** `time kind key=value …`, values that are no plain word as JSON. */
function formatEvent({ seq, time, kind, ...rest }: AdminEvent): string {
  const fields = Object.entries(rest).map(([key, value]) => {
    const isWord = typeof value === 'string' && /^[\w.:/@+-]+$/.test(value);
    return `${key}=${isWord ? value : JSON.stringify(value)}`;
  });
  return `${plain([time, `#${seq}`, kind, ...fields].join(' '))}\n`;
}

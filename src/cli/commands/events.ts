// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { AdminEvent } from '../../admin/api.js';
import { addCommand, type CliContext, connect, isJson, print, wholeNumber } from '../context.js';
import { plain } from '../text.js';

export function addEventsCommand(program: Command, context: CliContext): void {
  addCommand(program, 'events', 'print events as they happen, one a line')
    .addOption(new Option('-f, --follow', 'go on until Ctrl-C (the default without --count)'))
    .addOption(
      new Option('--count <n>', 'end after this many events')
        .argParser(wholeNumber({ min: 1, max: 1_000_000_000 }))
        .conflicts('follow'),
    )
    .addHelpText('after', '\nEarlier events are in the audit log of the state directory.')
    .action(async (options: { count?: number }, command: Command) => {
      const json = isJson(command);
      const interrupted = new AbortController();
      const onSignal = (): void => interrupted.abort();
      process.once('SIGINT', onSignal);
      try {
        const signal = AbortSignal.any([interrupted.signal, context.io.stdout.closed]);
        const events = await (await connect(context, command)).events(signal);
        let left = options.count ?? Number.POSITIVE_INFINITY;
        for await (const event of events) {
          print(context, json ? `${JSON.stringify(event)}\n` : formatEvent(event));
          left -= 1;
          if (left === 0) break;
        }
      } finally {
        process.removeListener('SIGINT', onSignal);
      }
    });
}

/** `time kind key=value …`, values that are no plain word as JSON. */
function formatEvent({ seq, time, kind, ...rest }: AdminEvent): string {
  const fields = Object.entries(rest).map(([key, value]) => {
    const isWord = typeof value === 'string' && /^[\w.:/@+-]+$/.test(value);
    return `${key}=${isWord ? value : JSON.stringify(value)}`;
  });
  return `${plain([time, `#${seq}`, kind, ...fields].join(' '))}\n`;
}

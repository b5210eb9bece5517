// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { type Impact, SCENARIOS } from '../../admin/api-sets.js';
import { parseDurationMs } from '../../base/units.js';
import {
  connect,
  type CliContext,
  isJson,
  notEmpty,
  parsedBy,
  print,
  printJson,
  printNext,
} from '../context.js';
import type { DrillOptions } from '../drill/run.js';
import { EXIT_CODES } from '../exit-codes.js';
import { showProgress } from '../progress/progress.js';
import { plain } from '../text.js';
import { addVaultCommand, connectVault } from './vault-common.js';

interface DrillCommandOptions {
  readonly scenario: Impact['scenario'];
  readonly live?: true;
  readonly report?: string;
  readonly timeout?: number;
}

export function addDrillCommand(set: Command, context: CliContext): void {
  addVaultCommand(set, 'drill <name>', 'rehearse a revocation, restore, and write a report')
    .addOption(
      new Option('--scenario <what>', 'what happens').choices(SCENARIOS).default('disable'),
    )
    .addOption(
      new Option('--live', 'let the daemon simulate the verdict (else the embedded vault does it)'),
    )
    .addOption(new Option('--report <file>', 'write it there: .json, or else Markdown'))
    .addOption(
      new Option('--timeout <time>', 'wait so long (else what is foretold, and some)').argParser(
        parsedBy((text) => parseDurationMs(notEmpty(text))),
      ),
    )
    .addHelpText(
      'after',
      '\nDisks really go offline. Exits with 4 when something was not as foretold.',
    )
    .action((name: string, options: DrillCommandOptions, command: Command) =>
      drill(context, { name, options, command }),
    );
}

async function drill(
  context: CliContext,
  { name, options, command }: { name: string; options: DrillCommandOptions; command: Command },
): Promise<void> {
  const { scenario, live, timeout } = options;
  const client = await connect(context, command);
  const { embeddedHands, simulatedHands } = await import('../drill/hands.js');
  const { formatReport } = await import('../drill/report.js');
  const { runDrill } = await import('../drill/run.js');
  const { kids } = await client.impactOfSet(name, { scenario });
  const hands =
    live === true
      ? simulatedHands(client, { set: name, scenario })
      : embeddedHands(await connectVault(context, command), { kids, scenario });
  const json = isJson(command);
  const drillOptions: DrillOptions = {
    client,
    io: context.io,
    set: name,
    scenario,
    hands,
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
    onStep: ({ atMs, what }) => {
      if (json) return;
      // The picture of what goes on stands on the same line of a terminal until it is drawn anew.
      if (context.io.stderr.columns !== undefined) context.io.stderr.write('\r\u001b[K');
      print(context, `${(atMs / 1000).toFixed(3).padStart(9)} s  ${plain(what)}\n`);
    },
  };
  const task = { doing: `waiting for the disks of set ${name} to do what is foretold` };
  const report = json
    ? await runDrill(drillOptions)
    : await showProgress(context.io.stderr, task, () => runDrill(drillOptions));
  if (!report.passed) context.exitCode = EXIT_CODES.conflict;
  if (options.report !== undefined) {
    const text = options.report.endsWith('.json')
      ? `${JSON.stringify(report, null, 2)}\n`
      : formatReport(report);
    await writeFile(options.report, text);
  }
  if (json) {
    printJson(context, report);
    return;
  }
  print(context, `\n${formatReport(report).split('\n').map(plain).join('\n')}`);
  if (!report.passed) printNext(context, `keyhold doctor ${name}`);
}

// SPDX-License-Identifier: Apache-2.0
import { stat } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { AuditExportQuery } from '../../admin/api-audit.js';
import type { AuditVerifyResult } from '../../admin/api-audit.js';
import type { FileReport } from '../../audit/verify-file.js';
import { parseDurationMs } from '../../base/units.js';
import {
  addCommand,
  addGroup,
  type CliContext,
  connect,
  isJson,
  notEmpty,
  print,
  printJson,
} from '../context.js';
import { EXIT_CODES } from '../exit-codes.js';
import { showProgress, type Task } from '../progress/progress.js';
import { plain } from '../text.js';
import { formatFileReport } from '../views/audit.js';
import { exportTo } from './audit-export.js';

export function addAuditCommands(program: Command, context: CliContext): void {
  const audit = addGroup(program, 'audit', 'the hash-chained log of key uses and state changes');
  addVerify(audit, context);
  addExport(audit, context);
}

const VERIFY_HELP = `
Without a file: the log of the daemon. A file is a copy of a log, or what \`keyhold audit export\`
wrote; it is checked here, without the daemon. Anchors are lines that the daemon wrote elsewhere
([audit] of the configuration): only they show a log that was written anew from some record on.
  journalctl -t keyhold > anchors; keyhold audit verify --anchors anchors
Exits with 8 when the chain is broken or an anchor contradicts it.`;

function addVerify(audit: Command, context: CliContext): void {
  addCommand(audit, 'verify [file]', 'check that no record was changed, removed or inserted')
    .addOption(
      new Option('--anchors <file>', 'compare with the anchors in this file').argParser(notEmpty),
    )
    .addHelpText('after', VERIFY_HELP)
    .action(async (file: string | undefined, options: { anchors?: string }, command: Command) => {
      if (file === undefined && options.anchors === undefined) {
        showVerified(context, command, await (await connect(context, command)).verifyAudit());
        return;
      }
      const { verifyFile } = await import('../../audit/verify-file.js');
      const { readAnchors } = await import('../../audit/anchor-file.js');
      const { readFileInPieces } = await import('./audit-export.js');
      const read = { bytes: 0 };
      const anchors =
        options.anchors === undefined ? undefined : await readAnchors(options.anchors);
      const pieces =
        file === undefined
          ? await (await connect(context, command)).exportAudit({})
          : countBytes(readFileInPieces(file), read);
      const verify = (): Promise<FileReport> => verifyFile(pieces, anchors);
      const report =
        file === undefined || isJson(command)
          ? await verify()
          : await showProgress(context.io.stderr, taskOf(file, read), verify);
      if (!report.ok) context.exitCode = EXIT_CODES.integrity;
      if (isJson(command)) printJson(context, report);
      else print(context, formatFileReport(file ?? 'the log of the daemon', report));
    });
}

/** A file that is read shows how much of it is. */
function taskOf(file: string, read: { readonly bytes: number }): Task {
  return {
    doing: `verifying ${file}`,
    look: async () => ({ done: read.bytes, total: (await stat(file)).size }),
  };
}

async function* countBytes(
  pieces: AsyncIterable<Buffer>,
  read: { bytes: number },
): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    read.bytes += piece.length;
    yield piece;
  }
}

function showVerified(context: CliContext, command: Command, result: AuditVerifyResult): void {
  if (!result.ok) context.exitCode = EXIT_CODES.integrity;
  if (isJson(command)) {
    printJson(context, result);
    return;
  }
  const { firstBad } = result;
  const path = plain(result.path);
  const verdict =
    firstBad === null
      ? `${result.ok ? 'sound' : 'NOT sound'}: ${result.records} records, ` +
        `last hash ${result.lastHash}`
      : `NOT sound: line ${firstBad.line}: expected ${plain(firstBad.expected)}, ` +
        `got ${plain(firstBad.actual)}; ${result.records} records before it are sound`;
  print(context, `${path}: ${verdict}\n`);
}

const EXPORT_HELP = `
TIME is ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z, or a time ago, such as 24h. The
records are as they stand in the log, so that \`keyhold audit verify FILE\` can check them anywhere.
Exits with 8 when the log is broken: it is exported all the same, and the export says so.`;

interface ExportOptions extends AuditExportQuery {
  readonly output?: string;
}

function addExport(audit: Command, context: CliContext): void {
  const time = (flags: string, description: string): Option =>
    new Option(flags, description).argParser((text) => parseTime(text, context.io.nowMs()));
  const text = (flags: string, description: string): Option =>
    new Option(flags, description).argParser(notEmpty);
  addCommand(audit, 'export', 'print records with what vouches for them, as JSON')
    .addOption(time('--since <time>', 'from the first record that is not older'))
    .addOption(time('--until <time>', 'to the last record that is not younger'))
    .addOption(text('--kind <kind>', 'only records of this kind, such as disk-state'))
    .addOption(text('--set <set>', 'only records about this set'))
    .addOption(text('--disk <disk>', 'only records about this disk'))
    .addOption(text('--output <file>', 'write a file (mode 0600), all of it or nothing'))
    .addHelpText('after', EXPORT_HELP)
    .action(async ({ output, ...rest }: ExportOptions, command: Command) => {
      const { since, until, kind, set, disk } = rest;
      const pieces = await (
        await connect(context, command)
      ).exportAudit({
        ...(since === undefined ? {} : { since }),
        ...(until === undefined ? {} : { until }),
        ...(kind === undefined ? {} : { kind }),
        ...(set === undefined ? {} : { set }),
        ...(disk === undefined ? {} : { disk }),
      });
      await exportTo(context, command, pieces, output);
    });
}

/** An instant, as ISO text. A date alone is its first moment, UTC. */
export function parseTime(text: string, nowMs: number): string {
  if (/^\d+(\.\d+)?(ms|s|m|h)$/.test(text)) {
    return new Date(nowMs - parseDurationMs(text)).toISOString();
  }
  // Date.parse takes almost anything for a date.
  const isIso = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/.test(text);
  const timeMs = isIso ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(timeMs)) {
    throw new InvalidArgumentError(
      `expected a time such as 2026-01-31T12:00:00Z or 24h, got ${JSON.stringify(text)}`,
    );
  }
  return new Date(timeMs).toISOString();
}

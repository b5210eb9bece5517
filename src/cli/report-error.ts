// SPDX-License-Identifier: Apache-2.0
import { readdir } from 'node:fs/promises';
import { CommanderError } from 'commander';
import { codeOf, hintFor, KeyholdError, messageOf } from '../base/errors.js';
import { NAME_PATTERN } from '../base/names.js';
import { codes } from './errors.js';
import { EXIT_CODES, exitCodeOf, type ExitCode } from './exit-codes.js';
import type { CliIo } from './io.js';
import { paint, plain } from './text.js';

/** What a failure looks like from outside, whatever was thrown. */
interface Failure {
  readonly code: string;
  readonly kind: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly exitCode: ExitCode;
}

/**
 * Prints what was thrown on standard error, as text or (with --json) as one JSON line, and returns
 * the exit code for it.
 */
export async function reportError(io: CliIo, thrown: unknown, json: boolean): Promise<ExitCode> {
  const failure = await describe(thrown);
  if (json) {
    const { code, kind, message, fields, hint } = failure;
    const docs = docsOf(code);
    const error = {
      ...{ code, kind, message, fields },
      ...(hint === undefined ? {} : { hint }),
      ...(docs === undefined ? {} : { docs }),
    };
    io.stderr.write(`${JSON.stringify({ error })}\n`);
  } else {
    printFailure(io, failure);
  }
  return failure.exitCode;
}

/** The form of every failure on standard error: what, the code, then what to do about it. */
export function printFailure(
  io: CliIo,
  failure: { code: string; message: string; hint?: string | undefined },
): void {
  const { code, message, hint = hintFor(code) } = failure;
  // Some messages are lists, one item a line; indented, no line of them can pass for one of ours.
  const text = message.split('\n').map(plain).join('\n  ');
  io.stderr.write(`keyhold: ${paint(io.stderr, 'error', 'red')}: ${text} [${code}]\n`);
  if (hint !== undefined) io.stderr.write(`hint: ${plain(hint)}\n`);
  const docs = docsOf(code);
  if (docs !== undefined) io.stderr.write(`docs: ${docs}\n`);
}

/** Where a declared code is explained; undefined for any other, such as an errno. */
function docsOf(code: string): string | undefined {
  return hintFor(code) === undefined ? undefined : `docs/ERRORS.md#${code.toLowerCase()}`;
}

async function describe(thrown: unknown): Promise<Failure> {
  if (thrown instanceof CommanderError) return describeUsage(thrown);
  // A hint is not worth losing the error over.
  await loadErrorTables().catch(() => undefined);
  if (thrown instanceof KeyholdError) {
    const { code, kind, message, fields } = thrown;
    const hint = fillHint(hintFor(code), fields);
    return { code, kind, message, fields, hint, exitCode: exitCodeOf(kind) };
  }
  return {
    code: codeOf(thrown) ?? 'ERR_INTERNAL',
    kind: 'internal',
    message: messageOf(thrown),
    hint: undefined,
    fields: {},
    exitCode: EXIT_CODES.internal,
  };
}

/** Tables say DISK and SET; where the error knows which, the hint can be pasted as it stands. */
function fillHint(
  hint: string | undefined,
  fields: Readonly<Record<string, unknown>>,
): string | undefined {
  return hint?.replace(/\b(?:DISK|SET)\b/g, (placeholder) => {
    const name = fields[placeholder.toLowerCase()];
    return typeof name === 'string' && NAME_PATTERN.test(name) ? name : placeholder;
  });
}

/** commander's messages are `error: …`, with a suggestion in brackets on a line of its own. */
function describeUsage(error: CommanderError): Failure {
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = /^\(Did you mean (.*)\?\)$/.exec(rest.join(' '))?.[1];
  return {
    code: codes.ERR_CLI_USAGE,
    kind: 'usage',
    message: first
      .replace(/\.$/, '')
      .replace(
        /^command-argument value '(.*)' is invalid for argument '(.*)'\. /s,
        "argument '$2' cannot be '$1': ",
      )
      .replace("': Allowed", "': allowed")
      .replace('is invalid. Allowed', 'is invalid: allowed')
      .replace('is invalid. ', 'is invalid: '),
    hint: suggestion === undefined ? hintFor(codes.ERR_CLI_USAGE) : `did you mean ${suggestion}?`,
    fields: {},
    exitCode: EXIT_CODES.usage,
  };
}

/**
 * Registers the codes of every area, so that an error that the daemon answered with gets its hint.
 * Only failures pay for it: the tables are not loaded by a command that succeeds.
 */
async function loadErrorTables(): Promise<void> {
  const source = new URL('../', import.meta.url);
  const areas = await readdir(source, { withFileTypes: true });
  await Promise.all(
    areas
      .filter((entry) => entry.isDirectory())
      .map(async ({ name }) => {
        const files = await readdir(new URL(`${name}/`, source));
        if (files.some((file) => /^errors\.[jt]s$/.test(file))) {
          await import(new URL(`${name}/errors.js`, source).href);
        }
      }),
  );
  await import('../base/units.js');
}

// SPDX-License-Identifier: Apache-2.0
import { Argument, type Command, Option } from 'commander';
import type { TroubleInput } from '../../devvault/trouble.js';
import { parseDurationMs } from '../../base/units.js';
import { type CliContext, notEmpty, parsedBy, wholeNumber } from '../context.js';
import { addVaultCommand, connectVault, reportVault } from './vault-common.js';

const KINDS: ReadonlyArray<TroubleInput['kind']> = [
  'none',
  'latency',
  'error',
  'html',
  'bodyless',
  'hang',
  'stall',
  'drop',
  'no-headers',
  'wrong-challenge',
  'no-value',
  'wrong-value',
];

interface TroubleOptions {
  readonly operation?: string;
  readonly key?: string;
  readonly count?: number;
  readonly every?: number;
  readonly latency?: number;
  readonly status?: number;
  readonly code?: string;
  readonly innerCode?: string;
  readonly message?: string;
  readonly retryAfter?: number;
  readonly beforeAuthentication?: true;
  readonly omitVaultHeaders?: true;
}

export function addVaultTroubleCommand(vault: Command, context: CliContext): void {
  const number = (flags: string, description: string, max: number, min = 1): Option =>
    new Option(flags, description).argParser(wholeNumber({ min, max }));
  addVaultCommand(vault, 'trouble', 'script trouble, or end it with: trouble none')
    .addArgument(new Argument('<kind>', 'what goes wrong').choices(KINDS))
    .addOption(
      new Option(
        '--operation <op>',
        'which requests: unwrapKey, get, token, … (else all)',
      ).argParser(notEmpty),
    )
    .addOption(new Option('--key <name>', 'requests about this key only').argParser(notEmpty))
    .addOption(number('--count <n>', 'strike so many times (else until cleared)', 1_000_000))
    .addOption(number('--every <n>', 'strike every nth request only', 1_000_000))
    .addOption(
      new Option('--latency <time>', 'wait so long first, such as 2s').argParser(
        parsedBy(parseDurationMs),
      ),
    )
    .addOption(number('--status <code>', 'HTTP status', 599, 200))
    .addOption(new Option('--code <code>', 'error code').argParser(notEmpty))
    .addOption(new Option('--inner-code <code>', 'inner error code').argParser(notEmpty))
    .addOption(new Option('--message <text>', 'error message').argParser(notEmpty))
    .addOption(number('--retry-after <seconds>', 'send Retry-After', 86_400, 0))
    .addOption(new Option('--before-authentication', 'strike requests without a token too'))
    .addOption(new Option('--omit-vault-headers', 'answer as a gateway would'))
    .action(async (kind: TroubleInput['kind'], options: TroubleOptions, command: Command) => {
      const client = await connectVault(context, command);
      // The vault checks the combination: which options a kind takes is its own schema's matter.
      reportVault(context, command, await client.trouble(toInput(kind, options)));
    });
}

function toInput(kind: TroubleInput['kind'], options: TroubleOptions): TroubleInput {
  const { count, every, latency, retryAfter, status, ...same } = options;
  const members = {
    kind,
    operation: same.operation,
    key: same.key,
    times: count,
    everyNth: every,
    latencyMs: latency,
    // An error needs a status; the service's most common trouble is the default.
    status: status ?? (kind === 'error' ? 503 : undefined),
    code: same.code,
    innerCode: same.innerCode,
    message: same.message,
    retryAfterSeconds: retryAfter,
    beforeAuthentication: same.beforeAuthentication,
    omitVaultHeaders: same.omitVaultHeaders,
  };
  const given = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as TroubleInput;
}

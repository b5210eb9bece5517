// SPDX-License-Identifier: Apache-2.0
import { assertNever, type ErrorKind } from '../base/errors.js';

/** What the exit status of every command means; scripts rely on it. */
export const EXIT_CODES = {
  ok: 0,
  internal: 1,
  usage: 2,
  notFound: 3,
  conflict: 4,
  keyInaccessible: 5,
  unavailable: 6,
  forbidden: 7,
  integrity: 8,
  noSpace: 9,
  /** 128 + SIGINT, as shells count: a second Ctrl-C ended `dev` by force. */
  killed: 130,
} as const;

export type ExitCode = (typeof EXIT_CODES)[keyof typeof EXIT_CODES];

const MEANINGS: ReadonlyArray<readonly [ExitCode, string]> = [
  [EXIT_CODES.ok, 'done'],
  [EXIT_CODES.internal, 'internal error: keyhold failed in a way that nobody foresaw'],
  [EXIT_CODES.usage, 'usage: wrong command line, config file or value'],
  [EXIT_CODES.notFound, 'not found: no such disk, set, key or identity'],
  [EXIT_CODES.conflict, 'conflict: the object exists, or its state does not allow this'],
  [EXIT_CODES.keyInaccessible, 'key inaccessible: Key Vault denies the key, or its lease ended'],
  [EXIT_CODES.unavailable, 'unavailable: the daemon or the vault did not answer'],
  [EXIT_CODES.forbidden, 'forbidden: the caller may not do this'],
  [EXIT_CODES.integrity, 'integrity: data is corrupt or was tampered with'],
  [EXIT_CODES.noSpace, 'no space: the store or the state directory is full'],
  [EXIT_CODES.killed, 'killed: a second Ctrl-C ended `keyhold dev` by force'],
];

/** The one place that maps kinds of errors to exit codes. */
export function exitCodeOf(kind: ErrorKind): ExitCode {
  switch (kind) {
    case 'usage':
    case 'invalid':
      return EXIT_CODES.usage;
    case 'not-found':
      return EXIT_CODES.notFound;
    case 'conflict':
      return EXIT_CODES.conflict;
    case 'key-inaccessible':
      return EXIT_CODES.keyInaccessible;
    case 'unavailable':
      return EXIT_CODES.unavailable;
    case 'forbidden':
      return EXIT_CODES.forbidden;
    case 'integrity':
      return EXIT_CODES.integrity;
    case 'no-space':
      return EXIT_CODES.noSpace;
    case 'internal':
      return EXIT_CODES.internal;
    default:
      return assertNever(kind, 'error kind');
  }
}

/** Every exit code with what it means. */
export function exitCodeMeanings(): ReadonlyArray<readonly [ExitCode, string]> {
  return MEANINGS;
}

/** The text of `keyhold help exit-codes`. */
export function describeExitCodes(): string {
  const rows = MEANINGS.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`);
  return ['Exit codes:', ...rows].join('\n');
}

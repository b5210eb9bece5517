// SPDX-License-Identifier: Apache-2.0
import type { ErrorKind } from './errors.js';

export const CHECK_VERDICTS = ['ok', 'warn', 'fail', 'skipped'] as const;
export type CheckVerdict = (typeof CHECK_VERDICTS)[number];

export type Fact = string | number | boolean | readonly string[];

/** One thing that was looked at. Holds facts and no advice; never a secret. */
export interface Check {
  /** What was looked at, such as `dns` or `key-enabled`; stable. */
  readonly id: string;
  readonly verdict: CheckVerdict;
  /** What is wrong: an error code, the vault's code, or an errno; null when nothing is. */
  readonly code: string | null;
  /** Of a failed check: decides the exit code. */
  readonly kind: ErrorKind | null;
  readonly message: string;
  readonly facts: Readonly<Record<string, Fact>>;
}

type Facts = Check['facts'];

export function passed(id: string, message: string, facts: Facts = {}): Check {
  return { id, verdict: 'ok', code: null, kind: null, message, facts };
}

export function warned(id: string, code: string, message: string, facts: Facts = {}): Check {
  return { id, verdict: 'warn', code, kind: null, message, facts };
}

export function failed(
  id: string,
  problem: { code: string; kind: ErrorKind; message: string },
  facts: Facts = {},
): Check {
  return { id, verdict: 'fail', ...problem, facts };
}

/** Not looked at, because something that it needs is missing. */
export function skipped(id: string, message: string): Check {
  return { id, verdict: 'skipped', code: null, kind: null, message, facts: {} };
}

// SPDX-License-Identifier: Apache-2.0

/**
 * What kind of failure an error is. One place maps kinds to HTTP statuses (admin), one to exit
 * codes (cli); error classes themselves hold no advice.
 */
export type ErrorKind =
  | 'usage' // the command line or the config file is wrong
  | 'invalid' // a value that was given is outside its documented range
  | 'not-found'
  | 'conflict' // the object exists, or is in a state that does not allow the call
  | 'forbidden' // the caller may not do this
  | 'key-inaccessible' // Key Vault denies the key, or its lease has ended
  | 'unavailable' // something outside did not answer
  | 'integrity' // data is corrupt or was tampered with
  | 'no-space'
  | 'internal';

export interface ErrorSpec {
  readonly kind: ErrorKind;
  /** One sentence for docs/ERRORS.md: what the code means. */
  readonly summary: string;
  /**
   * What a person does about it, for docs/ERRORS.md and the CLI's hint; never part of the error.
   */
  readonly hint: string;
}

const registry = new Map<string, ErrorSpec>();

/**
 * Declares an area's error codes, once, in the area's `errors.ts`. The table over all areas is
 * compared with docs/ERRORS.md by a test.
 */
export function defineErrors<const T extends Record<string, ErrorSpec>>(
  specs: T,
): { readonly [K in keyof T & string]: K } {
  const codes: Record<string, string> = {};
  for (const [code, spec] of Object.entries(specs)) {
    if (registry.has(code)) throw new Error(`error code ${code} is declared twice`);
    registry.set(code, spec);
    codes[code] = code;
  }
  return codes as { readonly [K in keyof T & string]: K };
}

/** Every declared code with its specification, sorted by code. */
export function errorTable(): ReadonlyArray<readonly [string, ErrorSpec]> {
  return [...registry].sort(([a], [b]) => (a < b ? -1 : 1));
}

/**
 * An operating error. `message` is lower case, names the operation and both sides of the failed
 * comparison; `fields` carries the same facts as data. Neither ever holds key bytes or an options
 * object.
 */
export class KeyholdError extends Error {
  readonly code: string;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    options: { fields?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'KeyholdError';
    this.code = code;
    this.fields = options.fields ?? {};
  }

  get kind(): ErrorKind {
    return registry.get(this.code)?.kind ?? 'internal';
  }
}

/** The hint that docs/ERRORS.md gives for a code; undefined for a code that nobody declared. */
export function hintFor(code: string): string | undefined {
  return registry.get(code)?.hint;
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The `code` of anything that was thrown (`ERR_…`, `ENOENT`), or undefined. */
export function codeOf(thrown: unknown): string | undefined {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? thrown.code : undefined;
}

/** For exhaustive switches: reaching it is a programmer's error. */
export function assertNever(value: never, what: string): never {
  throw new Error(`unreachable ${what}: ${JSON.stringify(value)}`);
}

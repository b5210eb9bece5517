// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { PERMISSIONS, type Permission } from './operations.js';

/**
 * What trouble can strike: an operation, the token endpoint, or `*`, every operation of the vault.
 */
export type TroubleTarget = Permission | 'token' | '*';

const TARGETS: readonly TroubleTarget[] = [...PERMISSIONS, 'token', '*'];

/** Names are matched without regard to case, so that `unwrapkey` of the URL works as well. */
const targetSchema = z.string().transform((text, context): TroubleTarget => {
  const found = TARGETS.find((target) => target.toLowerCase() === text.toLowerCase());
  if (found !== undefined) return found;
  context.addIssue({
    code: 'custom',
    message: `unknown operation ${JSON.stringify(text)}: expected one of ${TARGETS.join(', ')}`,
  });
  return z.NEVER;
});

const common = {
  operation: targetSchema.default('*'),
  /** Strikes requests about the key of this name only; never the token endpoint. */
  key: z.string().min(1).max(127).optional(),
  /** Waits this long before the trouble shows (or, for `latency`, before the true answer). */
  latencyMs: z.int().min(0).max(600_000).default(0),
  /** Strikes this many times, then is gone. Without it: until cleared. */
  times: z.int().min(1).max(1_000_000).optional(),
  /** Strikes every Nth request only (flapping). */
  everyNth: z.int().min(1).max(1_000_000).default(1),
  /** Strikes requests without a valid token too, that is, before the challenge. */
  beforeAuthentication: z.boolean().default(false),
};

const statusSchema = z.int().min(200).max(599);
const textSchema = z.string().max(1000);

const kindsSchema = z.discriminatedUnion('kind', [
  /** Clears the trouble of `operation` (and `key`); of everything for `*` without a key. */
  z.strictObject({ kind: z.literal('none'), operation: common.operation, key: common.key }),
  z.strictObject({ kind: z.literal('latency'), ...common }),
  /** A JSON error in the service's shape. */
  z.strictObject({
    kind: z.literal('error'),
    ...common,
    status: statusSchema.min(400),
    code: textSchema.optional(),
    innerCode: textSchema.optional(),
    message: textSchema.optional(),
    retryAfterSeconds: z.int().min(0).max(86_400).optional(),
    /** As a gateway answers that only imitates the vault: without `x-ms-keyvault-*`. */
    omitVaultHeaders: z.boolean().default(false),
  }),
  /** A page of some front end, without the vault's headers. */
  z.strictObject({ kind: z.literal('html'), ...common, status: statusSchema.default(502) }),
  /** A status with the vault's headers and no body. */
  z.strictObject({ kind: z.literal('bodyless'), ...common, status: statusSchema.default(403) }),
  /** Never answers; the connection stays open. */
  z.strictObject({ kind: z.literal('hang'), ...common }),
  /** Status 200, headers and a first part of the body, then silence. */
  z.strictObject({ kind: z.literal('stall'), ...common }),
  /** Closes the connection without an answer. */
  z.strictObject({ kind: z.literal('drop'), ...common }),
  /** The true answer without `x-ms-keyvault-*` headers. */
  z.strictObject({ kind: z.literal('no-headers'), ...common }),
  /** 401 with a challenge for a foreign resource, whatever token was sent. */
  z.strictObject({ kind: z.literal('wrong-challenge'), ...common }),
  /** 200 and JSON that lacks `value`. */
  z.strictObject({ kind: z.literal('no-value'), ...common }),
  /** 200 and a `value` that differs in one bit from the true one. */
  z.strictObject({ kind: z.literal('wrong-value'), ...common }),
]);

/** The token endpoint has neither vault headers nor a challenge nor a `value`. */
const VAULT_ONLY_KINDS: readonly string[] = [
  'no-headers',
  'wrong-challenge',
  'no-value',
  'wrong-value',
];

export const troubleSchema = kindsSchema
  .refine(({ operation, kind }) => operation !== 'token' || !VAULT_ONLY_KINDS.includes(kind), {
    path: ['kind'],
    message: `the token endpoint cannot show ${VAULT_ONLY_KINDS.join(', ')}`,
  })
  .refine(({ operation, key }) => operation !== 'token' || key === undefined, {
    path: ['key'],
    message: 'the token endpoint knows no keys',
  });

export type TroubleInput = z.input<typeof troubleSchema>;
export type Trouble = Exclude<z.output<typeof troubleSchema>, { kind: 'none' }>;

interface ActiveTrouble {
  readonly trouble: Trouble;
  seen: number;
  struck: number;
}

/** The troubles that are scripted now; one for each target and key. Not kept over a restart. */
export class Troubles {
  readonly #active = new Map<string, ActiveTrouble>();

  set(request: z.output<typeof troubleSchema>): void {
    if (request.kind !== 'none') {
      const target = nameTarget(request.operation, request.key);
      this.#active.set(target, { trouble: request, seen: 0, struck: 0 });
    } else if (request.operation === '*' && request.key === undefined) {
      this.#active.clear();
    } else {
      this.#active.delete(nameTarget(request.operation, request.key));
    }
  }

  list(): Array<Trouble & { struck: number }> {
    return [...this.#active.values()].map(({ trouble, struck }) => ({ ...trouble, struck }));
  }

  /**
   * The trouble for one request, counted. Called twice for each: before the token is looked at and,
   * if nothing struck, after it was accepted.
   */
  strike(
    operation: Permission | 'token',
    phase: 'before' | 'after',
    key?: string,
  ): Trouble | undefined {
    const active = this.#find(operation, key);
    if (active === undefined) return undefined;
    const { trouble } = active;
    const isBefore = trouble.beforeAuthentication || trouble.kind === 'wrong-challenge';
    // The token endpoint has one phase only.
    if (operation !== 'token' && isBefore !== (phase === 'before')) return undefined;
    active.seen += 1;
    if (active.seen % trouble.everyNth !== 0) return undefined;
    active.struck += 1;
    if (trouble.times !== undefined && active.struck >= trouble.times) {
      this.#active.delete(nameTarget(trouble.operation, trouble.key));
    }
    return trouble;
  }

  /** What names the request most closely goes first. */
  #find(operation: Permission | 'token', key: string | undefined): ActiveTrouble | undefined {
    if (operation === 'token') return this.#active.get(nameTarget(operation, undefined));
    const targets: Array<[TroubleTarget, string | undefined]> = [
      [operation, key],
      ['*', key],
      [operation, undefined],
      ['*', undefined],
    ];
    for (const target of targets) {
      const active = this.#active.get(nameTarget(...target));
      if (active !== undefined) return active;
    }
    return undefined;
  }
}

function nameTarget(operation: TroubleTarget, key: string | undefined): string {
  return key === undefined ? operation : `${operation} ${key}`;
}

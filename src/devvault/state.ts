// SPDX-License-Identifier: Apache-2.0
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { writeFileAtomic } from '../base/atomic-file.js';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';
import { keyOperationSchema, PERMISSIONS, permissionSchema } from './operations.js';

export const RECOVERY_LEVELS = [
  'Purgeable',
  'Recoverable+Purgeable',
  'CustomizedRecoverable+Purgeable',
  'Recoverable',
  'Recoverable+ProtectedSubscription',
  'CustomizedRecoverable',
  'CustomizedRecoverable+ProtectedSubscription',
] as const;

/** Seconds since the epoch, the unit of the REST API's dates. */
const secondsSchema = z.int().nonnegative();
const tagsSchema = z.record(z.string(), z.string());

const keyVersionSchema = z.strictObject({
  version: z.string().regex(/^[0-9a-f]{32}$/),
  kty: z.enum(['RSA', 'RSA-HSM', 'EC']),
  keyOps: z.array(keyOperationSchema),
  privateKeyPem: z.string(),
  enabled: z.boolean(),
  nbf: secondsSchema.optional(),
  exp: secondsSchema.optional(),
  created: secondsSchema,
  updated: secondsSchema,
  tags: tagsSchema,
});

const rotationPolicySchema = z.strictObject({
  lifetimeActions: z.array(z.unknown()),
  expiryTime: z.string().nullable(),
  created: secondsSchema,
  updated: secondsSchema,
});

const keySchema = z.strictObject({
  /** Oldest first: the last one is what a versionless request means. Never empty. */
  versions: z.array(keyVersionSchema).min(1),
  rotationPolicy: rotationPolicySchema.optional(),
  deleted: z
    .strictObject({ deletedDate: secondsSchema, scheduledPurgeDate: secondsSchema })
    .optional(),
});

/** Everything that outlives a restart. Holds private keys: the file is for its owner only. */
const stateSchema = z.strictObject({
  format: z.literal(1),
  /** Remembered, because key ids contain it. */
  port: z.int().min(1).max(65_535).nullable(),
  vaultName: z.string(),
  region: z.string(),
  tenantId: z.uuid(),
  clientId: z.uuid(),
  objectId: z.uuid(),
  /** Signs tokens; kept, so that clients' cached tokens survive a restart as they do in Azure. */
  tokenSecret: z.base64(),
  tokenLifetimeSeconds: z.int().min(1).max(86_400),
  /**
   * Counts up when all tokens are made to expire; a token carries the number it was issued under.
   */
  tokenGeneration: z.int().nonnegative(),
  application: z.enum(['enabled', 'disabled', 'deleted', 'secret-expired']),
  recoveryLevel: z.enum(RECOVERY_LEVELS),
  recoverableDays: z.int().min(7).max(90),
  access: z.strictObject({
    mode: z.enum(['policy', 'rbac']),
    policyCode: z.enum(['AccessDenied', 'ForbiddenByPolicy']),
    principals: z.record(z.string(), z.array(permissionSchema)),
  }),
  firewall: z.enum(['open', 'address', 'private-link']),
  keys: z.record(z.string(), keySchema),
});

export type VaultState = z.infer<typeof stateSchema>;
export type StoredKey = z.infer<typeof keySchema>;
export type StoredKeyVersion = z.infer<typeof keyVersionSchema>;

function createState(): VaultState {
  const clientId = randomUUID();
  return {
    format: 1,
    port: null,
    vaultName: 'keyhold-dev',
    region: 'loopback',
    tenantId: randomUUID(),
    clientId,
    objectId: randomUUID(),
    tokenSecret: randomBytes(32).toString('base64'),
    tokenLifetimeSeconds: 3600,
    tokenGeneration: 0,
    application: 'enabled',
    recoveryLevel: 'CustomizedRecoverable',
    recoverableDays: 7,
    access: {
      mode: 'policy',
      policyCode: 'AccessDenied',
      principals: { [clientId]: [...PERMISSIONS] },
    },
    firewall: 'open',
    keys: {},
  };
}

/**
 * Owner of the vault's state. Readers look at `current`; `update` works on a copy, and only a copy
 * that has reached the disk becomes current, so a change that fails has not happened.
 */
export class StateFile {
  readonly #path: string;
  #current: VaultState;
  #writes: Promise<void> = Promise.resolve();

  private constructor(path: string, state: VaultState) {
    this.#path = path;
    this.#current = state;
  }

  static async open(path: string): Promise<StateFile> {
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      const file = new StateFile(path, createState());
      await file.update(() => undefined);
      return file;
    }
    return new StateFile(path, parseState(text, path));
  }

  get current(): VaultState {
    return this.#current;
  }

  /**
   * Changes are applied one after the other. If `mutate` or the write fails, nothing has changed.
   */
  async update<T>(mutate: (draft: VaultState) => T): Promise<T> {
    const run = this.#writes.then(async () => {
      const draft = structuredClone(this.#current);
      const result = mutate(draft);
      await writeFileAtomic(this.#path, `${JSON.stringify(draft, null, 2)}\n`, { mode: 0o600 });
      this.#current = draft;
      return result;
    });
    this.#writes = run.then(
      () => undefined,
      () => undefined,
    );
    return run;
  }

  /** Resolves when every change that was asked for has been written or has failed. */
  async settle(): Promise<void> {
    await this.#writes;
  }
}

function parseState(text: string, path: string): VaultState {
  try {
    return stateSchema.parse(JSON.parse(text));
  } catch (error) {
    // A schema error lists paths and expectations, never values: no key leaks through it. A JSON
    // error quotes the text, so it is replaced.
    const detail = error instanceof z.ZodError ? z.prettifyError(error) : 'it is not JSON';
    throw new KeyholdError(
      codes.ERR_DEVVAULT_STATE,
      `cannot read the vault's state ${path}: ${detail || messageOf(error)}`,
      { fields: { path } },
    );
  }
}

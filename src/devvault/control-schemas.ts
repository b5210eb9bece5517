// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { CURVES, RSA_SIZES_BITS } from './key-crypto.js';
import { keyOperationSchema, permissionSchema } from './operations.js';
import type { RequestLogEntry } from './request-log.js';
import { RECOVERY_LEVELS, type VaultState } from './state.js';
import type { Trouble } from './trouble.js';

/* Requests and answers of the control socket. Dates are seconds since the epoch, as in REST. */

const nameSchema = z
  .string()
  .regex(/^[0-9a-zA-Z-]{1,127}$/, 'a key name is 1 to 127 letters, digits or hyphens');
const secondsSchema = z.int().nonnegative();
const versionSchema = z
  .string()
  .regex(/^([0-9a-f]{32}|all)$/, 'a version is 32 hexadecimal digits, or "all"');

export const createKeySchema = z.strictObject({
  name: nameSchema,
  kty: z.enum(['RSA', 'RSA-HSM', 'EC']).default('RSA'),
  /** RSA only. 1024 is there to test a client's refusal. */
  sizeBits: z.literal(RSA_SIZES_BITS).default(2048),
  /** EC only. */
  curve: z.enum(CURVES).default('P-256'),
  ops: z.array(keyOperationSchema).optional(),
  enabled: z.boolean().default(true),
  notBefore: secondsSchema.optional(),
  expires: secondsSchema.optional(),
});

/** Which version: the newest if none is named, as the portal does. */
export const versionRequestSchema = z.strictObject({ version: versionSchema.optional() });

export const updateKeySchema = z.strictObject({
  version: versionSchema.optional(),
  ops: z.array(keyOperationSchema).optional(),
  enabled: z.boolean().optional(),
  /** null clears the date. */
  notBefore: secondsSchema.nullable().optional(),
  expires: secondsSchema.nullable().optional(),
});

export const accessSchema = z.strictObject({
  /** Without it: everything. */
  operations: z.array(permissionSchema).min(1).optional(),
  /** A client id; without it, the vault's registered application. */
  principal: z.uuid().optional(),
});

export const settingsSchema = z.strictObject({
  recoveryLevel: z.enum(RECOVERY_LEVELS).optional(),
  recoverableDays: z.int().min(7).max(90).optional(),
  accessMode: z.enum(['policy', 'rbac']).optional(),
  /** The inner code of refusals in policy mode: the older or the newer one. */
  policyCode: z.enum(['AccessDenied', 'ForbiddenByPolicy']).optional(),
  firewall: z.enum(['open', 'address', 'private-link']).optional(),
  application: z.enum(['enabled', 'disabled', 'deleted', 'secret-expired']).optional(),
  tokenLifetimeSeconds: z.int().min(1).max(86_400).optional(),
});

export const emptySchema = z.strictObject({});

export type CreateKeyInput = z.input<typeof createKeySchema>;
export type UpdateKeyInput = z.input<typeof updateKeySchema>;
export type AccessInput = z.input<typeof accessSchema>;
export type SettingsInput = z.input<typeof settingsSchema>;

export interface KeyVersionInfo {
  readonly version: string;
  readonly kid: string;
  readonly kty: 'RSA' | 'RSA-HSM' | 'EC';
  readonly sizeBits?: number;
  readonly ops: readonly string[];
  readonly enabled: boolean;
  readonly notBefore?: number;
  readonly expires?: number;
  readonly created: number;
}

export interface KeyInfo {
  readonly name: string;
  /** Versionless key id. */
  readonly id: string;
  /** Versioned key id of the newest version. */
  readonly kid: string;
  /** Whether the newest version is enabled. */
  readonly enabled: boolean;
  readonly deleted: boolean;
  readonly scheduledPurgeDate?: number;
  /** Oldest first. */
  readonly versions: readonly KeyVersionInfo[];
}

export interface VaultStatus {
  readonly url: string;
  readonly pid: number;
  readonly startedAt: string;
  readonly authorityHost: string;
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecretPath: string;
  readonly caPath: string;
  /** The challenge's resource; its scope is `<resource>/.default`. */
  readonly resource: string;
  readonly recoveryLevel: VaultState['recoveryLevel'];
  readonly recoverableDays: number;
  readonly access: VaultState['access'];
  readonly firewall: VaultState['firewall'];
  readonly application: VaultState['application'];
  readonly tokenLifetimeSeconds: number;
  readonly troubles: ReadonlyArray<Trouble & { struck: number }>;
  readonly keys: number;
}

export interface LogAnswer {
  readonly requests: readonly RequestLogEntry[];
}

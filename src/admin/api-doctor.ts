// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { CHECK_VERDICTS } from '../base/check.js';
import { type Caller, ERROR_KINDS, nameParamsSchema } from './api.js';

const { name } = nameParamsSchema.shape;
const KEY_URL_LENGTH_MAX = 2048;

export const doctorRequestSchema = z
  .strictObject({
    set: z.exactOptional(name),
    /** URL of a key that need not belong to a set. */
    key: z.exactOptional(z.string().min(1).max(KEY_URL_LENGTH_MAX)),
    /** With `key`; left out: the only identity that there is. */
    identity: z.exactOptional(name),
  })
  .refine(({ set, key }) => set === undefined || key === undefined, {
    message: 'expected set or key, got both',
  })
  .refine(({ key, identity }) => identity === undefined || key !== undefined, {
    message: 'expected identity together with key',
  })
  .meta({ id: 'DoctorRequest', description: 'A set, a key, or neither: the host and every set.' });
export type DoctorRequest = z.infer<typeof doctorRequestSchema>;

const fact = z.union([z.string(), z.number(), z.boolean(), z.array(z.string()).readonly()]);

const checkSchema = z.object({
  /** What was looked at, such as `dns`, `token` or `key-enabled`. */
  id: z.string(),
  verdict: z.enum(CHECK_VERDICTS),
  /** What is wrong; null when nothing is. */
  code: z.string().nullable(),
  /** Of a failed check. */
  kind: z.enum(ERROR_KINDS).nullable(),
  message: z.string(),
  facts: z.record(z.string(), fact).readonly(),
});
export type DoctorCheck = z.infer<typeof checkSchema>;

const targetSchema = z.object({
  /** Null for a key that was named by its URL. */
  set: z.string().nullable(),
  identity: z.string(),
  /** Null when the configuration has no such identity. */
  identityKind: z.string().nullable(),
  key: z.string(),
  vaultUrl: z.string(),
  /** As `az keyvault` takes it; the host for a vault outside Azure's domains. */
  vaultName: z.string(),
  managedHsm: z.boolean(),
  keyName: z.string(),
  keyVersion: z.string().nullable(),
  checks: z.array(checkSchema),
});
export type DoctorTarget = z.infer<typeof targetSchema>;

export const doctorReportSchema = z
  .object({ targets: z.array(targetSchema), host: z.array(checkSchema) })
  .meta({ id: 'DoctorReport', description: 'What stands between this host and customer keys.' });
export type DoctorReport = z.infer<typeof doctorReportSchema>;

export interface DoctorServices {
  doctor(request: DoctorRequest, caller: Caller): Promise<DoctorReport>;
}

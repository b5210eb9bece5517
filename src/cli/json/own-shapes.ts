// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { auditExportSchema } from '../../admin/api-audit.js';
import { countersSchema } from '../../admin/api-counters.js';
import { doctorReportSchema } from '../../admin/api-doctor.js';
import { impactSchema } from '../../admin/api-sets.js';
import { errorBodySchema } from '../../admin/api.js';
import type { FileReport } from '../../audit/verify-file.js';
import type { KeyInfo, VaultStatus } from '../../devvault/control-schemas.js';
import type { RequestLogEntry } from '../../devvault/request-log.js';
import type { VaultReady } from '../commands/vault-serve.js';
import type { DevSummary } from '../dev/banner.js';
import type { DrillReport } from '../drill/report.js';
import type { TopFrame } from '../top/model.js';
import type { CommandNode } from '../tree.js';

/*
 * Shapes of what the CLI prints beside what the admin API answers. Each is typed as what the code
 * prints, so that the compiler refuses one that says something else.
 */

const count = z.int().min(0);
const text = z.string();

const [targetSchema, checkSchema] = [
  doctorReportSchema.shape.targets.element,
  doctorReportSchema.shape.host.element,
];
const curedCheckSchema = checkSchema.extend({ remedy: z.array(text) });

/** The admin API's report with what to do beside each check. */
export const doctorOutputSchema = doctorReportSchema
  .extend({
    targets: z.array(targetSchema.extend({ checks: z.array(curedCheckSchema) })),
    host: z.array(curedCheckSchema),
  })
  .meta({ id: 'DoctorOutput' });

const rates = {
  readBytesPerSecond: z.number(),
  writeBytesPerSecond: z.number(),
  requestsPerSecond: z.number(),
  p50Seconds: z.number().nullable(),
  p99Seconds: z.number().nullable(),
  inFlight: count,
};

const { name, set, state, reason, revoked, leaseSecondsLeft, clients, parked } =
  countersSchema.shape.disks.element.shape;

export const topFrameSchema = z
  .object({
    bootSeconds: z.number(),
    uptimeSeconds: z.number(),
    intervalSeconds: z.number(),
    connections: count,
    total: z.object(rates),
    shards: z
      .array(z.object({ index: count, alive: z.boolean(), load: z.number().nullable() }))
      .readonly(),
    disks: z
      .array(
        z.object({
          ...{ name, set, state, reason, revoked, leaseSecondsLeft, clients, parked },
          ...rates,
        }),
      )
      .readonly(),
  })
  .meta({ id: 'TopFrame' }) satisfies z.ZodType<TopFrame>;

export const drillReportSchema = z
  .object({
    set: text,
    scenario: impactSchema.shape.scenario,
    by: z.enum(['embedded-vault', 'simulation']),
    startedAt: z.iso.datetime(),
    why: text,
    kids: z.array(text).readonly(),
    deadlineSeconds: z.number().nullable(),
    disks: z
      .array(
        z.object({
          disk: text,
          before: text,
          foretold: impactSchema.shape.disks.unwrap().element.shape.outcome,
          observed: text,
          asForetold: z.boolean(),
          afterMs: z.number().nullable(),
          healedAfterMs: z.number().nullable(),
        }),
      )
      .readonly(),
    timeline: z.array(z.object({ atMs: z.number(), what: text })).readonly(),
    passed: z.boolean(),
  })
  .meta({ id: 'DrillReport' }) satisfies z.ZodType<DrillReport>;

export const fileReportSchema = z
  .object({
    form: z.enum(['log', 'export']),
    log: z.object({ host: text, path: text }).nullable(),
    ok: z.boolean(),
    records: count,
    firstSeq: count.nullable(),
    lastSeq: count.nullable(),
    lastHash: text,
    firstBad: z.object({ line: count, expected: text, actual: text }).nullable(),
    anchors: z
      .object({
        matched: count,
        outside: count,
        contradicted: z
          .array(z.object({ seq: count, expected: text, actual: text.nullable() }))
          .readonly(),
        contradictions: count,
      })
      .nullable(),
  })
  .meta({ id: 'FileReport' }) satisfies z.ZodType<FileReport>;

const { chain, first, last } = auditExportSchema.shape;
export const exportedSchema = z.object({ output: text, chain, first, last });

export const platformKeySchema = z.object({ id: text, file: text });

export const devSummarySchema = z.object({
  directory: text,
  uri: text.nullable(),
  nbdSocket: text,
  adminSocket: text,
  vaultSocket: text,
  metrics: text.nullable(),
}) satisfies z.ZodType<DevSummary>;

export const vaultReadySchema = z.object({
  ready: z.literal(true),
  url: text,
  tenantId: text,
  clientId: text,
  clientSecretPath: text,
  caPath: text,
  controlSocket: text,
}) satisfies z.ZodType<VaultReady>;

export const keyInfoSchema = z
  .object({
    name: text,
    id: text,
    kid: text,
    enabled: z.boolean(),
    deleted: z.boolean(),
    scheduledPurgeDate: z.exactOptional(count),
    versions: z
      .array(
        z.object({
          version: text,
          kid: text,
          kty: z.enum(['RSA', 'RSA-HSM', 'EC']),
          sizeBits: z.exactOptional(count),
          ops: z.array(text).readonly(),
          enabled: z.boolean(),
          notBefore: z.exactOptional(count),
          expires: z.exactOptional(count),
          created: count,
        }),
      )
      .readonly(),
  })
  .meta({ id: 'EmbeddedKey' }) satisfies z.ZodType<KeyInfo>;

/** As far as it is promised: what trouble may say depends on its kind. */
export const vaultStatusSchema = z
  .object({
    url: text,
    pid: count,
    startedAt: z.iso.datetime(),
    authorityHost: text,
    tenantId: text,
    clientId: text,
    clientSecretPath: text,
    caPath: text,
    resource: text,
    recoveryLevel: text,
    recoverableDays: count,
    access: z.object({ mode: text, policyCode: text, principals: z.record(text, z.array(text)) }),
    firewall: text,
    application: text,
    tokenLifetimeSeconds: count,
    troubles: z.array(z.looseObject({ kind: text, operation: text, struck: count })).readonly(),
    keys: count,
  } satisfies Record<keyof VaultStatus, z.ZodType>)
  .meta({ id: 'EmbeddedVault' });

const requestLogEntrySchema = z
  .object({
    time: z.iso.datetime(),
    operation: text,
    method: text,
    path: text,
    kid: z.exactOptional(text),
    clientId: z.exactOptional(text),
    requestId: text,
    status: count.nullable(),
    code: z.exactOptional(text),
    trouble: z.exactOptional(text),
    durationMs: z.number(),
  })
  .meta({ id: 'VaultRequest' }) satisfies z.ZodType<RequestLogEntry>;

export const vaultLogSchema = z.object({ requests: z.array(requestLogEntrySchema) });

const valueNodeSchema = z.object({
  name: text,
  required: z.boolean(),
  variadic: z.boolean(),
  kind: z.enum(['disk', 'set', 'file', 'directory', 'command', 'none']),
  choices: z.array(text).readonly().nullable(),
});

export const commandNodeSchema: z.ZodType<CommandNode> = z
  .object({
    path: z.array(text).readonly(),
    description: text,
    arguments: z.array(valueNodeSchema).readonly(),
    options: z
      .array(
        z.object({
          flags: text,
          long: text,
          short: text.nullable(),
          description: text,
          value: valueNodeSchema.nullable(),
          mandatory: z.boolean(),
        }),
      )
      .readonly(),
    get commands(): z.ZodReadonly<z.ZodArray<z.ZodType<CommandNode>>> {
      return z.array(commandNodeSchema).readonly();
    },
    notes: text,
  })
  .meta({ id: 'CommandLine' });

export const exitCodesSchema = z.object({
  exitCodes: z.array(z.object({ code: count, meaning: text })),
});

/** What goes to standard error when a command fails. */
export const failureSchema = z.object({
  error: errorBodySchema.shape.error.extend({
    fields: z.record(text, z.unknown()),
    hint: z.exactOptional(text),
    docs: z.exactOptional(text),
  }),
});

// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import type { Caller } from './api.js';

const count = z.int().min(0);
const time = z.iso.datetime();
/** More than any kind, set or disk has; so that no request is large. */
const FILTER_LENGTH_MAX = 255;
const filter = z.string().min(1).max(FILTER_LENGTH_MAX);

export const auditVerifyResultSchema = z
  .object({
    path: z.string(),
    /** Records that were read and are sound. */
    records: count,
    ok: z.boolean(),
    /** Hash of the last sound record; 64 zeros for an empty log. */
    lastHash: z.string(),
    firstBad: z.object({ line: count, expected: z.string(), actual: z.string() }).nullable(),
  })
  .meta({ id: 'AuditVerifyResult' });
export type AuditVerifyResult = z.infer<typeof auditVerifyResultSchema>;

export const auditExportQuerySchema = z
  .strictObject({
    /** From the first record that is not older than this. */
    since: z.exactOptional(time),
    /** To the last record that is not younger than this. */
    until: z.exactOptional(time),
    kind: z.exactOptional(filter),
    set: z.exactOptional(filter),
    disk: z.exactOptional(filter),
  })
  .meta({ id: 'AuditExportQuery' });
export type AuditExportQuery = z.infer<typeof auditExportQuerySchema>;

const end = z.object({ seq: count, hash: z.string() }).nullable();

/** What an export begins with; `records` follow it, one a line, as they stand in the log. */
export const auditExportSchema = z
  .object({
    format: z.literal('keyhold-audit-export'),
    formatVersion: z.literal(1),
    host: z.string(),
    daemonVersion: z.string(),
    path: z.string(),
    exportedAt: time,
    /** What was asked for. */
    query: z.record(z.string(), z.string()),
    /** Every record of the range is there: nothing but times was asked for. */
    contiguous: z.boolean(),
    /** Of the whole log, checked just before. */
    chain: z.object({
      ok: z.boolean(),
      records: count,
      lastHash: z.string(),
      firstBad: z.object({ line: count, expected: z.string(), actual: z.string() }).nullable(),
    }),
    first: end,
    last: end,
    records: z.array(z.looseObject({})),
    /** Of `records`; the last member, so that an export that was cut short is known by it. */
    count,
  })
  .meta({ id: 'AuditExport', description: 'Records of the audit log with what vouches for them.' });

export interface AuditServices {
  verifyAudit(): Promise<AuditVerifyResult>;
  /** The text of an export, in pieces. What ends it early is thrown by the iteration. */
  exportAudit(query: AuditExportQuery, caller: Caller): Promise<AsyncIterable<string>>;
}

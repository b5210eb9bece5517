// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { parseDurationMs } from '../base/units.js';
import { absolutePath } from './paths.js';

/** More often, and anchors would be a good part of the journal. */
const INTERVAL_MS_MIN = 1000;
/** Less often, and an anchor says little about the day before. */
const INTERVAL_MS_MAX = 24 * 3_600_000;

const interval = z.string().refine((text) => {
  if (text === '' || text === '0') return true;
  try {
    const intervalMs = parseDurationMs(text);
    return intervalMs === 0 || (intervalMs >= INTERVAL_MS_MIN && intervalMs <= INTERVAL_MS_MAX);
  } catch {
    return false;
  }
}, 'expected a duration between 1s and 24h, or nothing');

/** The section `[audit]` as it is written. */
export const auditSchema = z.strictObject({
  anchor_interval: z.exactOptional(interval),
  anchor: z.exactOptional(z.enum(['log', 'syslog'])),
  anchor_socket: z.exactOptional(absolutePath),
});
type AuditFile = z.infer<typeof auditSchema>;

export interface AuditConfig {
  /** Null: no anchors. */
  readonly anchorIntervalMs: number | null;
  /** Besides the daemon's own log, which gets every anchor. */
  readonly syslog: boolean;
  /** Left out: where `logger` looks, /dev/log. */
  readonly syslogSocket?: string;
}

export function fillAudit(file: AuditFile): AuditConfig {
  const text = file.anchor_interval ?? '';
  const intervalMs = text === '' || text === '0' ? 0 : parseDurationMs(text);
  return {
    anchorIntervalMs: intervalMs === 0 ? null : intervalMs,
    syslog: file.anchor === 'syslog',
    ...(file.anchor_socket === undefined ? {} : { syslogSocket: file.anchor_socket }),
  };
}

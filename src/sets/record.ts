// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { KeyholdError } from '../base/errors.js';
import { NAME_PATTERN } from '../base/names.js';
import { formatDuration } from '../base/units.js';
import { codes } from './errors.js';
import { probeTimeoutMs } from './probe-line.js';

export const PROBE_INTERVAL_MS_DEFAULT = 10_000;
export const LEASE_MS_DEFAULT = 15 * 60_000;
export const SUSPEND_TIMEOUT_MS_DEFAULT = 5 * 60_000;

/** Below this the probes of one key would be a noticeable part of a vault's budget. */
const PROBE_INTERVAL_MS_MIN = 100;
const DURATION_MS_MAX = 30 * 24 * 3_600_000;

/** One customer key now; the second one of a later version fits in. */
const SET_KEYS_MAX = 2;

const base64 = z.base64().min(4);

const setKeyRecordSchema = z.strictObject({
  /** Versioned key id: what is probed and what unwraps. */
  kid: z.string().min(1).max(512),
  keyName: z.string().min(1),
  keyVersion: z.string().min(1),
  /** The URL as the operator gave it; without a version it follows rotation. */
  url: z.string().min(1),
  versionless: z.boolean(),
  wrappedSetKey: base64,
  canary: z.strictObject({ plaintext: base64, wrapped: base64 }),
});

/**
 * `state_dir/sets/NAME.json`. Holds nothing secret: the set key is wrapped, the canary worthless.
 */
export const setRecordSchema = z.strictObject({
  version: z.literal(1),
  name: z.string().regex(NAME_PATTERN),
  id: z.uuid(),
  mode: z.enum(['immediate', 'restart']),
  identity: z.string().min(1),
  keys: z.array(setKeyRecordSchema).min(1).max(SET_KEYS_MAX),
  setKeyGeneration: z.int().min(1),
  probeIntervalMs: z.int().min(PROBE_INTERVAL_MS_MIN).max(DURATION_MS_MAX),
  leaseMs: z.int().min(1).max(DURATION_MS_MAX),
  suspendTimeoutMs: z.int().min(1).max(DURATION_MS_MAX),
  allowPurgeable: z.boolean(),
  /** Disks that a denial took offline wait for an operator instead of healing by themselves. */
  holdOnHeal: z.boolean(),
  createdAt: z.iso.datetime(),
});

export type SetRecord = z.infer<typeof setRecordSchema>;
export type SetKeyRecord = SetRecord['keys'][number];
export type RevocationMode = SetRecord['mode'];

export interface SetTimes {
  readonly probeIntervalMs: number;
  readonly leaseMs: number;
  readonly suspendTimeoutMs: number;
}

/** Throws ERR_SET_OPTION naming the value and its range. */
export function validateTimes(set: string, times: SetTimes, timeoutMs: number): void {
  const ranges = [
    ['probe interval', times.probeIntervalMs, PROBE_INTERVAL_MS_MIN],
    ['lease', times.leaseMs, 1],
    ['suspend timeout', times.suspendTimeoutMs, 1],
  ] as const;
  for (const [what, valueMs, minMs] of ranges) {
    if (Number.isInteger(valueMs) && valueMs >= minMs && valueMs <= DURATION_MS_MAX) continue;
    throw new KeyholdError(
      codes.ERR_SET_OPTION,
      `creating encryption set ${set}: ${what} is ${valueMs} ms, expected ${minMs} ms to ` +
        formatDuration(DURATION_MS_MAX),
      { fields: { option: what, actualMs: valueMs, minMs, maxMs: DURATION_MS_MAX } },
    );
  }
  const slowestMs = times.probeIntervalMs + probeTimeoutMs(timeoutMs, times.probeIntervalMs);
  if (times.leaseMs > slowestMs) return;
  throw new KeyholdError(
    codes.ERR_SET_OPTION,
    `creating encryption set ${set}: lease is ${formatDuration(times.leaseMs)}, expected more than ` +
      `${formatDuration(slowestMs)} (probe interval ${formatDuration(times.probeIntervalMs)} plus ` +
      `probe timeout ${formatDuration(slowestMs - times.probeIntervalMs)})`,
    { fields: { leaseMs: times.leaseMs, slowestMs } },
  );
}

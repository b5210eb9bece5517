// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { KeyholdError } from '../base/errors.js';
import { NAME_PATTERN } from '../base/names.js';
import { formatDuration } from '../base/units.js';
import type { DenialReason } from '../vault/types.js';
import { codes } from './errors.js';
import { probeTimeoutMs } from './probe-line.js';

/** Figures that fit together (docs/KEYS.md section 7); every one can be set by itself. */
export const PROFILES = {
  strict: { probeIntervalMs: 5000, leaseMs: 60_000 },
  default: { probeIntervalMs: 10_000, leaseMs: 15 * 60_000 },
  azure: { probeIntervalMs: 60_000, leaseMs: 3_600_000 },
} as const;
export type ProfileName = keyof typeof PROFILES;

export const SUSPEND_TIMEOUT_MS_DEFAULT = 5 * 60_000;
export const ROTATION_INTERVAL_MS_DEFAULT = 5 * 60_000;

/** Below this the probes of one key would be a noticeable part of a vault's budget. */
const PROBE_INTERVAL_MS_MIN = 100;
const DURATION_MS_MAX = 30 * 24 * 3_600_000;

/** Two slots with a version in use, and versions that some header may still depend on. */
export const SET_KEYS_MAX = 8;

/** A look at the newest version costs the vault one GET. */
const ROTATION_INTERVAL_MS_MIN = 1000;

/** vault/types.ts: DenialReason. */
const DENIAL_REASONS = [
  'key-disabled',
  'key-deleted',
  'access-denied',
  'identity-denied',
  'key-expired',
  'integrity',
] as const satisfies readonly DenialReason[];

const base64 = z.base64().min(4);
const time = z.iso.datetime();

/** docs/KEYS.md section 1. */
const roleSchema = z.enum(['current', 'retiring', 'replaced']);
export type KeyRole = z.infer<typeof roleSchema>;

const setKeyRecordSchema = z.strictObject({
  /** Which of the set's customer keys it is a version of. */
  slot: z.literal([1, 2]).default(1),
  role: roleSchema.default('current'),
  /** Versioned key id: what is probed and what unwraps. */
  kid: z.string().min(1).max(512),
  keyName: z.string().min(1),
  keyVersion: z.string().min(1),
  /** The URL as the operator gave it; without a version it follows rotation. */
  url: z.string().min(1),
  versionless: z.boolean(),
  wrappedSetKey: base64,
  canary: z.strictObject({ plaintext: base64, wrapped: base64 }),
  /** As the vault said when it was last looked at; null: never. */
  expiresAt: time.nullable().default(null),
});

/** The set key under the host's platform key. */
const hostSealSchema = z.strictObject({
  /** Which platform key. */
  keyId: z.string().regex(/^[0-9a-f]{32}$/),
  nonce: base64,
  ciphertext: base64,
  tag: base64,
  since: time,
});
export type HostSeal = z.infer<typeof hostSealSchema>;

/** A denial that stands: kept so that an outage and a restart do not make it forgotten. */
const standingDenialSchema = z.strictObject({
  kid: z.string().min(1).max(512),
  confirmed: z.boolean(),
  reason: z.enum(DENIAL_REASONS),
  code: z.string().nullable(),
  message: z.string(),
  requestId: z.string().nullable(),
  firstSeenAt: time,
});
export type StandingDenial = z.infer<typeof standingDenialSchema>;

/** So many versions that were retired are remembered. */
export const RETIRED_MAX = 8;

const retiredSchema = z.strictObject({
  kid: z.string().min(1).max(512),
  slot: z.literal([1, 2]),
  retiredAt: time,
});

/**
 * `state_dir/sets/NAME.json`. Holds nothing secret: the set key is wrapped, the canary worthless.
 */
export const setRecordSchema = z
  .strictObject({
    version: z.literal(1),
    name: z.string().regex(NAME_PATTERN),
    id: z.uuid(),
    mode: z.enum(['immediate', 'restart']),
    identity: z.string().min(1),
    /** Empty in a set on the platform key, and in one that was purged. */
    keys: z.array(setKeyRecordSchema).max(SET_KEYS_MAX),
    /** Of a set without customer keys. */
    platform: hostSealSchema.nullable().default(null),
    /** docs/KEYS.md section 5. */
    availability: hostSealSchema.nullable().default(null),
    /** Every disk has an outer layer under the platform key. */
    double: z.boolean().default(false),
    /** With two customer keys: whose denial revokes. */
    revokeWhen: z.enum(['any', 'all']).default('any'),
    onExpiry: z.enum(['ignore', 'warn', 'offline']).default('warn'),
    /** Whether the loss of the identity, or the vault's firewall, is a denial. */
    identityDenied: z.enum(['offline', 'lease']).default('lease'),
    networkDenied: z.enum(['offline', 'lease']).default('lease'),
    /** How often the newest version of a key is looked at. */
    rotationIntervalMs: z
      .int()
      .min(ROTATION_INTERVAL_MS_MIN)
      .max(DURATION_MS_MAX)
      .default(ROTATION_INTERVAL_MS_DEFAULT),
    denied: z.array(standingDenialSchema).default([]),
    /** Versions that no header depends on any more, newest first. */
    retired: z.array(retiredSchema).max(RETIRED_MAX).default([]),
    /** Some header may carry other wrapped keys than `keys` and `platform` say. */
    spreading: z.boolean().default(false),
    /** Set when the purge began; never taken back. */
    purge: z
      .strictObject({
        startedAt: time,
        finishedAt: time.nullable(),
        /** What the record held when the purge began. */
        kids: z.array(z.string()),
        availabilityKey: z.boolean(),
      })
      .nullable()
      .default(null),
    setKeyGeneration: z.int().min(1),
    probeIntervalMs: z.int().min(PROBE_INTERVAL_MS_MIN).max(DURATION_MS_MAX),
    leaseMs: z.int().min(1).max(DURATION_MS_MAX),
    suspendTimeoutMs: z.int().min(1).max(DURATION_MS_MAX),
    allowPurgeable: z.boolean(),
    /** Disks that a denial took offline wait for an operator instead of healing by themselves. */
    holdOnHeal: z.boolean(),
    createdAt: z.iso.datetime(),
  })
  .refine(({ keys, platform, purge }) => keys.length > 0 || platform !== null || purge !== null, {
    path: ['keys'],
    error: 'expected a customer key, a platform key, or a purge',
  });

export type SetRecord = z.infer<typeof setRecordSchema>;
export type SetKeyRecord = SetRecord['keys'][number];
export type RevocationMode = SetRecord['mode'];

/** A denial of this version counts for the set (docs/KEYS.md section 1). */
export function counts(key: SetKeyRecord): boolean {
  return key.role !== 'replaced';
}

export interface SetTimes {
  readonly probeIntervalMs: number;
  readonly leaseMs: number;
  readonly suspendTimeoutMs: number;
  readonly rotationIntervalMs: number;
}

/** Throws ERR_SET_OPTION naming the value and its range. */
export function validateTimes(set: string, times: SetTimes, timeoutMs: number): void {
  const ranges = [
    ['probe interval', times.probeIntervalMs, PROBE_INTERVAL_MS_MIN],
    ['lease', times.leaseMs, 1],
    ['suspend timeout', times.suspendTimeoutMs, 1],
    ['rotation interval', times.rotationIntervalMs, ROTATION_INTERVAL_MS_MIN],
  ] as const;
  for (const [what, valueMs, minMs] of ranges) {
    if (Number.isInteger(valueMs) && valueMs >= minMs && valueMs <= DURATION_MS_MAX) continue;
    throw new KeyholdError(
      codes.ERR_SET_OPTION,
      `encryption set ${set}: ${what} is ${valueMs} ms, expected ${minMs} ms to ` +
        formatDuration(DURATION_MS_MAX),
      { fields: { option: what, actualMs: valueMs, minMs, maxMs: DURATION_MS_MAX } },
    );
  }
  const slowestMs = times.probeIntervalMs + probeTimeoutMs(timeoutMs, times.probeIntervalMs);
  if (times.leaseMs > slowestMs) return;
  throw new KeyholdError(
    codes.ERR_SET_OPTION,
    `encryption set ${set}: lease is ${formatDuration(times.leaseMs)}, expected more than ` +
      `${formatDuration(slowestMs)} (probe interval ${formatDuration(times.probeIntervalMs)} plus ` +
      `probe timeout ${formatDuration(slowestMs - times.probeIntervalMs)})`,
    { fields: { leaseMs: times.leaseMs, slowestMs } },
  );
}

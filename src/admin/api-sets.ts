// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import type { Caller } from './api.js';
import {
  count,
  durationMs,
  name,
  NAME_LENGTH_MAX,
  seconds,
  time,
  URL_LENGTH_MAX,
} from './fields.js';

/** Encryption sets in the admin API's vocabulary; api.ts says how its schemas are used. */

export const REVOCATION_MODES = ['immediate', 'restart'] as const;
export const VERDICTS = ['PROOF', 'DENIED', 'NO-ANSWER'] as const;

/** `unknown`: never probed yet; `lapsed`: no answer until the lease ended. */
export const SET_ACCESS = ['unknown', 'granted', 'denied', 'lapsed'] as const;

export const KEY_ROLES = ['current', 'retiring', 'replaced'] as const;
export const REVOKE_WHEN = ['any', 'all'] as const;
export const ON_EXPIRY = ['ignore', 'warn', 'offline'] as const;
export const DENIED_MEANS = ['offline', 'lease'] as const;
export const PROFILE_NAMES = ['strict', 'default', 'azure'] as const;
/** An hour: nobody keeps a fleet offline by a drill that was forgotten. */
const DRILL_MS_MAX = 3_600_000;
export const SCENARIOS = ['disable', 'delete', 'outage'] as const;

export const setKeyViewSchema = z
  .object({
    /** The versioned key id: https://vault/keys/name/version. */
    id: z.string(),
    version: z.string(),
    /** Which of the set's customer keys it is a version of. */
    slot: z.literal([1, 2]),
    /** `retiring`: an older version; `replaced`: of a key that the set was taken off. */
    role: z.enum(KEY_ROLES),
    expiresAt: time.nullable(),
    /** Disks whose header names the version; null where headers were not read. */
    dependents: z.array(z.string()).nullable(),
    /** True only when no header and no record needs the version; null where it was not looked. */
    safeToDisable: z.boolean().nullable(),
    verdict: z.enum(VERDICTS).nullable(),
    /** Since when the verdict is what it is; null before the first probe. */
    since: time.nullable(),
    error: z
      .object({ code: z.string(), message: z.string(), requestId: z.string().nullable() })
      .nullable(),
  })
  .meta({ id: 'SetKey', description: 'A customer key version of a set, with its last verdict.' });
export type SetKeyView = z.infer<typeof setKeyViewSchema>;

export const setViewSchema = z
  .object({
    name: z.string(),
    id: z.string(),
    mode: z.enum(REVOCATION_MODES),
    keys: z.array(setKeyViewSchema),
    leaseSecondsLeft: seconds.nullable(),
    /** Names of the disks that belong to the set. */
    disks: z.array(z.string()),
    access: z.enum(SET_ACCESS),
    /** What access is granted by; null when it is not. */
    grantedBy: z.enum(['vault', 'availability', 'platform']).nullable(),
    alarm: z.boolean(),
    /** What a person should look at although disks are served. */
    warnings: z.array(z.string()),
    identity: z.string(),
    probeIntervalSeconds: seconds,
    leaseSeconds: seconds,
    suspendTimeoutSeconds: seconds,
    /** How often the newest version of the keys is looked at. */
    rotationIntervalSeconds: seconds,
    /** Disks stay offline until an operator attaches them, although access came back. */
    holdOnHeal: z.boolean(),
    revokeWhen: z.enum(REVOKE_WHEN),
    onExpiry: z.enum(ON_EXPIRY),
    identityDenied: z.enum(DENIED_MEANS),
    networkDenied: z.enum(DENIED_MEANS),
    double: z.boolean(),
    /** Id of the platform key that opens the set key of a set without customer keys. */
    platformKey: z.string().nullable(),
    /** Id of the platform key that stands in while no vault answers. */
    availabilityKey: z.string().nullable(),
    retired: z.array(
      z.object({
        id: z.string(),
        slot: z.literal([1, 2]),
        retiredAt: time,
        dependents: z.array(z.string()).nullable(),
        safeToDisable: z.boolean().nullable(),
      }),
    ),
    /** Headers that could not be read: nothing is safe to disable while there are any. */
    unreadable: z.array(z.object({ disk: z.string(), error: z.string() })),
    rotationTrouble: z
      .object({ code: z.string(), message: z.string(), since: time, attempts: count })
      .nullable(),
    /** Null on the platform key. Measured from a probe's start to the last key wiped. */
    revocation: z
      .object({
        deadlineSeconds: seconds,
        lastSeconds: z.number().nullable(),
        maxSeconds: z.number().nullable(),
      })
      .nullable(),
    purge: z.object({ startedAt: time, finishedAt: time.nullable() }).nullable(),
    /** Verdicts are simulated until then. */
    drill: z.object({ scenario: z.enum(SCENARIOS), endsAt: time }).nullable(),
  })
  .meta({ id: 'EncryptionSet', description: 'An encryption set.' });
export type SetView = z.infer<typeof setViewSchema>;

const policyFields = {
  probeIntervalMs: z.exactOptional(durationMs),
  leaseMs: z.exactOptional(durationMs),
  suspendTimeoutMs: z.exactOptional(durationMs),
  rotationIntervalMs: z.exactOptional(durationMs),
  holdOnHeal: z.exactOptional(z.boolean()),
  revokeWhen: z.exactOptional(z.enum(REVOKE_WHEN)),
  onExpiry: z.exactOptional(z.enum(ON_EXPIRY)),
  identityDenied: z.exactOptional(z.enum(DENIED_MEANS)),
  networkDenied: z.exactOptional(z.enum(DENIED_MEANS)),
};

const keyUrl = z.string().min(1).max(URL_LENGTH_MAX);

export const createSetRequestSchema = z
  .strictObject({
    name,
    /** Versioned or versionless URL of the customer key; left out: the platform key. */
    keyUrl: z.exactOptional(keyUrl),
    /** Of a second customer key. */
    key2Url: z.exactOptional(keyUrl),
    /** Name of an identity of the config; left out: the only one that there is. */
    identity: z.exactOptional(name),
    mode: z.enum(REVOCATION_MODES),
    profile: z.exactOptional(z.enum(PROFILE_NAMES)),
    ...policyFields,
    /** Takes a key from a vault without purge protection. */
    allowPurgeable: z.exactOptional(z.boolean()),
    availabilityKey: z.exactOptional(z.boolean()),
    double: z.exactOptional(z.boolean()),
  })
  .meta({ id: 'CreateSet' });
export type CreateSetRequest = z.infer<typeof createSetRequestSchema>;

export const updateSetRequestSchema = z
  .strictObject({ mode: z.exactOptional(z.enum(REVOCATION_MODES)), ...policyFields })
  .meta({ id: 'UpdateSet', description: 'What changes in the policy of a set.' });
export type UpdateSetRequest = z.infer<typeof updateSetRequestSchema>;

export const assignKeyRequestSchema = z
  .strictObject({
    /** Left out: the platform key, that is, customer keys are turned off. */
    keyUrl: z.exactOptional(keyUrl),
    /** Which customer key is replaced; left out: the first. */
    slot: z.exactOptional(z.literal([1, 2])),
  })
  .meta({ id: 'AssignKey' });
export type AssignKeyRequest = z.infer<typeof assignKeyRequestSchema>;

export const impactQuerySchema = z
  .strictObject({
    scenario: z.enum(SCENARIOS),
    /** Left out: the versions in use. */
    keyVersion: z.exactOptional(z.string().min(1).max(128)),
  })
  .meta({ id: 'ImpactQuery' });
export type ImpactQuery = z.infer<typeof impactQuerySchema>;

export const impactSchema = z
  .object({
    set: z.string(),
    scenario: z.enum(SCENARIOS),
    kids: z.array(z.string()).readonly(),
    why: z.string(),
    disks: z
      .array(
        z.object({
          disk: z.string(),
          state: z.enum(['offline', 'online', 'suspended']),
          outcome: z.enum(['goes-offline', 'suspends', 'revoked', 'serves-on', 'stays-offline']),
          /** At most so long after the event; null where nothing happens. */
          withinSeconds: seconds.nullable(),
          clients: z.array(z.string()).readonly(),
        }),
      )
      .readonly(),
  })
  .meta({ id: 'Impact', description: 'What would happen to the disks of a set, and to whom.' });
export type Impact = z.infer<typeof impactSchema>;

export const drillRequestSchema = z
  .strictObject({
    scenario: z.enum(SCENARIOS),
    /** When it ends at the latest, in ms: at most an hour. */
    durationMs: z.int().min(1).max(DRILL_MS_MAX),
  })
  .meta({ id: 'Drill', description: 'Simulated verdicts about the keys of a set.' });
export type DrillRequest = z.infer<typeof drillRequestSchema>;

export const confirmRequestSchema = z
  .strictObject({
    /** The name of the set or disk, once more. */
    confirm: z.string().max(NAME_LENGTH_MAX),
  })
  .meta({ id: 'Confirm', description: 'Confirms what cannot be taken back.' });
export type ConfirmRequest = z.infer<typeof confirmRequestSchema>;

export const purgeReceiptSchema = z
  .object({
    startedAt: time,
    /** Null while a store could not be written; the purge goes on by itself. */
    finishedAt: time.nullable(),
    kids: z.array(z.string()).readonly(),
    availabilityKey: z.boolean(),
    erased: z.array(z.string()).readonly(),
    failed: z.array(z.object({ disk: z.string(), message: z.string() })).readonly(),
  })
  .meta({ id: 'PurgeReceipt', description: 'What a purge destroyed.' });
export type PurgeReceipt = z.infer<typeof purgeReceiptSchema>;

export const checkResultSchema = z
  .object({
    set: z.string(),
    /** The weakest verdict over the set's keys; null for a set without keys. */
    verdict: z.enum(VERDICTS).nullable(),
    access: z.enum(SET_ACCESS),
    alarm: z.boolean(),
    keys: z.array(setKeyViewSchema),
    leaseSecondsLeft: seconds.nullable(),
  })
  .meta({ id: 'CheckResult', description: 'What a probe of every key of a set found just now.' });
export type CheckResult = z.infer<typeof checkResultSchema>;

export const setListSchema = z.object({ sets: z.array(setViewSchema) }).meta({ id: 'SetList' });

/** The part of AdminServices that is about sets. */
export interface SetServices {
  listSets(): Promise<SetView[]>;
  showSet(name: string): Promise<SetView>;
  createSet(request: CreateSetRequest, caller: Caller): Promise<SetView>;
  updateSet(name: string, request: UpdateSetRequest, caller: Caller): Promise<SetView>;
  checkSet(name: string, caller: Caller): Promise<CheckResult>;
  rotateSet(name: string, caller: Caller): Promise<SetView>;
  assignKey(name: string, request: AssignKeyRequest, caller: Caller): Promise<SetView>;
  impactOfSet(name: string, query: ImpactQuery): Promise<Impact>;
  beginDrill(name: string, request: DrillRequest, caller: Caller): Promise<SetView>;
  endDrill(name: string, caller: Caller): Promise<SetView>;
  purgeSet(name: string, request: ConfirmRequest, caller: Caller): Promise<PurgeReceipt>;
  deleteSet(name: string, caller: Caller): Promise<void>;
}

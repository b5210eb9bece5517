// SPDX-License-Identifier: Apache-2.0
import type { Verdict } from '../vault/types.js';
import type { GrantedBy, RotationTrouble, SetAccess } from './access.js';
import type { Drill } from './drill.js';
import type { EncryptionSet, KeyStatus } from './encryption-set.js';
import { CONFIRMATION_MS, type Scenario } from './impact.js';
import type { RevocationTimes } from './live-set.js';
import type { HeaderReport } from './ports.js';
import type { KeyRole, RevocationMode, SetRecord } from './record.js';
import { dependents } from './rewrap.js';

/** One customer key as `set show --json` prints it. */
export interface SetKeyView {
  /** The versioned key id. */
  readonly id: string;
  readonly version: string;
  readonly slot: 1 | 2;
  readonly role: KeyRole;
  readonly expiresAt: string | null;
  /** Disks whose header names the version; null where headers were not read. */
  readonly dependents: string[] | null;
  /** True only when no header and no record needs the version; null where it was not looked. */
  readonly safeToDisable: boolean | null;
  readonly verdict: Verdict['kind'] | null;
  /** Since when the verdict has been of this kind. */
  readonly since: string | null;
  readonly error: { code: string; message: string; requestId: string | null } | null;
}

/** What `set show --json` prints. */
export interface SetView {
  readonly name: string;
  readonly id: string;
  readonly mode: RevocationMode;
  readonly keys: SetKeyView[];
  readonly leaseSecondsLeft: number | null;
  readonly disks: string[];
  readonly access: SetAccess['kind'];
  /** What access is granted by; null when it is not. */
  readonly grantedBy: GrantedBy | null;
  readonly alarm: boolean;
  readonly warnings: string[];
  readonly identity: string;
  readonly probeIntervalSeconds: number;
  readonly leaseSeconds: number;
  readonly suspendTimeoutSeconds: number;
  readonly rotationIntervalSeconds: number;
  readonly holdOnHeal: boolean;
  readonly revokeWhen: SetRecord['revokeWhen'];
  readonly onExpiry: SetRecord['onExpiry'];
  readonly identityDenied: SetRecord['identityDenied'];
  readonly networkDenied: SetRecord['networkDenied'];
  readonly double: boolean;
  /** The platform key that opens the set key of a set without customer keys. */
  readonly platformKey: string | null;
  /** The platform key that may stand in. */
  readonly availabilityKey: string | null;
  readonly retired: RetiredKeyView[];
  /** Headers that could not be read: nothing is safe to disable while there are any. */
  readonly unreadable: Array<{ disk: string; error: string }>;
  readonly rotationTrouble: {
    code: string;
    message: string;
    since: string;
    attempts: number;
  } | null;
  readonly revocation: {
    /** From when the vault begins to refuse, for denials that are certain. */
    deadlineSeconds: number;
    /** Probe's start to the last key wiped: the latest and the longest since the start. */
    lastSeconds: number | null;
    maxSeconds: number | null;
  } | null;
  readonly purge: { startedAt: string; finishedAt: string | null } | null;
  /** Verdicts are simulated until then. */
  readonly drill: { scenario: Scenario; endsAt: string } | null;
}

/** A version that the set has left behind. */
export interface RetiredKeyView {
  readonly id: string;
  readonly slot: 1 | 2;
  readonly retiredAt: string;
  readonly dependents: string[] | null;
  readonly safeToDisable: boolean | null;
}

/** What `set check --json` prints. */
export interface SetCheckView {
  readonly set: string;
  /** The weakest verdict over the keys. */
  readonly verdict: Verdict['kind'] | null;
  readonly access: SetAccess['kind'];
  readonly alarm: boolean;
  readonly keys: SetKeyView[];
  readonly leaseSecondsLeft: number | null;
}

export function viewSet(
  set: EncryptionSet,
  known: {
    disks: readonly string[];
    /** Null where they were not read. */
    headers: readonly HeaderReport[] | null;
    trouble: RotationTrouble | undefined;
    revocation: RevocationTimes | undefined;
    drill: Drill | undefined;
  },
): SetView {
  const { record, access } = set;
  const { headers } = known;
  return {
    name: record.name,
    id: record.id,
    mode: record.mode,
    keys: set.keyStatus().map((status) => viewKey(status, headers)),
    leaseSecondsLeft: secondsLeft(set),
    disks: [...known.disks].sort(),
    access: access.kind,
    grantedBy: access.kind === 'granted' ? access.by : null,
    alarm: set.alarm !== undefined,
    warnings: set.warnings,
    ...viewPolicy(record),
    double: record.double,
    platformKey: record.platform?.keyId ?? null,
    availabilityKey: record.availability?.keyId ?? null,
    retired: record.retired.map(({ kid, slot, retiredAt }) => {
      const left = leftOf(headers, kid);
      return { id: kid, slot, retiredAt, ...left };
    }),
    unreadable: (headers ?? [])
      .filter(({ kids }) => kids === null)
      .map(({ disk, error }) => ({ disk, error: error ?? '' })),
    rotationTrouble: viewTrouble(known.trouble),
    revocation: set.hasLease ? viewRevocation(record, known.revocation) : null,
    purge:
      record.purge === null
        ? null
        : { startedAt: record.purge.startedAt, finishedAt: record.purge.finishedAt },
    drill:
      known.drill === undefined
        ? null
        : {
            scenario: known.drill.scenario,
            endsAt: new Date(known.drill.endsAtMs).toISOString(),
          },
  };
}

function viewPolicy(record: SetRecord) {
  return {
    identity: record.identity,
    probeIntervalSeconds: record.probeIntervalMs / 1000,
    leaseSeconds: record.leaseMs / 1000,
    suspendTimeoutSeconds: record.suspendTimeoutMs / 1000,
    rotationIntervalSeconds: record.rotationIntervalMs / 1000,
    holdOnHeal: record.holdOnHeal,
    revokeWhen: record.revokeWhen,
    onExpiry: record.onExpiry,
    identityDenied: record.identityDenied,
    networkDenied: record.networkDenied,
  };
}

function viewTrouble(trouble: RotationTrouble | undefined): SetView['rotationTrouble'] {
  if (trouble === undefined) return null;
  const { code, message, sinceMs, attempts } = trouble;
  return { code, message, since: new Date(sinceMs).toISOString(), attempts };
}

function viewRevocation(
  { probeIntervalMs }: SetRecord,
  measured: RevocationTimes | undefined,
): SetView['revocation'] {
  return {
    deadlineSeconds: (probeIntervalMs + CONFIRMATION_MS) / 1000,
    lastSeconds: measured === undefined ? null : measured.lastMs / 1000,
    maxSeconds: measured === undefined ? null : measured.maxMs / 1000,
  };
}

/** What still depends on a version that the record does not need. */
function leftOf(
  headers: readonly HeaderReport[] | null,
  kid: string,
): Pick<SetKeyView, 'dependents' | 'safeToDisable'> {
  if (headers === null) return { dependents: null, safeToDisable: null };
  const named = headers.filter(({ kids }) => kids?.includes(kid) ?? false);
  const safeToDisable = dependents(headers, kid).length === 0;
  return { dependents: named.map(({ disk }) => disk), safeToDisable };
}

export function viewCheck(set: EncryptionSet): SetCheckView {
  const keys = set.keyStatus().map((status) => viewKey(status, null));
  const weakest = (['DENIED', 'NO-ANSWER', 'PROOF'] as const).find((kind) =>
    keys.some((key) => key.verdict === kind),
  );
  return {
    set: set.name,
    verdict: weakest ?? null,
    access: set.access.kind,
    alarm: set.alarm !== undefined,
    keys,
    leaseSecondsLeft: secondsLeft(set),
  };
}

/** Lease time left in seconds with milliseconds; null without a lease. */
export function secondsLeft(set: EncryptionSet): number | null {
  const leftMs = set.leaseMsLeft;
  return leftMs === undefined ? null : Math.round(leftMs) / 1000;
}

/** A version in the record is never safe to disable: the record itself needs it. */
function viewKey(
  { key, verdict, sinceMs }: KeyStatus,
  headers: readonly HeaderReport[] | null,
): SetKeyView {
  const failed = verdict !== undefined && verdict.kind !== 'PROOF';
  return {
    id: key.kid,
    version: key.keyVersion,
    slot: key.slot,
    role: key.role,
    expiresAt: key.expiresAt,
    dependents: leftOf(headers, key.kid).dependents,
    safeToDisable: headers === null ? null : false,
    verdict: verdict?.kind ?? null,
    since: sinceMs === undefined ? null : new Date(sinceMs).toISOString(),
    error: failed
      ? {
          code: verdict.code ?? verdict.class,
          message: verdict.message,
          requestId: verdict.requestId ?? null,
        }
      : null,
  };
}

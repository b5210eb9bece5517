// SPDX-License-Identifier: Apache-2.0
import type { Verdict } from '../vault/types.js';
import type { SetAccess } from './access.js';
import type { EncryptionSet, KeyStatus } from './encryption-set.js';
import type { RevocationMode } from './record.js';

/** One customer key as `set show --json` prints it. */
export interface SetKeyView {
  /** The versioned key id. */
  readonly id: string;
  readonly version: string;
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
  readonly alarm: boolean;
  readonly identity: string;
  readonly probeIntervalSeconds: number;
  readonly leaseSeconds: number;
  readonly suspendTimeoutSeconds: number;
  readonly holdOnHeal: boolean;
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

export function viewSet(set: EncryptionSet, disks: readonly string[]): SetView {
  const { record } = set;
  return {
    name: record.name,
    id: record.id,
    mode: record.mode,
    keys: set.keyStatus().map(viewKey),
    leaseSecondsLeft: secondsLeft(set),
    disks: [...disks].sort(),
    access: set.access.kind,
    alarm: set.alarm !== undefined,
    identity: record.identity,
    probeIntervalSeconds: record.probeIntervalMs / 1000,
    leaseSeconds: record.leaseMs / 1000,
    suspendTimeoutSeconds: record.suspendTimeoutMs / 1000,
    holdOnHeal: record.holdOnHeal,
  };
}

export function viewCheck(set: EncryptionSet): SetCheckView {
  const keys = set.keyStatus().map(viewKey);
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

function viewKey({ key, verdict, sinceMs }: KeyStatus): SetKeyView {
  const failed = verdict !== undefined && verdict.kind !== 'PROOF';
  return {
    id: key.kid,
    version: key.keyVersion,
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

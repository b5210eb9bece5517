// SPDX-License-Identifier: Apache-2.0
import type { DenialReason, Verdict } from '../vault/types.js';

/** A denial that is believed, with the facts that a disk shows. */
export interface Denial {
  readonly reason: DenialReason;
  readonly kid: string;
  readonly keyVersion: string;
  readonly verdict: Verdict;
  /** Wall time of the first denial of the run. */
  readonly firstSeenMs: number;
  /** CLOCK_BOOTTIME ms at which it was believed: where "time to offline" begins. */
  readonly confirmedBootMs: number;
}

/** What stands behind access: a PROOF, the host in an outage, or the host alone. */
export type GrantedBy = 'vault' | 'availability' | 'platform';

/** What a set may do with its customer key (docs/LIFECYCLE.md section 2). */
export type SetAccess =
  /** Since the start there was no verdict that counts. */
  | { readonly kind: 'unknown'; readonly sinceMs: number }
  | {
      readonly kind: 'granted';
      readonly sinceMs: number;
      readonly by: GrantedBy;
      /** What the lease was last renewed by; undefined in a set on the platform key. */
      readonly verdict: Verdict | undefined;
    }
  | { readonly kind: 'denied'; readonly sinceMs: number; readonly denial: Denial }
  /** The lease ended without an answer. */
  | { readonly kind: 'lapsed'; readonly sinceMs: number; readonly verdict: Verdict | undefined };

/** The vault does not answer; access is what it was. */
export interface Alarm {
  readonly sinceMs: number;
  readonly code: string;
  readonly message: string;
}

/** Why a rewrap does not get on; it is tried again. */
export interface RotationTrouble {
  readonly code: string;
  readonly message: string;
  readonly sinceMs: number;
  readonly attempts: number;
}

/** What a purge destroyed, for the audit log (docs/KEYS.md section 6). */
export interface PurgeReceipt {
  readonly startedAt: string;
  /** Null while a store could not be written: then the purge goes on later. */
  readonly finishedAt: string | null;
  /** Customer key versions whose wrapped set keys were in the record. */
  readonly kids: readonly string[];
  readonly availabilityKey: boolean;
  readonly erased: readonly string[];
  readonly failed: ReadonlyArray<{ readonly disk: string; readonly message: string }>;
}

export interface SetIdentity {
  readonly id: string;
  readonly name: string;
}

/** What a SetService tells: for disks, audit, metrics and the event stream. */
export interface SetEvents {
  /** Every verdict, also those that change nothing. */
  verdict: {
    readonly set: SetIdentity;
    readonly identity: string;
    readonly kid: string;
    readonly keyVersion: string;
    readonly verdict: Verdict;
    readonly denial: 'none' | 'suspected' | 'confirmed';
  };
  /** Every PROOF that renewed the lease; after `granted` when it also changed the access. */
  proof: { readonly set: SetIdentity };
  granted: {
    readonly set: SetIdentity;
    readonly previous: SetAccess['kind'];
    readonly by: GrantedBy;
  };
  /** The availability key stands in for a vault that gives no answer, or no longer does. */
  availability: { readonly set: SetIdentity; readonly used: boolean; readonly cause: string };
  /** Also when the reason of a standing denial changes. */
  denied: {
    readonly set: SetIdentity;
    readonly previous: SetAccess['kind'];
    readonly denial: Denial;
  };
  lapsed: { readonly set: SetIdentity; readonly verdict: Verdict | undefined };
  alarm: { readonly set: SetIdentity; readonly raised: boolean; readonly alarm: Alarm };
  /** Uses of the real set key: what an audit log must not miss. */
  'set-key': {
    readonly set: SetIdentity;
    readonly action: 'generated' | 'unwrapped' | 'opened' | 'unwrap-failed' | 'wiped';
    readonly kid?: string;
    readonly requestId?: string;
    /** Why it was wiped, or why unwrapping failed. */
    readonly cause?: string;
  };
  created: { readonly set: SetIdentity; readonly kid: string };
  /** The record is another one: disks look at their leases. */
  changed: { readonly set: SetIdentity; readonly what: string };
  /** The set key is wrapped by another version, or opened by the platform key, from now on. */
  rewrapped: {
    readonly set: SetIdentity;
    readonly cause: 'rotation' | 'assignment';
    readonly kids: readonly string[];
    readonly previous: readonly string[];
  };
  /** No header depends on these versions any more. */
  retired: { readonly set: SetIdentity; readonly kids: readonly string[] };
  rotation: { readonly set: SetIdentity; readonly trouble: RotationTrouble | null };
  /** Verdicts are simulated, or no longer. */
  drill: { readonly set: SetIdentity; readonly on: boolean; readonly scenario: string };
  purged: { readonly set: SetIdentity; readonly receipt: PurgeReceipt };
  deleted: { readonly set: SetIdentity };
}

export type EmitSetEvent = <K extends keyof SetEvents>(kind: K, event: SetEvents[K]) => void;

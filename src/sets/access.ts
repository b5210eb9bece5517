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

/** What a set may do with its customer key (docs/LIFECYCLE.md section 2). */
export type SetAccess =
  /** Since the start there was no verdict that counts. */
  | { readonly kind: 'unknown'; readonly sinceMs: number }
  | { readonly kind: 'granted'; readonly sinceMs: number; readonly verdict: Verdict }
  | { readonly kind: 'denied'; readonly sinceMs: number; readonly denial: Denial }
  /** The lease ended without an answer. */
  | { readonly kind: 'lapsed'; readonly sinceMs: number; readonly verdict: Verdict | undefined };

/** The vault does not answer; access is what it was. */
export interface Alarm {
  readonly sinceMs: number;
  readonly code: string;
  readonly message: string;
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
  granted: { readonly set: SetIdentity; readonly previous: SetAccess['kind'] };
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
    readonly action: 'generated' | 'unwrapped' | 'unwrap-failed' | 'wiped';
    readonly kid?: string;
    readonly requestId?: string;
    /** Why it was wiped, or why unwrapping failed. */
    readonly cause?: string;
  };
  created: { readonly set: SetIdentity; readonly kid: string };
  deleted: { readonly set: SetIdentity };
}

export type EmitSetEvent = <K extends keyof SetEvents>(kind: K, event: SetEvents[K]) => void;

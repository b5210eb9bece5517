// SPDX-License-Identifier: Apache-2.0
import type { OfflineReason } from './record.js';

/*
 * The vocabulary of a disk's life: its phases, what can happen to it, and what is done then
 * (docs/LIFECYCLE.md section 3). The rules that join them are in lifecycle.ts.
 */

/** What a disk shows of why it is offline, or why it is revoked. */
export interface OfflineFacts {
  readonly reason: OfflineReason;
  readonly sinceMs: number;
  readonly keyVersion: string | null;
  readonly vaultRequestId: string | null;
  readonly message: string | null;
}

export type Phase =
  | {
      readonly kind: 'offline';
      readonly facts: OfflineFacts;
      /** Was attached when the daemon started, and waits for the first proof of access. */
      readonly waiting: boolean;
    }
  | { readonly kind: 'online'; readonly sinceMs: number; readonly revoked: OfflineFacts | null }
  | { readonly kind: 'suspended'; readonly sinceMs: number };

export interface DiskControl {
  readonly attached: boolean;
  readonly phase: Phase;
}

/** The set's access as it is now; `facts` is what a disk shows when access is not granted. */
export type KeyAccess =
  | { readonly kind: 'granted' }
  | { readonly kind: 'denied' | 'lapsed' | 'unknown'; readonly facts: OfflineFacts };

export interface LifecycleContext {
  readonly mode: 'immediate' | 'restart';
  readonly holdOnHeal: boolean;
  readonly access: KeyAccess;
  /** Open sessions. */
  readonly clients: number;
  readonly nowMs: number;
}

export type TimerName = 'suspend' | 'grace' | 'linger';

export type LifecycleEvent =
  | { readonly kind: 'attach' }
  | { readonly kind: 'detach' }
  | { readonly kind: 'restart' }
  | { readonly kind: 'shutdown' }
  /** The header of the offline disk was destroyed. */
  | { readonly kind: 'erased' }
  /** The set's access may have changed; also at every PROOF. */
  | { readonly kind: 'access' }
  /** Native code wiped the key because the lease ended. */
  | { readonly kind: 'lease-ended'; readonly keyWipedBootMs: number }
  | { readonly kind: 'timer'; readonly timer: TimerName }
  /** The number of sessions changed. */
  | { readonly kind: 'clients' }
  | { readonly kind: 'opened' }
  /** `attachedBefore`: the intent to return to. */
  | {
      readonly kind: 'open-failed';
      readonly facts: OfflineFacts;
      readonly attachedBefore: boolean;
    }
  | { readonly kind: 'resumed' }
  | { readonly kind: 'resume-failed'; readonly facts: OfflineFacts };

export type Effect =
  /**
   * `required`: the first effect of a command, which fails and is undone when the write fails.
   * `opening`: the record says already that the disk is online, so that the open that follows need
   * not write it again; if it fails, why is written.
   */
  | { readonly kind: 'record'; readonly required: boolean; readonly opening?: boolean }
  /** Opens the store unless it is open, and unlocks. Ends in `opened` or `open-failed`. */
  | { readonly kind: 'open'; readonly attachedBefore: boolean }
  /** Unlocks a suspended disk. Ends in `resumed` or `resume-failed`. */
  | { readonly kind: 'resume' }
  | { readonly kind: 'suspend' }
  | { readonly kind: 'go-offline'; readonly facts: OfflineFacts }
  /** Closes connections and store. */
  | { readonly kind: 'disconnect' }
  | { readonly kind: 'start-timer'; readonly timer: TimerName }
  | { readonly kind: 'stop-timer'; readonly timer: TimerName }
  | {
      readonly kind: 'refuse';
      readonly refusal: 'key' | 'unusable' | 'not-attached';
      readonly facts: OfflineFacts;
    };

export interface Transition {
  readonly control: DiskControl;
  readonly effects: readonly Effect[];
}

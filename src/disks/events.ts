// SPDX-License-Identifier: Apache-2.0
import type { Peer } from '../nbd/peer.js';
import type { SetIdentity } from '../sets/access.js';
import type { OfflineReceipt } from './ports.js';
import type { OfflineReason } from './record.js';

export interface DiskRef {
  readonly name: string;
  readonly uuid: string;
  readonly set: SetIdentity;
}

/** What a disk shows of its state; states and reasons as users know them. */
export interface DiskStateView {
  readonly state: 'offline' | 'online' | 'suspended';
  readonly reason: OfflineReason | null;
  readonly revoked: boolean;
  /** Wall time in ms since which state, reason and revoked are as they are. */
  readonly sinceMs: number;
  readonly keyVersion: string | null;
  readonly vaultRequestId: string | null;
  readonly message: string | null;
}

/** What brought a change about: a command, a verdict, a timer, native code. */
export type DiskCause =
  | 'attach'
  | 'detach'
  | 'restart'
  | 'shutdown'
  | 'access'
  | 'lease-ended'
  | 'suspend-timeout'
  | 'grace-timeout'
  | 'erase'
  | 'failure';

/**
 * Why a client did not get an export: there is no such disk, the allow list does not admit the peer
 * (which is told the same), or the disk is offline.
 */
export const REFUSAL_REASONS = ['unknown', 'denied', 'offline'] as const;
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

/** What a DiskService tells: for audit, metrics and the event stream. */
export interface DiskEvents {
  created: {
    readonly disk: DiskRef;
    readonly sizeBytes: number;
    readonly store: string;
    readonly allow: readonly string[];
  };
  deleted: { readonly disk: DiskRef; readonly storeRemoved: boolean };
  /** The header carries these wrapped set keys, and no other, from now on. */
  'header-rewrapped': { readonly disk: DiskRef; readonly kids: readonly string[] };
  /** `disk.set` is the new set. */
  moved: { readonly disk: DiskRef; readonly from: SetIdentity };
  /** The header was overwritten; `discarded`: and the space given back to what lies below. */
  erased: { readonly disk: DiskRef; readonly store: string; readonly discarded: boolean };
  /** State, reason or revoked changed. */
  state: {
    readonly disk: DiskRef;
    readonly cause: DiskCause;
    readonly previous: DiskStateView;
    readonly current: DiskStateView;
  };
  /** The DEK was unsealed into native memory; `resumed`: with requests that had been parked. */
  unlocked: { readonly disk: DiskRef; readonly resumed: boolean };
  suspended: {
    readonly disk: DiskRef;
    readonly keyWipedBootMs: number;
    /** Unknown when native code came first. */
    readonly parkedRequests: number | undefined;
    readonly by: 'control' | 'native';
  };
  /**
   * Proof of a take-offline. `clients-disconnected` with the same id completes it after the linger.
   */
  'offline-receipt': {
    readonly disk: DiskRef;
    readonly receiptId: string;
    readonly cause: DiskCause;
    readonly reason: OfflineReason;
    readonly keyVersion: string | null;
    readonly vaultRequestId: string | null;
    readonly message: string | null;
    /** When the verdict was believed or the command was taken up; CLOCK_BOOTTIME ms. */
    readonly decidedBootMs: number;
    /** When the probe started whose answer was believed; undefined for other causes. */
    readonly verdictStartedBootMs: number | undefined;
    /** When that answer had arrived. */
    readonly verdictReceivedBootMs: number | undefined;
    /** From decision to wiped key, and to the last answer. */
    readonly wipedAfterMs: number;
    readonly drainedAfterMs: number;
    readonly receipt: OfflineReceipt;
  };
  'offline-failed': { readonly disk: DiskRef; readonly code: string; readonly message: string };
  'clients-disconnected': {
    readonly disk: DiskRef;
    readonly receiptId: string | undefined;
    readonly connections: number;
    readonly bootMs: number;
  };
  'open-failed': {
    readonly disk: DiskRef;
    readonly reason: OfflineReason;
    readonly code: string;
    readonly message: string;
  };
  'header-damaged': {
    readonly disk: DiskRef;
    readonly copy: 'primary' | 'secondary';
    readonly fault: string;
    readonly repaired: boolean;
  };
  'store-error': { readonly disk: DiskRef; readonly operation: string; readonly errno: string };
  /** A block device whose data goes through the page cache; `message` says why. */
  'store-buffered': { readonly disk: DiskRef; readonly message: string };
  /** A state change could not be written down; it is in force all the same. */
  'record-error': { readonly disk: DiskRef; readonly message: string };
  clients: { readonly disk: DiskRef; readonly clients: number };
  /** The allow list is another; durable. */
  'allow-changed': {
    readonly disk: DiskRef;
    readonly added: readonly string[];
    readonly removed: readonly string[];
  };
  /** A session was closed, because the allow list does not admit its peer any more. */
  'client-expelled': { readonly disk: DiskRef; readonly peer: Peer };
  /** A client asked for an export and was not given it. */
  refused: {
    readonly reason: RefusalReason;
    /** The name as the client sent it; for `denied` that of the disk. */
    readonly name: string;
    readonly peer: Peer;
  };
}

export type EmitDiskEvent = <K extends keyof DiskEvents>(kind: K, event: DiskEvents[K]) => void;

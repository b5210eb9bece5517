// SPDX-License-Identifier: Apache-2.0
import type { Peer } from '../nbd/peer.js';
import type { DekDigest, LeaseHandle, SealedDek } from '../sets/ports.js';
import type { SetKeyHandle } from '../vault/types.js';

/**
 * Times and counts of one take-offline, in its order (DESIGN.md section 3). Times are
 * CLOCK_BOOTTIME ms.
 */
export interface OfflineReceipt {
  readonly requestedBootMs: number;
  readonly keyWipedBootMs: number;
  /** Every request that was under way has been answered and its plaintext wiped. */
  readonly drainedBootMs: number;
  /** The store was flushed; undefined when the flush failed (`flushError` says why). */
  readonly flushedBootMs?: number;
  readonly flushError?: string;
  /** Requests answered with NBD_ESHUTDOWN between request and drain. */
  readonly refusedRequests: number;
  readonly connections: number;
}

/** What the data plane needs to serve a disk. */
export interface DiskSpec {
  readonly name: string;
  readonly uuid: string;
  readonly sizeBytes: number;
  readonly sectorSizeBytes: 512 | 4096;
  readonly storePath: string;
  /** Where data begins in the store. */
  readonly dataOffsetBytes: number;
  readonly readOnly: boolean;
  /** The hole rule: all-zero ciphertext reads as zeros. False for --dm-crypt disks. */
  readonly holes: boolean;
  /** Refuse a store that cannot be read and written past the page cache. */
  readonly direct: boolean;
  readonly lease: LeaseHandle;
  /**
   * True in immediate mode: without a lease that holds, native code wipes the DEK and parks
   * requests.
   */
  readonly leaseEnforced: boolean;
}

export interface DiskClient {
  readonly id: number;
  readonly peer: Peer;
  readonly connectedAtBootMs: number;
  /** Requests that were taken so far, whatever their answer. */
  readonly requests: number;
}

/**
 * A disk in the data plane, store opened.
 *
 *   locked ──unlock──▶ serving ◀──resume(unlock)── suspended
 *      ▲                  │  └──────suspend─────────▲  │
 *      └──── goOffline ───┴──────── goOffline ─────────┘
 *
 * Every call is safe in every state; the wrong state gives ERR_DISK_STATE and changes nothing.
 */
export interface PlaneDisk {
  /**
   * Opens the DEK with the set key, checks the digest, starts (or, after suspend, resumes) serving.
   * ERR_DEK_UNSEAL: seal corrupt or tampered with. ERR_DEK_DIGEST: another DEK. On error the disk
   * stays locked or suspended.
   */
  unlock(key: SetKeyHandle, dek: { sealed: SealedDek; aad: Uint8Array; digest: DekDigest }): void;
  /** Wipes the key and parks requests; resolves when no plaintext is left but parked writes. */
  suspend(): Promise<{ keyWipedBootMs: number; parkedRequests: number }>;
  /**
   * DESIGN.md section 3, "Going offline, in order". Afterwards locked; open connections get
   * ESHUTDOWN.
   */
  goOffline(): Promise<OfflineReceipt>;
  /** Closes the disk's connections (after the linger). Resolves with how many there were. */
  disconnectClients(): Promise<number>;
  /** Closes one connection at once, whatever is under way on it. Unknown ids are ignored. */
  disconnectClient(id: number): void;
  clients(): DiskClient[];
  /**
   * From now on this lease counts; ERR_DISK_STATE when it is to be enforced on a serving disk and
   * does not hold: then nothing has changed.
   */
  setLease(lease: LeaseHandle, enforced: boolean): void;
  /** Closes the store. The disk must be locked and have no clients. */
  close(): Promise<void>;
}

export type PlaneDiskEvent =
  /** Native code found the lease ended and wiped the key: the disk is suspended now. */
  | { kind: 'lease-ended'; keyWipedBootMs: number }
  | { kind: 'store-error'; operation: string; errno: string }
  /** The store is a block device that goes through the page cache all the same. */
  | { kind: 'store-buffered'; message: string }
  | { kind: 'client-connected'; clients: number }
  | { kind: 'client-disconnected'; clients: number };

/** The data plane as `disks` sees it. */
export interface DiskPlane {
  /**
   * Opens the store; errors: ERR_STORE_OPEN with path and errno, ERR_STORE_SIZE with both sizes,
   * ERR_STORE_DIRECT with both figures.
   */
  openDisk(spec: DiskSpec, onEvent: (event: PlaneDiskEvent) => void): Promise<PlaneDisk>;
  /**
   * Throws ERR_STORE_DIRECT when a disk of this kind could not have the store `direct`. The store
   * stays closed.
   */
  checkDirect(spec: Pick<DiskSpec, 'storePath' | 'sectorSizeBytes' | 'dataOffsetBytes'>): void;
  /** Gives a range of a store back to what lies below; false where that cannot be done. */
  discardRange(path: string, offsetBytes: number, lengthBytes: number): boolean;
}

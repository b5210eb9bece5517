// SPDX-License-Identifier: Apache-2.0
import type { Peer } from '../nbd/peer.js';
import type { DekToOpen, LeaseHandle, PlatformKeyHandle } from '../sets/ports.js';
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

/** The outer layer of double encryption: its DEK, and the key that sealed it. */
export interface OuterLayer {
  readonly platform: PlatformKeyHandle;
  readonly dek: DekToOpen;
}

/** The outer pass over the inner container's header, in native memory. */
export interface OuterCipher {
  /** Whole sectors at `offsetBytes` of the outer container's data, below 16 MiB. */
  encrypt(bytes: Uint8Array, offsetBytes: number): Uint8Array;
  decrypt(bytes: Uint8Array, offsetBytes: number): Uint8Array;
  /** To be called when the header was read or written; idempotent. */
  wipe(): void;
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
   * stays locked or suspended. With `outer` the disk is encrypted twice.
   */
  unlock(key: SetKeyHandle, dek: DekToOpen, outer?: OuterLayer): void;
  /**
   * The lease from now on, for a disk that moves to another set, in whatever state it is; what is
   * under way on it goes on. ERR_SET_KEY_WIPED, and nothing has changed: `lease` is enforced and
   * has ended, or the lease before has and its end is about to be enforced. ERR_NATIVE_CLOSED.
   */
  setLease(lease: LeaseHandle, enforced: boolean): void;
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
  /** Throws ERR_DEK_UNSEAL or ERR_DEK_DIGEST. Whoever calls it wipes what it gets. */
  openOuterCipher(outer: OuterLayer, sectorSizeBytes: 512 | 4096): OuterCipher;
  /**
   * Gives a range of a store back to what stores it, durably; false where that cannot be had.
   * Erases nothing by itself: overwrite first. Throws ERR_STORE_DISCARD.
   */
  discardRange(path: string, offsetBytes: number, lengthBytes: number): boolean;
}

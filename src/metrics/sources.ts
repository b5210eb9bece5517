// SPDX-License-Identifier: Apache-2.0
import type { NativeDiskStats } from '../dataplane/addon.js';

/** What a scrape reads, at each scrape: answers from memory, never does I/O. */
export interface MetricsSources {
  /** Each disk as it is when it is asked for: a scrape of many disks takes several turns. */
  disks(): Iterable<DiskSample>;
  sets(): readonly SetSample[];
  /** NBD connections: all of them, and those still in option negotiation. */
  connections(): { readonly total: number; readonly negotiating: number };
  /** What is left of the budget of each vault. */
  vaults(): readonly VaultSample[];
  shards(): ShardsSample;
}

export interface ShardsSample {
  readonly total: number;
  readonly alive: number;
  readonly restarts: number;
  /** Of each shard, by its index. */
  readonly cpuSeconds: readonly number[];
}

export interface DiskSample {
  readonly name: string;
  readonly set: string;
  readonly sizeBytes: number;
  readonly state: 'offline' | 'online' | 'suspended';
  /** Of DESIGN.md's closed list; null when not offline. */
  readonly reason: string | null;
  readonly revoked: boolean;
  /** Null while the disk is not open in the data plane: then it has no counters. */
  readonly stats: NativeDiskStats | null;
}

export interface SetSample {
  readonly name: string;
  readonly access: 'unknown' | 'granted' | 'denied' | 'lapsed';
  readonly alarm: boolean;
  /** What a PROOF permits; null on the platform key. */
  readonly leaseSeconds: number | null;
  /** Null before the first PROOF. */
  readonly leaseSecondsLeft: number | null;
  /** The availability key stands in for a vault without an answer. */
  readonly availabilityInUse: boolean;
  readonly rotationFailing: boolean;
  /** Null on the platform key. */
  readonly revocationDeadlineSeconds: number | null;
  /** The longest since the start; null before the first revocation. */
  readonly revocationMaxSeconds: number | null;
  readonly keys: readonly KeySample[];
}

export interface VaultSample {
  readonly vault: string;
  readonly probeTokens: number;
  readonly bulkTokens: number;
  readonly throttled: number;
}

export interface KeySample {
  readonly version: string;
  /** Wall clock, milliseconds; null before the first probe. */
  readonly lastProbeMs: number | null;
  readonly verdict: 'PROOF' | 'DENIED' | 'NO-ANSWER' | null;
  /** Wall clock, milliseconds; null when the key has no date or was never looked at. */
  readonly expiresMs: number | null;
}

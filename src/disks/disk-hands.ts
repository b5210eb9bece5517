// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { HeaderMetadata } from '../luks2/metadata.js';
import type { Peer } from '../nbd/peer.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import { codes } from './errors.js';
import type { DiskCause, DiskRef, EmitDiskEvent } from './events.js';
import { dekOf, type HeaderStore, type LoadedHeader } from './header-store.js';
import type { OfflineFacts } from './control.js';
import type { Limiter } from './limiter.js';
import type { DiskClient, DiskPlane, PlaneDisk, PlaneDiskEvent } from './ports.js';
import { dataOffsetBytesOf, type DiskRecord } from './record.js';

export interface DiskHandsOptions {
  readonly record: () => DiskRecord;
  readonly set: () => EncryptionSet | undefined;
  readonly plane: DiskPlane;
  readonly headers: HeaderStore;
  readonly opening: Limiter;
  readonly clock: Clock;
  readonly random: Random;
  readonly emit: EmitDiskEvent;
  readonly onPlaneEvent: (event: PlaneDiskEvent) => void;
}

/** Why and when something was set in motion: for receipts. */
export interface Decision {
  readonly cause: DiskCause;
  readonly decidedBootMs: number;
  readonly verdictStartedBootMs: number | undefined;
  readonly verdictReceivedBootMs: number | undefined;
}

/**
 * The hands of one disk: everything that touches store, set key and data plane. Called by its
 * runner only, one call at a time; decides nothing.
 */
export class DiskHands {
  readonly #options: DiskHandsOptions;
  #planeDisk: PlaneDisk | undefined;
  #header: LoadedHeader | undefined;
  #unlockedBootMs = 0;
  /** The receipt that the next disconnect completes. */
  #receiptId: string | undefined;

  constructor(options: DiskHandsOptions) {
    this.#options = options;
  }

  get #ref(): DiskRef {
    const { name, uuid, set } = this.#options.record();
    return { name, uuid, set };
  }

  get planeDisk(): PlaneDisk | undefined {
    return this.#planeDisk;
  }

  clients(): DiskClient[] {
    return this.#planeDisk?.clients() ?? [];
  }

  /** Closes the sessions of peers that may not use the disk; returns how many there were. */
  expel(admits: (peer: Peer) => boolean): number {
    const expelled = this.clients().filter(({ peer }) => !admits(peer));
    for (const { id, peer } of expelled) {
      this.#planeDisk?.disconnectClient(id);
      this.#options.emit('client-expelled', { disk: this.#ref, peer });
    }
    return expelled.length;
  }

  /** True for news of a wipe that an unlock has overtaken. */
  isStale(keyWipedBootMs: number): boolean {
    return keyWipedBootMs < this.#unlockedBootMs;
  }

  /**
   * Opens the store unless it is still open, and unlocks. If it throws, what it opened is closed.
   */
  async open(): Promise<void> {
    const wasOpen = this.#planeDisk !== undefined;
    try {
      await this.#options.opening.run(async () => {
        const set = this.#assertSet();
        set.assertGranted();
        const header = await this.#loadHeader(set);
        this.#header = header;
        this.#planeDisk ??= await this.#openPlane(set);
        await this.#unlock(set, this.#planeDisk, { header, resumed: false });
      });
    } catch (error) {
      if (!wasOpen) await this.disconnect();
      throw error;
    }
  }

  async resume(): Promise<void> {
    const planeDisk = this.#planeDisk;
    const header = this.#header;
    if (planeDisk === undefined || header === undefined) {
      throw new Error(`disk ${this.#ref.name}: resumed without an open store`);
    }
    await this.#unlock(this.#assertSet(), planeDisk, { header, resumed: true });
  }

  async suspend(): Promise<void> {
    try {
      const suspended = await this.#planeDisk?.suspend();
      if (suspended === undefined) return;
      this.#options.emit('suspended', { disk: this.#ref, ...suspended, by: 'control' });
    } catch (error) {
      // Native code, which watches the lease itself, may have been first.
      if (codeOf(error) !== 'ERR_DISK_STATE') throw error;
    }
  }

  async goOffline(facts: OfflineFacts, decision: Decision): Promise<void> {
    const planeDisk = this.#planeDisk;
    if (planeDisk === undefined) return;
    const { emit, random } = this.#options;
    try {
      const receipt = await planeDisk.goOffline();
      this.#receiptId = random.uuid();
      const { reason, keyVersion, vaultRequestId, message } = facts;
      emit('offline-receipt', {
        disk: this.#ref,
        receiptId: this.#receiptId,
        reason,
        keyVersion,
        vaultRequestId,
        message,
        ...decision,
        wipedAfterMs: receipt.keyWipedBootMs - decision.decidedBootMs,
        drainedAfterMs: receipt.drainedBootMs - decision.decidedBootMs,
        receipt,
      });
    } catch (error) {
      this.#reportFailure(error);
    }
  }

  /** Closes connections and store; afterwards nothing of the disk is open. */
  async disconnect(): Promise<void> {
    const planeDisk = this.#planeDisk;
    if (planeDisk === undefined) return;
    const receiptId = this.#receiptId;
    this.#receiptId = undefined;
    try {
      const connections = await planeDisk.disconnectClients();
      const bootMs = this.#options.clock.bootMs();
      this.#options.emit('clients-disconnected', {
        disk: this.#ref,
        receiptId,
        connections,
        bootMs,
      });
      await planeDisk.close();
    } catch (error) {
      this.#reportFailure(error);
    } finally {
      this.#planeDisk = undefined;
      this.#header = undefined;
    }
  }

  /** Binds an open disk to the lease of its set, as the set's record wants it. */
  followLease(set: EncryptionSet): void {
    this.#planeDisk?.setLease(set.lease, set.leaseEnforced);
  }

  /** The header was written anew: a disk that resumes must know how its DEK is sealed now. */
  noteHeader(metadata: HeaderMetadata): void {
    if (this.#header !== undefined) this.#header = { ...this.#header, dek: dekOf(metadata) };
  }

  async #loadHeader(set: EncryptionSet): Promise<LoadedHeader> {
    const { headers, emit } = this.#options;
    const header = await headers.load(this.#options.record(), {
      id: set.id,
      setKeyGeneration: set.record.setKeyGeneration,
    });
    for (const repair of header.repairs) {
      emit('header-damaged', { disk: this.#ref, ...repair });
    }
    return header;
  }

  async #openPlane(set: EncryptionSet): Promise<PlaneDisk> {
    const { plane, onPlaneEvent } = this.#options;
    const record = this.#options.record();
    const { name, uuid, sizeBytes, sectorSizeBytes, readOnly, dmCrypt, store } = record;
    return plane.openDisk(
      {
        name,
        uuid,
        sizeBytes,
        sectorSizeBytes,
        storePath: store.path,
        dataOffsetBytes: dataOffsetBytesOf(record),
        readOnly,
        holes: !dmCrypt,
        direct: store.direct,
        lease: set.lease,
        leaseEnforced: set.leaseEnforced,
      },
      onPlaneEvent,
    );
  }

  async #unlock(
    set: EncryptionSet,
    planeDisk: PlaneDisk,
    { header, resumed }: { header: LoadedHeader; resumed: boolean },
  ): Promise<void> {
    await set.useSetKey((key) => {
      const beforeBootMs = this.#options.clock.bootMs(); // what is wiped afterwards is news
      // The set's record, or the set, may be another one since the store was opened.
      planeDisk.setLease(set.lease, set.leaseEnforced);
      planeDisk.unlock(key, header.dek, header.outer);
      this.#unlockedBootMs = beforeBootMs;
    });
    this.#options.emit('unlocked', { disk: this.#ref, resumed });
  }

  #assertSet(): EncryptionSet {
    const set = this.#options.set();
    const record = this.#options.record();
    if (set !== undefined) return set;
    throw new KeyholdError(
      codes.ERR_DISK_KEY_INACCESSIBLE,
      `attaching disk ${record.name}: its encryption set ${record.set.name} (${record.set.id}) ` +
        'cannot be loaded',
      { fields: { disk: record.name, set: record.set.name } },
    );
  }

  #reportFailure(error: unknown): void {
    const code = codeOf(error) ?? 'ERR_INTERNAL';
    this.#options.emit('offline-failed', { disk: this.#ref, code, message: messageOf(error) });
  }
}

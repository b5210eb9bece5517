// SPDX-License-Identifier: Apache-2.0
import { createDecipheriv, createHash } from 'node:crypto';
import type { Clock } from '../../src/base/clock.js';
import { KeyholdError } from '../../src/base/errors.js';
import type {
  DiskClient,
  DiskPlane,
  DiskSpec,
  OfflineReceipt,
  PlaneDisk,
  PlaneDiskEvent,
} from '../../src/disks/ports.js';
import type { Peer } from '../../src/nbd/peer.js';
import type { DekDigest, LeaseHandle, SealedDek } from '../../src/sets/ports.js';
import type { SetKeyHandle } from '../../src/vault/types.js';
import { fakeKey, fakeLease } from './fakes.js';

export const LOCAL_PEER: Peer = {
  address: { kind: 'unix', pid: 1000, uid: 1000, gid: 1000 },
  tls: null,
};

/** A disk of the fake plane. Enforces the lease as native code does. */
export class FakePlaneDisk implements PlaneDisk {
  spec: DiskSpec;
  readonly #clock: Clock;
  readonly #onEvent: (event: PlaneDiskEvent) => void;
  #endWatch: () => void;
  readonly #onClose: () => void;
  readonly connected = new Map<number, Peer>();
  mode: 'locked' | 'serving' | 'suspended' | 'closed' = 'locked';
  dek: Buffer | undefined;
  /** Requests that are parked while the disk is suspended; resumed or refused later. */
  parked = 0;
  refused = 0;
  /** What each client has asked so far. */
  requests = 0;
  /** How long draining takes. */
  drainMs = 0;
  #nextClient = 1;

  constructor(
    spec: DiskSpec,
    options: { clock: Clock; onEvent: (event: PlaneDiskEvent) => void; onClose: () => void },
  ) {
    this.spec = spec;
    this.#clock = options.clock;
    this.#onEvent = options.onEvent;
    this.#onClose = options.onClose;
    this.#endWatch = fakeLease(spec.lease).onEnd(() => this.#leaseEnded());
  }

  connect(peer: Peer = LOCAL_PEER): number {
    const id = this.#nextClient;
    this.#nextClient += 1;
    this.connected.set(id, peer);
    this.#onEvent({ kind: 'client-connected', clients: this.connected.size });
    return id;
  }

  leave(id: number): void {
    this.connected.delete(id);
    this.#onEvent({ kind: 'client-disconnected', clients: this.connected.size });
  }

  fail(operation: string, errno: string): void {
    this.#onEvent({ kind: 'store-error', operation, errno });
  }

  /** News that arrives late, as across threads it may. */
  tell(event: PlaneDiskEvent): void {
    this.#onEvent(event);
  }

  unlock(
    key: SetKeyHandle,
    { sealed, aad, digest }: { sealed: SealedDek; aad: Uint8Array; digest: DekDigest },
  ): void {
    if (this.mode !== 'locked' && this.mode !== 'suspended') throw this.#stateError('unlock');
    if (key.wiped) throw new KeyholdError('ERR_SET_KEY_WIPED', 'wiped');
    const decipher = createDecipheriv('aes-256-gcm', fakeKey(key).bytes, sealed.nonce);
    decipher.setAAD(aad).setAuthTag(Buffer.from(sealed.tag));
    let dek: Buffer;
    try {
      dek = Buffer.concat([decipher.update(sealed.ciphertext), decipher.final()]);
    } catch {
      throw new KeyholdError('ERR_DEK_UNSEAL', 'corrupt or tampered with');
    }
    if (!createHash('sha256').update(dek).digest().equals(digest.digest)) {
      throw new KeyholdError('ERR_DEK_UNSEAL', 'another DEK');
    }
    this.dek = dek;
    this.mode = 'serving';
    this.parked = 0;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port is asynchronous
  async suspend(): Promise<{ keyWipedBootMs: number; parkedRequests: number }> {
    if (this.mode !== 'serving') throw this.#stateError('suspend');
    this.#wipe();
    this.mode = 'suspended';
    return { keyWipedBootMs: this.#clock.bootMs(), parkedRequests: this.parked };
  }

  async goOffline(): Promise<OfflineReceipt> {
    if (this.mode !== 'serving' && this.mode !== 'suspended') throw this.#stateError('goOffline');
    const requestedBootMs = this.#clock.bootMs();
    this.#wipe();
    this.mode = 'locked';
    this.refused += this.parked;
    this.parked = 0;
    if (this.drainMs > 0)
      await new Promise<void>((done) => this.#clock.setTimer(this.drainMs, done));
    const bootMs = this.#clock.bootMs();
    return {
      requestedBootMs,
      keyWipedBootMs: requestedBootMs,
      drainedBootMs: bootMs,
      flushedBootMs: bootMs,
      refusedRequests: this.refused,
      connections: this.connected.size,
    };
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port is asynchronous
  async disconnectClients(): Promise<number> {
    const count = this.connected.size;
    for (const id of [...this.connected.keys()]) this.leave(id);
    return count;
  }

  disconnectClient(id: number): void {
    this.leave(id);
  }

  clients(): DiskClient[] {
    const { requests } = this;
    return [...this.connected].map(([id, peer]) => ({ id, peer, connectedAtBootMs: 0, requests }));
  }

  setLease(lease: LeaseHandle, enforced: boolean): void {
    if (enforced && this.mode === 'serving' && !fakeLease(lease).holds()) {
      throw this.#stateError('setLease');
    }
    this.#endWatch();
    this.spec = { ...this.spec, lease, leaseEnforced: enforced };
    this.#endWatch = fakeLease(lease).onEnd(() => this.#leaseEnded());
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port is asynchronous
  async close(): Promise<void> {
    if (this.mode !== 'locked' || this.connected.size > 0) throw this.#stateError('close');
    this.mode = 'closed';
    this.#endWatch();
    this.#onClose();
  }

  #leaseEnded(): void {
    if (!this.spec.leaseEnforced || this.mode !== 'serving') return;
    this.#wipe();
    this.mode = 'suspended';
    const keyWipedBootMs = this.#clock.bootMs();
    // Native code tells through a thread-safe function: never in the same turn.
    queueMicrotask(() => this.#onEvent({ kind: 'lease-ended', keyWipedBootMs }));
  }

  #wipe(): void {
    this.dek?.fill(0);
    this.dek = undefined;
  }

  #stateError(operation: string): KeyholdError {
    return new KeyholdError('ERR_DISK_STATE', `${operation}: disk is ${this.mode}`);
  }
}

export class FakePlane implements DiskPlane {
  readonly #clock: Clock;
  readonly open = new Map<string, FakePlaneDisk>();
  opened = 0;
  failOpen: KeyholdError | undefined;
  failDirect: KeyholdError | undefined;
  /** What was asked of stores that must be direct. */
  readonly directChecked: object[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port is asynchronous
  async openDisk(spec: DiskSpec, onEvent: (event: PlaneDiskEvent) => void): Promise<FakePlaneDisk> {
    if (this.failOpen !== undefined) throw this.failOpen;
    if (this.open.has(spec.name)) throw new KeyholdError('ERR_STORE_OPEN', 'open already');
    this.opened += 1;
    const onClose = (): void => void this.open.delete(spec.name);
    const disk = new FakePlaneDisk(spec, { clock: this.#clock, onEvent, onClose });
    this.open.set(spec.name, disk);
    return disk;
  }

  readonly discarded: Array<{ path: string; offsetBytes: number; lengthBytes: number }> = [];

  discardRange(path: string, offsetBytes: number, lengthBytes: number): boolean {
    this.discarded.push({ path, offsetBytes, lengthBytes });
    return true;
  }

  checkDirect(spec: Pick<DiskSpec, 'storePath' | 'sectorSizeBytes' | 'dataOffsetBytes'>): void {
    if (this.failDirect !== undefined) throw this.failDirect;
    this.directChecked.push(spec);
  }
}

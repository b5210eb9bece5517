// SPDX-License-Identifier: Apache-2.0
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { Clock } from '../../src/base/clock.js';
import { KeyholdError } from '../../src/base/errors.js';
import type {
  DiskClient,
  DiskPlane,
  DiskSpec,
  OfflineReceipt,
  OuterCipher,
  OuterLayer,
  PlaneDisk,
  PlaneDiskEvent,
} from '../../src/disks/ports.js';
import type { Peer } from '../../src/nbd/peer.js';
import type { DekToOpen, LeaseHandle } from '../../src/sets/ports.js';
import type { SetKeyHandle } from '../../src/vault/types.js';
import { fakePlatformKey, openFakeDek } from './fake-seal.js';
import { fakeKey, type FakeLease, fakeLease } from './fake-custody.js';

export const LOCAL_PEER: Peer = {
  address: { kind: 'unix', pid: 1000, uid: 1000, gid: 1000 },
  tls: null,
};

/** A disk of the fake plane. Enforces the lease as native code does. */
export class FakePlaneDisk implements PlaneDisk {
  readonly spec: DiskSpec;
  readonly #clock: Clock;
  readonly #onEvent: (event: PlaneDiskEvent) => void;
  #endWatch: () => void;
  /** The lease that is enforced. */
  #lease: FakeLease | undefined;
  readonly #onClose: () => void;
  readonly connected = new Map<number, Peer>();
  mode: 'locked' | 'serving' | 'suspended' | 'closed' = 'locked';
  dek: Buffer | undefined;
  /** The outer DEK of a disk that is encrypted twice. */
  outerDek: Buffer | undefined;
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
    this.#lease = spec.leaseEnforced ? fakeLease(spec.lease) : undefined;
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

  unlock(key: SetKeyHandle, dek: DekToOpen, outer?: OuterLayer): void {
    if (this.mode !== 'locked' && this.mode !== 'suspended') throw this.#stateError('unlock');
    if (key.wiped) throw new KeyholdError('ERR_SET_KEY_WIPED', 'wiped');
    if (this.#lease?.holds() === false) throw leaseEnded();
    const opened = openFakeDek(fakeKey(key).bytes, dek);
    this.outerDek =
      outer === undefined
        ? undefined
        : openFakeDek(fakePlatformKey(outer.platform).bytes, outer.dek);
    this.dek = opened;
    this.mode = 'serving';
    this.parked = 0;
  }

  setLease(lease: LeaseHandle, enforced: boolean): void {
    if (this.mode === 'closed') throw new KeyholdError('ERR_NATIVE_CLOSED', 'closed');
    const own = fakeLease(lease);
    const [before, next] = [this.#lease, enforced ? own : undefined];
    if (before === next) return;
    const lapsed = this.mode === 'serving' && before?.holds() === false;
    if (lapsed || next?.holds() === false) throw leaseEnded();
    this.#endWatch();
    this.#lease = next;
    this.#endWatch = own.onEnd(() => this.#leaseEnded());
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

  // eslint-disable-next-line @typescript-eslint/require-await -- the port is asynchronous
  async close(): Promise<void> {
    if (this.mode !== 'locked' || this.connected.size > 0) throw this.#stateError('close');
    this.mode = 'closed';
    this.#endWatch();
    this.#onClose();
  }

  /** Its process is gone. */
  kill(): void {
    this.#wipe();
    this.mode = 'closed';
    this.#endWatch();
  }

  /** What native code does by its own look at the clock, with the first request after a sleep. */
  enforceLease(): void {
    if (this.#lease?.holds() === false) this.#leaseEnded();
  }

  #leaseEnded(): void {
    if (this.#lease === undefined || this.mode !== 'serving') return;
    this.#wipe();
    this.mode = 'suspended';
    const keyWipedBootMs = this.#clock.bootMs();
    // Native code tells through a thread-safe function: never in the same turn.
    queueMicrotask(() => this.#onEvent({ kind: 'lease-ended', keyWipedBootMs }));
  }

  #wipe(): void {
    this.dek?.fill(0);
    this.dek = undefined;
    this.outerDek?.fill(0);
    this.outerDek = undefined;
  }

  #stateError(operation: string): KeyholdError {
    return new KeyholdError('ERR_DISK_STATE', `${operation}: disk is ${this.mode}`);
  }
}

function leaseEnded(): KeyholdError {
  return new KeyholdError('ERR_SET_KEY_WIPED', 'the lease has ended');
}

export class FakePlane implements DiskPlane {
  readonly #clock: Clock;
  readonly open = new Map<string, FakePlaneDisk>();
  opened = 0;
  failOpen: KeyholdError | undefined;
  failDirect: KeyholdError | undefined;
  /** What was asked of stores that must be direct. */
  readonly directChecked: object[] = [];
  readonly discarded: object[] = [];

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

  checkDirect(spec: Pick<DiskSpec, 'storePath' | 'sectorSizeBytes' | 'dataOffsetBytes'>): void {
    if (this.failDirect !== undefined) throw this.failDirect;
    this.directChecked.push(spec);
  }

  openOuterCipher({ platform, dek }: OuterLayer, sectorSizeBytes: 512 | 4096): OuterCipher {
    const key = openFakeDek(fakePlatformKey(platform).bytes, dek);
    const run = (bytes: Uint8Array, offsetBytes: number, encrypt: boolean): Uint8Array => {
      const sectors: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += sectorSizeBytes) {
        const tweak = Buffer.alloc(16);
        tweak.writeBigUInt64LE(BigInt((offsetBytes + at) / 512));
        const create = encrypt ? createCipheriv : createDecipheriv;
        const cipher = create('aes-256-xts', key, tweak);
        sectors.push(cipher.update(bytes.subarray(at, at + sectorSizeBytes)));
      }
      return new Uint8Array(Buffer.concat(sectors));
    };
    return {
      encrypt: (bytes, offsetBytes) => run(bytes, offsetBytes, true),
      decrypt: (bytes, offsetBytes) => run(bytes, offsetBytes, false),
      wipe: () => void key.fill(0),
    };
  }

  discardRange(path: string, offsetBytes: number, lengthBytes: number): boolean {
    this.discarded.push({ path, offsetBytes, lengthBytes });
    return true;
  }
}

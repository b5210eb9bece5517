// SPDX-License-Identifier: Apache-2.0
import type { DiskClient, OfflineReceipt, OuterLayer, PlaneDisk } from '../disks/ports.js';
import type { DekToOpen, LeaseHandle } from '../sets/ports.js';
import type { SetKeyHandle } from '../vault/types.js';
import type { NativeDisk, NativeDiskStats } from './addon.js';
import { nativeLease, nativeSetKey } from './custody.js';
import { awaitNative, callNative } from './errors.js';
import { nativePlatformKey } from './platform-key.js';

/** A native disk behind the port that `disks` steers. */
export class DataPlaneDisk implements PlaneDisk {
  readonly native: NativeDisk;
  readonly name: string;
  readonly #clients: () => DiskClient[];
  readonly #disconnectClient: (id: number) => void;
  readonly #onClosed: () => void;

  constructor(options: {
    native: NativeDisk;
    name: string;
    clients: () => DiskClient[];
    disconnectClient: (id: number) => void;
    onClosed: () => void;
  }) {
    this.native = options.native;
    this.name = options.name;
    this.#clients = options.clients;
    this.#disconnectClient = options.disconnectClient;
    this.#onClosed = options.onClosed;
  }

  unlock(key: SetKeyHandle, dek: DekToOpen, outer?: OuterLayer): void {
    const nativeOuter =
      outer === undefined
        ? null
        : {
            platform: nativePlatformKey(outer.platform),
            sealed: outer.dek.sealed,
            aad: outer.dek.aad,
            digest: outer.dek.digest,
          };
    callNative(`unlocking disk ${this.name}`, () =>
      this.native.unlock(nativeSetKey(key), dek.sealed, dek.aad, dek.digest, nativeOuter),
    );
  }

  setLease(lease: LeaseHandle, enforced: boolean): void {
    callNative(`setting the lease of disk ${this.name}`, () =>
      this.native.setLease(nativeLease(lease), enforced),
    );
  }

  async suspend(): Promise<{ keyWipedBootMs: number; parkedRequests: number }> {
    return awaitNative(`suspending disk ${this.name}`, () => this.native.suspend());
  }

  async goOffline(): Promise<OfflineReceipt> {
    return awaitNative(`taking disk ${this.name} offline`, () => this.native.goOffline());
  }

  async disconnectClients(): Promise<number> {
    return awaitNative(`disconnecting clients of disk ${this.name}`, () =>
      this.native.disconnectClients(),
    );
  }

  disconnectClient(id: number): void {
    this.#disconnectClient(id);
  }

  clients(): DiskClient[] {
    return this.#clients();
  }

  stats(): NativeDiskStats {
    return this.native.stats();
  }

  async close(): Promise<void> {
    await awaitNative(`closing the store of disk ${this.name}`, () => this.native.close());
    this.#onClosed();
  }
}

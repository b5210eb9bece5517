// SPDX-License-Identifier: Apache-2.0
import type { PlaneDiskEvent } from '../disks/ports.js';
import type { NativeDisk, NativePlane } from './addon.js';
import { clientsOf } from './plane-connections.js';
import { DataPlaneDisk } from './plane-disk.js';

interface OpenDisk {
  readonly disk: DataPlaneDisk;
  readonly onEvent: (event: PlaneDiskEvent) => void;
}

/** The disks that the plane has open, until they close, and who hears what happens to each. */
export class OpenDisks {
  readonly #plane: NativePlane;
  readonly #disks = new Map<number, OpenDisk>();
  readonly #idByName = new Map<string, number>();

  constructor(plane: NativePlane) {
    this.#plane = plane;
  }

  add(native: NativeDisk, name: string, onEvent: OpenDisk['onEvent']): DataPlaneDisk {
    const disk = new DataPlaneDisk({
      native,
      name,
      clients: () => clientsOf(this.#plane, native),
      disconnectClient: (id) => this.#plane.closeConnection(id),
      onClosed: () => {
        this.#disks.delete(native.id);
        if (this.#idByName.get(name) === native.id) this.#idByName.delete(name);
      },
    });
    this.#disks.set(native.id, { disk, onEvent });
    this.#idByName.set(name, native.id);
    return disk;
  }

  idOf(name: string): number | undefined {
    return this.#idByName.get(name);
  }

  nameOf(id: number): string | undefined {
    return this.#disks.get(id)?.disk.name;
  }

  byName(name: string): DataPlaneDisk | undefined {
    const id = this.#idByName.get(name);
    return id === undefined ? undefined : this.#disks.get(id)?.disk;
  }

  /** An event of a disk that has closed meanwhile is nobody's. */
  tell(id: number, event: PlaneDiskEvent): void {
    this.#disks.get(id)?.onEvent(event);
  }

  tellClients(id: number, kind: 'client-connected' | 'client-disconnected'): void {
    const open = this.#disks.get(id);
    if (open === undefined) return;
    open.onEvent({ kind, clients: open.disk.native.connectionCount() });
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { DiskClient } from '../disks/ports.js';
import type { Peer } from '../nbd/peer.js';
import type { NativeConnection, NativeDisk, NativePlane } from './addon.js';

/** One connection for operators. */
export interface PlaneConnection {
  readonly id: number;
  readonly peer: Peer;
  /** Null while in negotiation. */
  readonly disk: string | null;
  readonly connectedAtBootMs: number;
  readonly inFlight: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly requests: number;
}

/** Every connection with its peer and its disk, as it is now. */
export function describeConnections(
  native: NativePlane,
  diskName: (diskId: number) => string | undefined,
): PlaneConnection[] {
  return native.connections().map((connection) => ({
    id: connection.id,
    peer: peerOf(connection),
    disk: diskName(connection.diskId) ?? null,
    connectedAtBootMs: connection.connectedAtBootMs,
    inFlight: connection.inFlight,
    bytesIn: connection.bytesIn,
    bytesOut: connection.bytesOut,
    requests: connection.requests,
  }));
}

/** The connections that one disk serves. */
export function clientsOf(native: NativePlane, disk: NativeDisk): DiskClient[] {
  // Asked of every disk at every probe and list: so a disk without clients must not cost a look
  // at the connections of all others.
  if (disk.connectionCount() === 0) return [];
  return native
    .connections()
    .filter((connection) => connection.diskId === disk.id)
    .map((connection) => ({
      id: connection.id,
      peer: peerOf(connection),
      connectedAtBootMs: connection.connectedAtBootMs,
      requests: connection.requests,
    }));
}

function peerOf({ peer: address, tls }: NativeConnection): Peer {
  return { address, tls };
}

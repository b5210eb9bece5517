// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';

/** null: no disk and no cryptography; plain: no cryptography; encrypting: as we do. */
export type PeerKind = 'keyhold' | 'null' | 'plain' | 'encrypting';

export interface Peer {
  readonly name: string;
  readonly kind: PeerKind;
  readonly uri: string;
  readonly sizeBytes: number;
  /** Of the server; what its descendants use is counted with it. */
  readonly pid: number;
}

/** Where a server puts what it needs. Sockets apart: their paths must be short. */
export interface Places {
  readonly stores: string;
  readonly sockets: string;
}

export interface Running {
  readonly peers: readonly Peer[];
  stop(): Promise<void>;
}

/** Large enough that a run does not sit in the processor's caches, small enough for /dev/shm. */
export const DISK_BYTES = 1024 * 1024 * 1024;

export const repository = new URL('../', import.meta.url).pathname;

/** A program that `.ci/setup bench` builds. */
export function benchProgram(name: string): string {
  return join(repository, 'native/build/bench', name);
}

export function uriOf(socket: string, name = ''): string {
  return `nbd+unix:///${name}?socket=${socket}`;
}

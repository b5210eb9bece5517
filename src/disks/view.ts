// SPDX-License-Identifier: Apache-2.0
import { secondsLeft } from '../sets/view.js';
import type { DiskRunner } from './disk-runner.js';
import type { DiskStateView } from './events.js';
import type { OfflineReason } from './record.js';

/** What `disk show --json` prints. */
export interface DiskView {
  readonly name: string;
  readonly uuid: string;
  readonly state: DiskStateView['state'];
  readonly reason: OfflineReason | null;
  readonly revoked: boolean;
  readonly since: string;
  readonly sizeBytes: number;
  readonly sectorSizeBytes: 512 | 4096;
  readonly store: string;
  readonly set: string;
  readonly keyVersion: string | null;
  readonly vaultRequestId: string | null;
  readonly clients: number;
  readonly leaseSecondsLeft: number | null;
  readonly readOnly: boolean;
  readonly dmCrypt: boolean;
  readonly double: boolean;
  readonly rotational: boolean;
  readonly direct: boolean;
  /** Empty when it has none. */
  readonly description: string;
  /** Rules of the allow list; empty: the peers of this machine. */
  readonly allow: readonly string[];
  readonly attached: boolean;
  readonly message: string | null;
}

export function viewDisk(runner: DiskRunner): DiskView {
  const { record, state, set } = runner;
  return {
    name: record.name,
    uuid: record.uuid,
    state: state.state,
    reason: state.reason,
    revoked: state.revoked,
    since: new Date(state.sinceMs).toISOString(),
    sizeBytes: record.sizeBytes,
    sectorSizeBytes: record.sectorSizeBytes,
    store: record.store.path,
    set: record.set.name,
    keyVersion: state.keyVersion,
    vaultRequestId: state.vaultRequestId,
    clients: runner.clients.length,
    leaseSecondsLeft: set === undefined ? null : secondsLeft(set),
    readOnly: record.readOnly,
    dmCrypt: record.dmCrypt,
    double: record.double,
    rotational: record.rotational,
    direct: record.store.direct,
    description: record.description,
    allow: record.allow,
    attached: runner.attached,
    message: state.message,
  };
}

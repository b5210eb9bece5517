// SPDX-License-Identifier: Apache-2.0
import { quoteName } from '../base/names.js';
import type { ExportDirectory, ExportInfo, ExportRefusal } from '../nbd/exports.js';
import type { Peer } from '../nbd/peer.js';
import type { DiskRunner } from './disk-runner.js';
import type { DiskEvents, RefusalReason } from './events.js';

/**
 * The disks as one NBD client sees them, at the moment of each question. A disk that does not admit
 * the peer is answered in the words for one that does not exist, so that names cannot be found by
 * trying. Touches memory only: no store is opened and no vault is called for anybody's question.
 */
export function createExportDirectory(
  peer: Peer,
  options: {
    runners: ReadonlyMap<string, DiskRunner>;
    refused: (refusal: DiskEvents['refused']) => void;
  },
): ExportDirectory {
  const { runners, refused } = options;
  const refuse = (reason: RefusalReason, name: string, text: string): ExportRefusal => {
    refused({ reason, name, peer });
    return { refused: reason === 'offline' ? 'offline' : 'unknown', text };
  };
  return {
    list: () =>
      [...runners.values()]
        .filter((runner) => runner.state.state !== 'offline' && runner.admits(peer))
        .map(({ record: { name, description } }) => ({ name, description }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    find(name) {
      const runner = runners.get(name);
      if (runner?.admits(peer) !== true) {
        const reason = runner === undefined ? 'unknown' : 'denied';
        return refuse(reason, name, `no export ${quoteName(name)}`);
      }
      const { state } = runner;
      if (state.state !== 'offline') return infoOf(runner);
      return refuse('offline', name, `export ${name} is offline: ${state.reason ?? ''}`);
    },
  };
}

function infoOf({ record }: DiskRunner): ExportInfo {
  const { name, description, sizeBytes, sectorSizeBytes, readOnly, rotational } = record;
  return { name, description, sizeBytes, sectorSizeBytes, readOnly, rotational };
}

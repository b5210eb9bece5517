// SPDX-License-Identifier: Apache-2.0
import type { NextStep } from '../../src/dataplane/addon.js';
import type { NegotiationTransport } from '../../src/dataplane/negotiator.js';
import type { ExportDirectory, ExportInfo } from '../../src/nbd/exports.js';

interface Answer {
  readonly connectionId: number;
  readonly send: Buffer;
  readonly next: NextStep;
}

/** The shard's side: what was answered, what was cut off. */
export class FakeTransport implements NegotiationTransport {
  readonly answers: Answer[] = [];
  readonly closed: number[] = [];
  readonly diskIds = new Map([['demo', 7]]);

  respond(connectionId: number, send: Uint8Array | null, next: NextStep): void {
    this.answers.push({ connectionId, send: Buffer.from(send ?? []), next });
  }

  closeConnection(connectionId: number): void {
    this.closed.push(connectionId);
  }

  diskIdOf(exportName: string): number | undefined {
    return this.diskIds.get(exportName);
  }

  last(): Answer {
    const answer = this.answers.at(-1);
    if (answer === undefined) throw new Error('nothing was answered');
    return answer;
  }
}

export const DEMO: ExportInfo = {
  name: 'demo',
  description: '',
  sizeBytes: 2 ** 20,
  sectorSizeBytes: 512,
  readOnly: false,
  rotational: false,
};

/** Serves the given disks; asking for `fault` fails. */
export function openDirectory(...disks: ExportInfo[]): ExportDirectory {
  return {
    list: () => disks,
    find: (name) => {
      if (name === 'fault') throw new Error('a fault of our own');
      const found = disks.find((disk) => disk.name === name);
      return found ?? { refused: 'unknown', text: 'no such export' };
    },
  };
}

// SPDX-License-Identifier: Apache-2.0
import type { ExportDirectory, ExportInfo } from '../../src/nbd/exports.js';
import { createNegotiation } from '../../src/nbd/negotiation.js';
import type { Action, Negotiation, TlsMode } from '../../src/nbd/negotiation.js';
import type { NegotiationLimits } from '../../src/nbd/limits.js';
import { encodeClientFlags, parseOptionReplies } from '../support/nbd-wire.js';
import type { OptionReply } from '../support/nbd-wire.js';

export const DEMO: ExportInfo = {
  name: 'demo',
  description: 'a disk for tests',
  sizeBytes: 2 ** 30,
  sectorSizeBytes: 512,
  readOnly: false,
  rotational: false,
};

export const ARCHIVE: ExportInfo = {
  name: 'archive',
  description: '',
  sizeBytes: 2 ** 40,
  sectorSizeBytes: 4096,
  readOnly: true,
  rotational: true,
};

/** Serves the given disks; `gone` is offline, every other name unknown. */
export function directoryOf(...disks: ExportInfo[]): ExportDirectory {
  return {
    list: () => disks,
    find(name) {
      const disk = disks.find((candidate) => candidate.name === name);
      if (disk !== undefined) return disk;
      if (name === 'gone')
        return { refused: 'offline', text: 'disk gone is offline: key-disabled' };
      return { refused: 'unknown', text: 'no such export' };
    },
  };
}

export const BOTH = directoryOf(DEMO, ARCHIVE);

/** A negotiation that has received client flags. */
export function opened(
  options: {
    exports?: ExportDirectory;
    tls?: TlsMode;
    flags?: number;
    limits?: NegotiationLimits;
  } = {},
): Negotiation {
  const negotiation = createNegotiation({
    exports: options.exports ?? BOTH,
    tls: options.tls ?? 'off',
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
  negotiation.start();
  negotiation.receive(encodeClientFlags(options.flags ?? 3));
  return negotiation;
}

/** What a run of actions sends, whole. */
export function sent(actions: readonly Action[]): Buffer {
  return Buffer.concat(
    actions
      .map((action) => (action.kind === 'send' ? action.bytes : []))
      .map((bytes) => Buffer.from(bytes)),
  );
}

/** The option replies in a run of actions. */
export function replies(actions: readonly Action[]): OptionReply[] {
  return parseOptionReplies(sent(actions));
}

/**
 * What a step means: the types of the option replies, `export` for the answer to EXPORT_NAME, and
 * the kind of the last action if it is no `send`. Throws when what is sent is not well-formed.
 */
export function outcome(actions: readonly Action[]): (number | string)[] {
  const last = actions.at(-1);
  const bytes = sent(actions);
  const tail = last?.kind === 'enterTransmission' ? exportNameReplyLength(bytes) : 0;
  const whole = parseOptionReplies(bytes.subarray(0, bytes.length - tail));
  const types: (number | string)[] = whole.map(({ type }) => type);
  if (tail > 0) types.push('export');
  if (last !== undefined && last.kind !== 'send') types.push(last.kind);
  return types;
}

/** Bytes at the end that answer EXPORT_NAME; 0 when transmission began with GO's ACK. */
function exportNameReplyLength(bytes: Buffer): number {
  const endsWithAck = bytes.length >= 20 && bytes.readUInt32BE(bytes.length - 8) === 1;
  if (endsWithAck && bytes.readUInt32BE(bytes.length - 12) === 7) return 0;
  const zeroes = bytes.length >= 134 && bytes.subarray(-124).every((byte) => byte === 0);
  return zeroes ? 134 : 10;
}

/**
 * Feeds input in pieces of the given sizes (repeating) until it is used up, TLS starts or
 * negotiation ends.
 */
export function feed(
  negotiation: Negotiation,
  input: Uint8Array,
  sizes: readonly number[],
): Action[] {
  const actions: Action[] = [];
  let offset = 0;
  for (let index = 0; offset < input.length; index += 1) {
    const size = sizes[index % sizes.length] ?? 1;
    const piece = input.subarray(offset, offset + size);
    offset += piece.length;
    const step = negotiation.receive(piece);
    const last = step.at(-1);
    if (last?.kind === 'enterTransmission') {
      const leftover = Buffer.concat([last.leftover, input.subarray(offset)]);
      return [...actions, ...step.slice(0, -1), { ...last, leftover }];
    }
    actions.push(...step);
    if (last?.kind === 'close' || last?.kind === 'startTls') break;
  }
  return actions;
}

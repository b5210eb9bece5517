// SPDX-License-Identifier: Apache-2.0
import { findExport, refuseExport } from './export-lookup.js';
import type { ExportInfo } from './exports.js';
import type { OptionContext } from './option-handler.js';
import { decodeNameField, findName, invalid, type PayloadError, viewOf } from './payload.js';
import { REPLY, REPLY_ERROR } from './protocol.js';
import { encodeInfoItems } from './replies.js';

export function handleInfo(payload: Uint8Array, context: OptionContext): void {
  if (replyWithInfo('INFO', payload, context) !== undefined) context.reply(REPLY.ACK);
}

export function handleGo(payload: Uint8Array, context: OptionContext): void {
  const info = replyWithInfo('GO', payload, context);
  if (info === undefined) return;
  context.reply(REPLY.ACK);
  context.enterTransmission(info);
}

/** The common part of INFO and GO; undefined when an error was sent instead. */
function replyWithInfo(
  option: 'INFO' | 'GO',
  payload: Uint8Array,
  context: OptionContext,
): ExportInfo | undefined {
  const request = parseInfoRequest(payload);
  if ('error' in request) {
    context.replyError(request.error, `option ${option}: ${request.text}`);
    return undefined;
  }
  const found = findExport(context, request.name);
  if ('refused' in found) {
    // Only INFO and GO may say so: on others it would mean that nothing goes without TLS.
    // An export for peers with TLS and one that does not exist get the same answer: it shows a
    // client the way, and nobody which names exist.
    if (context.tls === 'clear' && found.refused === 'unknown') {
      context.replyError(REPLY_ERROR.TLS_REQD, `${found.text}; STARTTLS may show more`);
    } else {
      refuseExport(found, context);
    }
    return undefined;
  }
  for (const item of encodeInfoItems(found, request.infos, context.agreed)) {
    context.reply(REPLY.INFO, item);
  }
  return found;
}

interface InfoRequest {
  readonly name: string;
  readonly infos: ReadonlySet<number>;
}

/** Data of INFO and GO: u32 name length, name, u16 count, count × u16; it must add up. */
export function parseInfoRequest(payload: Uint8Array): InfoRequest | PayloadError {
  const data = viewOf(payload);
  const nameField = findName(data, { tailBytesMin: 2 });
  if ('error' in nameField) return nameField;
  const { nameBytes, endBytes } = nameField;
  const count = data.readUInt16BE(endBytes);
  const expected = endBytes + 2 + 2 * count;
  if (data.length !== expected) {
    return invalid(
      `has ${data.length} bytes of data, expected ${expected} for a name of ` +
        `${nameBytes.length} bytes and ${count} information requests`,
    );
  }
  const name = decodeNameField(nameBytes);
  if (typeof name !== 'string') return name;
  const infos = new Set<number>();
  for (let index = 0; index < count; index += 1) {
    infos.add(data.readUInt16BE(endBytes + 2 + 2 * index));
  }
  return { name, infos };
}

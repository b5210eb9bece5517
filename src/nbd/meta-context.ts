// SPDX-License-Identifier: Apache-2.0
import { BASE_ALLOCATION, replyKind } from './agreement.js';
import { findExport, refuseExport } from './export-lookup.js';
import type { ExportInfo } from './exports.js';
import type { OptionContext } from './option-handler.js';
import { decodeNameField, findName, invalid, type PayloadError, viewOf } from './payload.js';
import { REPLY, REPLY_ERROR, STRING_BYTES_MAX } from './protocol.js';
import { encodeMetaContextData } from './replies.js';

/** Queries of one option; the most that known clients send are a handful, one per context. */
const QUERIES_MAX = 64;

/** Every context of namespace `base` there is; only LIST knows it as a wildcard. */
const BASE_NAMESPACE = 'base:';

/** The id in the replies to LIST is reserved. */
const LISTED_ID = 0;

/** Other namespaces, other leaves and queries without a colon are ignored, as by SET. */
export function handleListMetaContext(payload: Uint8Array, context: OptionContext): void {
  const request = acceptedRequest('LIST_META_CONTEXT', payload, context);
  if (request === undefined) return;
  const { queries } = request;
  const asked = queries.has(BASE_ALLOCATION.name) || queries.has(BASE_NAMESPACE);
  if (queries.size === 0 || asked) replyContext(LISTED_ID, context);
  context.reply(REPLY.ACK);
}

/** What an earlier one selected is forgotten by the time that this is called. */
export function handleSetMetaContext(payload: Uint8Array, context: OptionContext): void {
  const request = acceptedRequest('SET_META_CONTEXT', payload, context);
  if (request === undefined) return;
  if (request.queries.has(BASE_ALLOCATION.name)) {
    context.agreed.allocationOf = request.info.name;
    replyContext(BASE_ALLOCATION.id, context);
  }
  context.reply(REPLY.ACK);
}

function replyContext(id: number, context: OptionContext): void {
  context.reply(REPLY.META_CONTEXT, encodeMetaContextData(id, BASE_ALLOCATION.name));
}

/** The common part; undefined when an error was sent instead. */
function acceptedRequest(
  option: 'LIST_META_CONTEXT' | 'SET_META_CONTEXT',
  payload: Uint8Array,
  context: OptionContext,
): { readonly info: ExportInfo; readonly queries: ReadonlySet<string> } | undefined {
  if (replyKind(context.agreed) === 'simple') {
    const text = `option ${option} needs STRUCTURED_REPLY or EXTENDED_HEADERS before it`;
    context.replyError(REPLY_ERROR.INVALID, text);
    return undefined;
  }
  const request = parseMetaRequest(payload);
  if ('error' in request) {
    context.replyError(request.error, `option ${option}: ${request.text}`);
    return undefined;
  }
  const found = findExport(context, request.name);
  if ('refused' in found) {
    refuseExport(found, context);
    return undefined;
  }
  return { info: found, queries: request.queries };
}

interface MetaRequest {
  readonly name: string;
  readonly queries: ReadonlySet<string>;
}

/** u32 name length, name, u32 count, count × (u32 length, query); it must add up. */
export function parseMetaRequest(payload: Uint8Array): MetaRequest | PayloadError {
  const data = viewOf(payload);
  const nameField = findName(data, { tailBytesMin: 4 });
  if ('error' in nameField) return nameField;
  const queries = readQueries(data, nameField.endBytes);
  if ('error' in queries) return queries;
  const name = decodeNameField(nameField.nameBytes);
  return typeof name === 'string' ? { name, queries } : name;
}

function readQueries(data: Buffer, startBytes: number): ReadonlySet<string> | PayloadError {
  const count = data.readUInt32BE(startBytes);
  let offset = startBytes + 4;
  const countMax = Math.floor((data.length - offset) / 4);
  if (count > countMax) return invalid(`number of queries is ${count}, room is for ${countMax}`);
  if (count > QUERIES_MAX) {
    const text = `number of queries is ${count}, expected at most ${QUERIES_MAX}`;
    return { error: REPLY_ERROR.TOO_BIG, text };
  }
  const queries = new Set<string>();
  for (let index = 0; index < count; index += 1) {
    if (data.length - offset < 4) return invalid(`ends before query ${index + 1} of ${count}`);
    const length = data.readUInt32BE(offset);
    const room = data.length - offset - 4;
    if (length > room) {
      return invalid(`length of query ${index + 1} is ${length}, room is for ${room}`);
    }
    if (length > STRING_BYTES_MAX) {
      const text = `length of query ${index + 1} is ${length}, expected at most ${STRING_BYTES_MAX}`;
      return { error: REPLY_ERROR.TOO_BIG, text };
    }
    // One byte, one character: no two queries become the same string.
    queries.add(data.toString('latin1', offset + 4, offset + 4 + length));
    offset += 4 + length;
  }
  if (offset === data.length) return queries;
  return invalid(`has ${data.length} bytes of data, expected ${offset} for ${count} queries`);
}

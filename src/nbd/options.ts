// SPDX-License-Identifier: Apache-2.0
import type { Agreement } from './agreement.js';
import type { ExportDirectory, ExportInfo, ExportRefusal } from './exports.js';
import type { OptionBudget } from './limits.js';
import { OPTION, REPLY, REPLY_ERROR, STRING_BYTES_MAX } from './protocol.js';
import type { ReplyError } from './protocol.js';
import { encodeInfoItems, encodeServerData } from './replies.js';
import { decodeName, printable } from './text.js';

/** Why negotiation ended without an export; also a metric label, so the list is closed. */
export type CloseReason =
  | 'client-abort'
  | 'bad-client-flags'
  | 'bad-magic'
  | 'option-before-fixed-newstyle'
  | 'option-too-large'
  | 'too-many-options'
  | 'bad-export-name'
  | 'bytes-before-tls'
  | 'export-refused'
  | 'tls-required'
  | 'shutting-down';

/** What an option's handler may do. Every handler ends its option: ACK, error, export or close. */
export interface OptionContext {
  readonly exports: ExportDirectory;
  /** What later options and the transmission phase depend on. */
  readonly agreed: Agreement;
  readonly budget: OptionBudget;
  /** `none`: this listener has no TLS. */
  readonly tls: 'none' | 'clear' | 'secured';
  reply(type: number, data?: Uint8Array): void;
  replyError(error: ReplyError, text: string): void;
  /** Negotiation is over; transmission begins with the next byte. */
  enterTransmission(info: ExportInfo): void;
  /** Asks for the handshake; the machine sends the ACK. */
  startTls(): void;
  close(reason: CloseReason, detail: string): void;
}

export interface OptionHandler {
  readonly name: string;
  /** False: the payload is skipped unread and the handler gets no bytes, however many came. */
  readonly readsPayload: boolean;
  /** True: answered as ever while the server shuts down, and not with ERR_SHUTDOWN. */
  readonly servesStopping?: true;
  handle(payload: Uint8Array, context: OptionContext): void;
}

/**
 * Every option that is answered with more than ERR_UNSUP. EXPORT_NAME is not here: it has no option
 * reply and is the state machine's own. To add an option, add an entry.
 */
export const OPTION_TABLE: ReadonlyMap<number, OptionHandler> = new Map<number, OptionHandler>([
  [OPTION.ABORT, { name: 'ABORT', readsPayload: false, servesStopping: true, handle: handleAbort }],
  [OPTION.LIST, { name: 'LIST', readsPayload: true, handle: withoutPayload('LIST', handleList) }],
  [
    OPTION.STARTTLS,
    { name: 'STARTTLS', readsPayload: true, handle: withoutPayload('STARTTLS', handleStartTls) },
  ],
  [OPTION.INFO, { name: 'INFO', readsPayload: true, handle: handleInfo }],
  [OPTION.GO, { name: 'GO', readsPayload: true, handle: handleGo }],
  [
    OPTION.STRUCTURED_REPLY,
    {
      name: 'STRUCTURED_REPLY',
      readsPayload: true,
      handle: withoutPayload('STRUCTURED_REPLY', handleStructuredReply),
    },
  ],
]);

/** The answer to every option that is not in the table. */
export function unsupportedOption(option: number): OptionHandler {
  return {
    name: String(option),
    readsPayload: false,
    handle(_payload, context) {
      context.replyError(REPLY_ERROR.UNSUP, `option ${option} is not supported`);
    },
  };
}

/** The answer to every option but STARTTLS and ABORT where TLS is required and not there yet. */
export function tlsRequired(option: number): OptionHandler {
  return {
    name: String(option),
    readsPayload: false,
    servesStopping: true,
    handle(_payload, context) {
      context.replyError(REPLY_ERROR.TLS_REQD, 'this listener requires TLS: STARTTLS comes first');
    },
  };
}

/** The export of a name; the empty name means the only export there is. */
export function findExport(exports: ExportDirectory, name: string): ExportInfo | ExportRefusal {
  if (name !== '') return exports.find(name);
  const all = exports.list();
  const only = all[0];
  if (all.length === 1 && only !== undefined) return exports.find(only.name);
  return {
    refused: 'unknown',
    text: `there is no default export: ${all.length} exports are served, expected exactly 1`,
  };
}

function withoutPayload(
  name: string,
  handle: (context: OptionContext) => void,
): OptionHandler['handle'] {
  return (payload, context) => {
    if (payload.length === 0) {
      handle(context);
      return;
    }
    const text = `option ${name} has ${payload.length} bytes of data, expected 0`;
    context.replyError(REPLY_ERROR.INVALID, text);
  };
}

function handleAbort(_payload: Uint8Array, context: OptionContext): void {
  context.reply(REPLY.ACK);
  context.close('client-abort', 'the client ended negotiation');
}

function handleList(context: OptionContext): void {
  const exports = context.exports.list();
  const tooMany = context.budget.takeList(exports.length);
  if (tooMany !== undefined) {
    context.replyError(REPLY_ERROR.POLICY, tooMany);
    return;
  }
  for (const { name, description } of exports) {
    context.reply(REPLY.SERVER, encodeServerData(name, description));
  }
  context.reply(REPLY.ACK);
}

function handleStartTls(context: OptionContext): void {
  switch (context.tls) {
    case 'none':
      context.replyError(REPLY_ERROR.POLICY, 'TLS is not offered on this listener');
      break;
    case 'secured':
      context.replyError(REPLY_ERROR.INVALID, 'TLS has been started on this connection');
      break;
    case 'clear':
      context.startTls();
      break;
  }
}

function handleStructuredReply(context: OptionContext): void {
  context.agreed.structuredReplies = true;
  context.reply(REPLY.ACK);
}

function handleInfo(payload: Uint8Array, context: OptionContext): void {
  if (replyWithInfo('INFO', payload, context) !== undefined) context.reply(REPLY.ACK);
}

function handleGo(payload: Uint8Array, context: OptionContext): void {
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
  const found = findExport(context.exports, request.name);
  if ('refused' in found) {
    refuseExport(found, context);
    return undefined;
  }
  for (const item of encodeInfoItems(found, request.infos, context.agreed)) {
    context.reply(REPLY.INFO, item);
  }
  return found;
}

/**
 * In clear on a listener that has TLS, an export for peers with TLS and one that does not exist get
 * the same answer: it shows a client the way, and nobody which names exist.
 */
function refuseExport({ refused, text }: ExportRefusal, context: OptionContext): void {
  if (refused === 'offline') {
    context.replyError(REPLY_ERROR.POLICY, text);
  } else if (context.tls === 'clear') {
    context.replyError(REPLY_ERROR.TLS_REQD, `${text}; STARTTLS may show more`);
  } else {
    context.replyError(REPLY_ERROR.UNKNOWN, text);
  }
}

type InfoRequest =
  | { readonly name: string; readonly infos: ReadonlySet<number> }
  | { readonly error: ReplyError; readonly text: string };

/** Data of INFO and GO: u32 name length, name, u16 count, count × u16; it must add up. */
export function parseInfoRequest(payload: Uint8Array): InfoRequest {
  const view = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  if (view.length < 6) return invalid(`has ${view.length} bytes of data, expected at least 6`);
  const nameLength = view.readUInt32BE(0);
  if (nameLength > view.length - 6) {
    return invalid(`name length is ${nameLength}, room is for ${view.length - 6}`);
  }
  const count = view.readUInt16BE(4 + nameLength);
  const expected = 6 + nameLength + 2 * count;
  if (view.length !== expected) {
    return invalid(
      `has ${view.length} bytes of data, expected ${expected} for a name of ${nameLength} bytes ` +
        `and ${count} information requests`,
    );
  }
  if (nameLength > STRING_BYTES_MAX) {
    const text = `name length is ${nameLength}, expected at most ${STRING_BYTES_MAX}`;
    return { error: REPLY_ERROR.TOO_BIG, text };
  }
  const nameBytes = view.subarray(4, 4 + nameLength);
  const name = decodeName(nameBytes);
  if (name === undefined) {
    return invalid(
      `name ${printable(nameBytes.toString('latin1'))} is not UTF-8 without zero bytes`,
    );
  }
  const infos = new Set<number>();
  for (let index = 0; index < count; index += 1) {
    infos.add(view.readUInt16BE(6 + nameLength + 2 * index));
  }
  return { name, infos };
}

function invalid(text: string): InfoRequest {
  return { error: REPLY_ERROR.INVALID, text };
}

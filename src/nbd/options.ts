// SPDX-License-Identifier: Apache-2.0
import { handleGo, handleInfo } from './info.js';
import { handleListMetaContext, handleSetMetaContext } from './meta-context.js';
import type { OptionContext, OptionHandler } from './option-handler.js';
import { OPTION, REPLY, REPLY_ERROR } from './protocol.js';
import { encodeServerData } from './replies.js';

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
  [
    OPTION.LIST_META_CONTEXT,
    { name: 'LIST_META_CONTEXT', readsPayload: true, handle: handleListMetaContext },
  ],
  [
    OPTION.SET_META_CONTEXT,
    {
      name: 'SET_META_CONTEXT',
      readsPayload: true,
      before(agreed) {
        agreed.allocationOf = null;
      },
      handle: handleSetMetaContext,
    },
  ],
  [
    OPTION.EXTENDED_HEADERS,
    {
      name: 'EXTENDED_HEADERS',
      readsPayload: true,
      handle: withoutPayload('EXTENDED_HEADERS', handleExtendedHeaders),
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
  if (context.agreed.extendedHeaders) {
    const text = 'extended headers were agreed on, structured replies come no longer';
    context.replyError(REPLY_ERROR.EXT_HEADER_REQD, text);
    return;
  }
  context.agreed.structuredReplies = true;
  context.reply(REPLY.ACK);
}

/** Needs no structured replies before it, and comes before them if both were agreed on. */
function handleExtendedHeaders(context: OptionContext): void {
  context.agreed.extendedHeaders = true;
  context.reply(REPLY.ACK);
}

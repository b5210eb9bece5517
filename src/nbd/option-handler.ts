// SPDX-License-Identifier: Apache-2.0
import type { Agreement } from './agreement.js';
import type { ExportDirectory, ExportInfo } from './exports.js';
import type { OptionBudget } from './limits.js';
import type { ReplyError } from './protocol.js';

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
  | 'export-name-after-extended-headers'
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
  /** Takes effect before the answer, and whatever the answer is. */
  before?(agreed: Agreement): void;
  handle(payload: Uint8Array, context: OptionContext): void;
}

// SPDX-License-Identifier: Apache-2.0
import { allocationContextId, newAgreement, replyKind } from './agreement.js';
import type { Agreement, ReplyKind } from './agreement.js';
import type { ExportDirectory, ExportInfo } from './exports.js';
import { DEFAULT_LIMITS, OptionBudget } from './limits.js';
import type { NegotiationLimits } from './limits.js';
import { Intake } from './intake.js';
import { findExport } from './export-lookup.js';
import { OPTION_TABLE, tlsRequired, unsupportedOption } from './options.js';
import type { CloseReason, OptionContext, OptionHandler } from './option-handler.js';
import {
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  IHAVEOPT,
  OPTION,
  OPTION_HEAD_BYTES,
  REPLY,
  REPLY_ERROR,
  STRING_BYTES_MAX,
} from './protocol.js';
import { encodeExportNameReply, encodeHello, encodeOptionReply } from './replies.js';
import { decodeName, messageText, printable } from './text.js';

/** What the owner of the connection does next, in this order. */
export type Action =
  | { readonly kind: 'send'; readonly bytes: Uint8Array }
  | {
      readonly kind: 'enterTransmission';
      /** The disk's own name, also when the client asked for the default export. */
      readonly exportName: string;
      readonly replies: ReplyKind;
      /** Id of base:allocation if it was selected for exactly this export. */
      readonly allocationContextId: number | null;
      /** What came after negotiation's last byte: the client's first requests. */
      readonly leftover: Uint8Array;
    }
  /** The TLS handshake begins; `tlsStarted` says that it is done. */
  | { readonly kind: 'startTls' }
  | { readonly kind: 'close'; readonly reason: CloseReason; readonly detail: string };

/**
 * NOTLS, SELECTIVETLS and FORCEDTLS of the protocol document. It is the listener's, and fixed for
 * the life of a connection.
 */
export type TlsMode = 'off' | 'allow' | 'require';

export interface NegotiationOptions {
  /** The exports as the peer may see them before TLS. Mode `require` never asks. */
  readonly exports: ExportDirectory;
  readonly tls: TlsMode;
  readonly limits?: NegotiationLimits;
  /** Asked at every option: from when it is true on, ABORT is all that is served. */
  readonly stopping?: () => boolean;
}

/**
 * Option negotiation of one connection, server side (fixed newstyle). No I/O: bytes in, actions
 * out, and nothing is ever kept beyond one option.
 *
 *   client flags ──▶ option head ──▶ payload ──▶ option head …
 *                       ▲      └──▶ skip ────────────▲
 *                       └── starting TLS ◀── STARTTLS
 *
 * and from each of them to the end: enterTransmission or close.
 */
export interface Negotiation {
  /** The server's hello. Once, before anything is received. */
  start(): Action[];
  /**
   * Takes bytes in any split. Gives at most one `send`, then at most one of `enterTransmission`,
   * `startTls` and `close`; calling it after one of those is a programmer's error.
   */
  receive(bytes: Uint8Array): Action[];
  /**
   * The TLS handshake that `startTls` asked for is done. Negotiation begins anew at the options,
   * with the exports as the authenticated peer sees them. Of what was said in clear only the
   * client's flags are left, because they are never sent again (CVE-2021-3716).
   */
  tlsStarted(exports: ExportDirectory): void;
}

export function createNegotiation(options: NegotiationOptions): Negotiation {
  return new NegotiationMachine(options);
}

type Phase = 'created' | 'negotiating' | 'starting-tls' | 'ended';

type Outcome =
  | { readonly kind: 'export'; readonly info: ExportInfo }
  | { readonly kind: 'startTls' }
  | (Action & { readonly kind: 'close' });

const CLIENT_FLAGS_BYTES = 4;
const NOTHING = new Uint8Array(0);

class NegotiationMachine implements Negotiation {
  readonly #mode: TlsMode;
  readonly #limits: NegotiationLimits;
  readonly #stopping: () => boolean;
  #exports: ExportDirectory;
  readonly #intake = new Intake();
  #phase: Phase = 'created';

  #fixedNewstyle = false;
  #noZeroes = false;
  #secured = false;
  #agreed: Agreement = newAgreement();
  #budget: OptionBudget;

  #outgoing: Uint8Array[] = [];
  #outcome: Outcome | undefined;

  constructor({ exports, tls, limits, stopping }: NegotiationOptions) {
    this.#exports = exports;
    this.#mode = tls;
    this.#limits = limits ?? DEFAULT_LIMITS;
    this.#budget = new OptionBudget(this.#limits);
    this.#stopping = stopping ?? (() => false);
  }

  start(): Action[] {
    if (this.#phase !== 'created') throw new Error('negotiation was started twice');
    this.#phase = 'negotiating';
    this.#intake.collect(CLIENT_FLAGS_BYTES, (bytes) => this.#receiveClientFlags(bytes));
    return [{ kind: 'send', bytes: encodeHello() }];
  }

  receive(bytes: Uint8Array): Action[] {
    if (this.#phase !== 'negotiating') {
      throw new Error(`negotiation takes no bytes in state ${this.#phase}`);
    }
    let rest = bytes;
    for (;;) {
      const taken = this.#intake.take(rest);
      if (taken === undefined) break;
      rest = rest.subarray(taken);
      if (this.#outcome !== undefined) break;
    }
    return this.#actions(rest);
  }

  tlsStarted(exports: ExportDirectory): void {
    if (this.#phase !== 'starting-tls') {
      throw new Error(`TLS started in state ${this.#phase} of a negotiation`);
    }
    this.#phase = 'negotiating';
    this.#exports = exports;
    this.#secured = true;
    this.#agreed = newAgreement();
    this.#budget = new OptionBudget(this.#limits);
    this.#awaitOption();
  }

  #receiveClientFlags(bytes: Uint8Array): void {
    const flags = view(bytes).readUInt32BE(0);
    const known = FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES;
    if ((flags & ~known) !== 0) {
      const detail = `client flags are 0x${flags.toString(16)}, offered are 0x${known.toString(16)}`;
      this.#close('bad-client-flags', detail);
      return;
    }
    this.#fixedNewstyle = (flags & FLAG_FIXED_NEWSTYLE) !== 0;
    this.#noZeroes = (flags & FLAG_NO_ZEROES) !== 0;
    this.#awaitOption();
  }

  #receiveOptionHead(bytes: Uint8Array): void {
    const magic = view(bytes).readBigUInt64BE(0);
    const option = view(bytes).readUInt32BE(8);
    const lengthBytes = view(bytes).readUInt32BE(12);
    if (magic !== IHAVEOPT) {
      const detail = `option magic is ${hex(magic)}, expected ${hex(IHAVEOPT)}`;
      this.#close('bad-magic', detail);
      return;
    }
    const tooMany = this.#budget.takeOption();
    if (tooMany !== undefined) {
      this.#close('too-many-options', tooMany);
      return;
    }
    if (option === OPTION.EXPORT_NAME) {
      this.#beginExportName(lengthBytes);
      return;
    }
    if (!this.#fixedNewstyle) {
      const detail = `option ${option} from a client without FIXED_NEWSTYLE, expected EXPORT_NAME`;
      this.#close('option-before-fixed-newstyle', detail);
      return;
    }
    this.#beginOption(option, lengthBytes);
  }

  /** Whether this listener demands a handshake that has not been yet. */
  get #needsTls(): boolean {
    return this.#mode === 'require' && !this.#secured;
  }

  #beginExportName(lengthBytes: number): void {
    if (this.#needsTls) {
      this.#close('tls-required', 'EXPORT_NAME before TLS on a listener that requires it');
      return;
    }
    if (this.#agreed.extendedHeaders) {
      this.#close('export-name-after-extended-headers', 'EXPORT_NAME after EXTENDED_HEADERS');
      return;
    }
    if (lengthBytes > STRING_BYTES_MAX) {
      const detail = `export name has ${lengthBytes} bytes, expected at most ${STRING_BYTES_MAX}`;
      this.#close('bad-export-name', detail);
      return;
    }
    this.#intake.collect(lengthBytes, (bytes) => this.#receiveExportName(bytes));
  }

  #beginOption(option: number, lengthBytes: number): void {
    const { optionBytesMax, skippedBytesMax } = this.#limits;
    if (lengthBytes > skippedBytesMax) {
      const detail = `option ${option} has ${lengthBytes} bytes, expected at most ${skippedBytesMax}`;
      this.#close('option-too-large', detail);
      return;
    }
    const handler = this.#handlerOf(option);
    const context = this.#contextOf(option);
    const next = (answer: () => void): void => {
      this.#awaitOption();
      handler.before?.(this.#agreed);
      answer();
    };
    if (!handler.readsPayload) {
      this.#intake.skip(lengthBytes, () => next(() => this.#handle(handler, NOTHING, context)));
    } else if (lengthBytes > optionBytesMax) {
      const text =
        `option ${handler.name} has ${lengthBytes} bytes of data, ` +
        `expected at most ${optionBytesMax}`;
      this.#intake.skip(lengthBytes, () =>
        next(() => context.replyError(REPLY_ERROR.TOO_BIG, text)),
      );
    } else {
      this.#intake.collect(lengthBytes, (payload) =>
        next(() => this.#handle(handler, payload, context)),
      );
    }
  }

  /** Before TLS that is required nothing but STARTTLS and ABORT has a meaning, known or not. */
  #handlerOf(option: number): OptionHandler {
    const always = option === OPTION.STARTTLS || option === OPTION.ABORT;
    if (this.#needsTls && !always) return tlsRequired(option);
    return OPTION_TABLE.get(option) ?? unsupportedOption(option);
  }

  #handle(handler: OptionHandler, payload: Uint8Array, context: OptionContext): void {
    if (this.#stopping() && !handler.servesStopping) {
      context.replyError(REPLY_ERROR.SHUTDOWN, 'the server is shutting down');
      return;
    }
    handler.handle(payload, context);
  }

  #contextOf(option: number): OptionContext {
    return {
      exports: this.#exports,
      agreed: this.#agreed,
      budget: this.#budget,
      tls: this.#mode === 'off' ? 'none' : this.#secured ? 'secured' : 'clear',
      reply: (type, data = NOTHING) => this.#send(encodeOptionReply(option, type, data)),
      replyError: (error, text) => {
        this.#send(encodeOptionReply(option, error, Buffer.from(messageText(text))));
      },
      enterTransmission: (info) => {
        this.#outcome = { kind: 'export', info };
      },
      startTls: () => {
        this.#outcome = { kind: 'startTls' };
      },
      close: (reason, detail) => this.#close(reason, detail),
    };
  }

  /** EXPORT_NAME has no way to report an error: a refusal is a closed connection. */
  #receiveExportName(nameBytes: Uint8Array): void {
    if (this.#stopping()) {
      this.#close('shutting-down', 'EXPORT_NAME while the server is shutting down');
      return;
    }
    const name = decodeName(nameBytes);
    if (name === undefined) {
      const shown = printable(view(nameBytes).toString('latin1'));
      this.#close('bad-export-name', `export name ${shown} is not UTF-8 without zero bytes`);
      return;
    }
    const found = findExport({ exports: this.#exports, budget: this.#budget }, name);
    if ('refused' in found) {
      this.#close('export-refused', `export ${printable(name)}: ${found.text}`);
      return;
    }
    const connection = { agreed: this.#agreed, noZeroes: this.#noZeroes };
    this.#send(encodeExportNameReply(found, connection));
    this.#outcome = { kind: 'export', info: found };
  }

  #awaitOption(): void {
    this.#intake.collect(OPTION_HEAD_BYTES, (bytes) => this.#receiveOptionHead(bytes));
  }

  #send(bytes: Uint8Array): void {
    this.#outgoing.push(bytes);
  }

  #close(reason: CloseReason, detail: string): void {
    this.#outcome = { kind: 'close', reason, detail };
  }

  #actions(rest: Uint8Array): Action[] {
    const end = this.#end(rest);
    const actions: Action[] = [];
    if (this.#outgoing.length > 0) {
      actions.push({ kind: 'send', bytes: Buffer.concat(this.#outgoing) });
      this.#outgoing = [];
    }
    if (end !== undefined) actions.push(end);
    return actions;
  }

  /** What the outcome, if there is one, means for the connection. */
  #end(rest: Uint8Array): Action | undefined {
    const outcome = this.#outcome;
    if (outcome === undefined) return undefined;
    this.#outcome = undefined;
    this.#intake.end();
    if (outcome.kind === 'startTls' && rest.length === 0) {
      this.#phase = 'starting-tls';
      this.#send(encodeOptionReply(OPTION.STARTTLS, REPLY.ACK, NOTHING));
      return outcome;
    }
    this.#phase = 'ended';
    if (outcome.kind === 'close') return outcome;
    if (outcome.kind === 'startTls') {
      // A client waits for the ACK; what comes before it is another's, who would have it taken for
      // the client's own after the handshake (CVE-2021-3716).
      const detail = `${rest.length} bytes came with STARTTLS, expected 0 before its ACK`;
      return { kind: 'close', reason: 'bytes-before-tls', detail };
    }
    return {
      kind: 'enterTransmission',
      exportName: outcome.info.name,
      replies: replyKind(this.#agreed),
      allocationContextId: allocationContextId(this.#agreed, outcome.info.name),
      leftover: Uint8Array.from(rest),
    };
  }
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function hex(magic: bigint): string {
  return `0x${magic.toString(16).padStart(16, '0')}`;
}

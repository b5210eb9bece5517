// SPDX-License-Identifier: Apache-2.0
import { allocationContextId, newAgreement, replyKind } from './agreement.js';
import type { Agreement, ReplyKind } from './agreement.js';
import type { ExportDirectory, ExportInfo } from './exports.js';
import { DEFAULT_LIMITS, OptionBudget } from './limits.js';
import type { NegotiationLimits } from './limits.js';
import { findExport, OPTION_TABLE, unsupportedOption } from './options.js';
import type { CloseReason, OptionContext } from './options.js';
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
import { decodeName, printable } from './text.js';

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

type State =
  | { readonly kind: 'created' }
  | {
      /** Collects a known number of bytes; `receive` gets all of them at once. */
      readonly kind: 'collect';
      readonly receive: (complete: Uint8Array) => void;
    }
  | { readonly kind: 'skip'; readonly lengthBytes: number; readonly answer: () => void }
  | { readonly kind: 'starting-tls' }
  | { readonly kind: 'ended' };

type Outcome =
  | { readonly kind: 'export'; readonly info: ExportInfo }
  | { readonly kind: 'startTls' }
  | (Action & { readonly kind: 'close' });

const CLIENT_FLAGS_BYTES = 4;
const NOTHING = new Uint8Array(0);

class NegotiationMachine implements Negotiation {
  readonly #mode: TlsMode;
  readonly #limits: NegotiationLimits;
  #exports: ExportDirectory;
  #state: State = { kind: 'created' };
  /** What the present state waits for, and how much of it has come. */
  #wanted = NOTHING;
  #filledBytes = 0;
  #skippedBytes = 0;

  #fixedNewstyle = false;
  #noZeroes = false;
  #secured = false;
  #agreed: Agreement = newAgreement();
  #budget: OptionBudget;

  #outgoing: Uint8Array[] = [];
  #outcome: Outcome | undefined;

  constructor({ exports, tls, limits }: NegotiationOptions) {
    this.#exports = exports;
    this.#mode = tls;
    this.#limits = limits ?? DEFAULT_LIMITS;
    this.#budget = new OptionBudget(this.#limits);
  }

  start(): Action[] {
    if (this.#state.kind !== 'created') throw new Error('negotiation was started twice');
    const receive = (bytes: Uint8Array): void => this.#receiveClientFlags(bytes);
    this.#await({ kind: 'collect', receive }, CLIENT_FLAGS_BYTES);
    return [{ kind: 'send', bytes: encodeHello() }];
  }

  receive(bytes: Uint8Array): Action[] {
    let rest = bytes;
    for (;;) {
      const taken = this.#take(rest);
      if (taken === undefined) break;
      rest = rest.subarray(taken);
      if (this.#outcome !== undefined) break;
    }
    return this.#actions(rest);
  }

  tlsStarted(exports: ExportDirectory): void {
    if (this.#state.kind !== 'starting-tls') {
      throw new Error(`TLS started in state ${this.#state.kind} of a negotiation`);
    }
    this.#exports = exports;
    this.#secured = true;
    this.#agreed = newAgreement();
    this.#budget = new OptionBudget(this.#limits);
    this.#awaitOption();
  }

  /** Consumes input up to one completed step; undefined when the input ended before that. */
  #take(input: Uint8Array): number | undefined {
    const state = this.#state;
    if (state.kind !== 'collect' && state.kind !== 'skip') {
      throw new Error(`negotiation takes no bytes in state ${state.kind}`);
    }
    if (state.kind === 'skip') {
      const taken = Math.min(state.lengthBytes - this.#skippedBytes, input.length);
      this.#skippedBytes += taken;
      if (this.#skippedBytes < state.lengthBytes) return undefined;
      this.#awaitOption();
      state.answer();
      return taken;
    }
    const taken = Math.min(this.#wanted.length - this.#filledBytes, input.length);
    this.#wanted.set(input.subarray(0, taken), this.#filledBytes);
    this.#filledBytes += taken;
    if (this.#filledBytes < this.#wanted.length) return undefined;
    state.receive(this.#wanted);
    return taken;
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

  #beginExportName(lengthBytes: number): void {
    if (lengthBytes > STRING_BYTES_MAX) {
      const detail = `export name has ${lengthBytes} bytes, expected at most ${STRING_BYTES_MAX}`;
      this.#close('bad-export-name', detail);
      return;
    }
    const receive = (bytes: Uint8Array): void => this.#receiveExportName(bytes);
    this.#await({ kind: 'collect', receive }, lengthBytes);
  }

  #beginOption(option: number, lengthBytes: number): void {
    const { optionBytesMax, skippedBytesMax } = this.#limits;
    if (lengthBytes > skippedBytesMax) {
      const detail = `option ${option} has ${lengthBytes} bytes, expected at most ${skippedBytesMax}`;
      this.#close('option-too-large', detail);
      return;
    }
    const handler = OPTION_TABLE.get(option) ?? unsupportedOption(option);
    const context = this.#contextOf(option);
    if (!handler.readsPayload) {
      this.#skip(lengthBytes, () => handler.handle(NOTHING, context));
      return;
    }
    if (lengthBytes > optionBytesMax) {
      const text = `option ${handler.name} has ${lengthBytes} bytes of data, expected at most`;
      this.#skip(lengthBytes, () =>
        context.replyError(REPLY_ERROR.TOO_BIG, `${text} ${optionBytesMax}`),
      );
      return;
    }
    const receive = (payload: Uint8Array): void => {
      this.#awaitOption();
      handler.handle(payload, context);
    };
    this.#await({ kind: 'collect', receive }, lengthBytes);
  }

  #contextOf(option: number): OptionContext {
    return {
      exports: this.#exports,
      agreed: this.#agreed,
      budget: this.#budget,
      tls: this.#mode === 'off' ? 'none' : this.#secured ? 'secured' : 'clear',
      reply: (type, data = NOTHING) => this.#send(encodeOptionReply(option, type, data)),
      replyError: (error, text) => {
        this.#send(encodeOptionReply(option, error, Buffer.from(text)));
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
    const name = decodeName(nameBytes);
    if (name === undefined) {
      const shown = printable(view(nameBytes).toString('latin1'));
      this.#close('bad-export-name', `export name ${shown} is not UTF-8 without zero bytes`);
      return;
    }
    const found = findExport(this.#exports, name);
    if ('refused' in found) {
      this.#close('export-refused', `export ${printable(name)}: ${found.text}`);
      return;
    }
    const connection = { ...this.#agreed, noZeroes: this.#noZeroes };
    this.#send(encodeExportNameReply(found, connection));
    this.#outcome = { kind: 'export', info: found };
  }

  #awaitOption(): void {
    const receive = (bytes: Uint8Array): void => this.#receiveOptionHead(bytes);
    this.#await({ kind: 'collect', receive }, OPTION_HEAD_BYTES);
  }

  /** Waits for `lengthBytes` more bytes, which the limits have bounded. */
  #await(state: State & { receive: unknown }, lengthBytes: number): void {
    this.#state = state;
    this.#wanted = new Uint8Array(lengthBytes);
    this.#filledBytes = 0;
  }

  #skip(lengthBytes: number, answer: () => void): void {
    this.#state = { kind: 'skip', lengthBytes, answer };
    this.#skippedBytes = 0;
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
    this.#wanted = NOTHING;
    if (outcome.kind === 'startTls' && rest.length === 0) {
      this.#state = { kind: 'starting-tls' };
      this.#send(encodeOptionReply(OPTION.STARTTLS, REPLY.ACK, NOTHING));
      return outcome;
    }
    this.#state = { kind: 'ended' };
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

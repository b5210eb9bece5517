// SPDX-License-Identifier: Apache-2.0
import type { Clock, Timer } from '../base/clock.js';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { type ExportDirectory, onlyExport } from '../nbd/exports.js';
import { type Action, createNegotiation, type Negotiation } from '../nbd/negotiation.js';
import { type Peer, type PeerAddress, peerText, type TlsFacts } from '../nbd/peer.js';
import type { NextStep } from './addon.js';
import { NegotiationSlots } from './negotiation-slots.js';

/**
 * From the hello to the last option, TLS handshake included; who takes longer is cut off (the fix
 * of CVE-2024-7409 uses the same figure).
 */
export const HANDSHAKE_TIME_MAX_MS = 10_000;

/** A flood of connections that are refused must not become a flood of log lines. */
const REFUSAL_LOG_INTERVAL_MS = 10_000;

/** What the negotiator needs of the native plane. */
export interface NegotiationTransport {
  respond(connectionId: number, send: Uint8Array | null, next: NextStep): void;
  closeConnection(connectionId: number): void;
  /** The id of the disk that serves this export now; undefined when it went offline meanwhile. */
  diskIdOf(exportName: string): number | undefined;
}

/** Whether a listener speaks TLS, and with which context of the native plane. */
export type ListenerTls =
  { readonly mode: 'off' } | { readonly mode: 'allow' | 'require'; readonly contextId: number };

interface Negotiating {
  readonly address: PeerAddress;
  readonly tls: ListenerTls;
  readonly machine: Negotiation;
  readonly deadline: Timer;
}

/**
 * Drives option negotiation: bytes that a shard forwards go into the pure state machine of src/nbd,
 * its actions go back as one `respond` call. Strict ping-pong: the shard reads on only when told
 * to, so nothing races with the change to transmission.
 */
export class Negotiator {
  readonly #exportsFor: (peer: Peer) => ExportDirectory;
  readonly #listenerTls: (listenerId: number) => ListenerTls;
  readonly #transport: NegotiationTransport;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #connections = new Map<number, Negotiating>();
  readonly #slots = new NegotiationSlots();
  #stopping = false;
  #refused = 0;
  #refusalLoggedBootMs = Number.NEGATIVE_INFINITY;

  constructor(options: {
    exportsFor: (peer: Peer) => ExportDirectory;
    /** Never throws: also a listener that was closed meanwhile has an answer. */
    listenerTls: (listenerId: number) => ListenerTls;
    transport: NegotiationTransport;
    clock: Clock;
    logger: Logger;
  }) {
    this.#exportsFor = options.exportsFor;
    this.#listenerTls = options.listenerTls;
    this.#transport = options.transport;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  get negotiatingCount(): number {
    return this.#connections.size;
  }

  /** From here on clients are told that the server shuts down, whatever option they send. */
  stop(): void {
    this.#stopping = true;
  }

  /** With `only` the client sees that export alone, without TLS. */
  opened(connection: {
    connectionId: number;
    listenerId: number;
    address: PeerAddress;
    only?: string | undefined;
  }): void {
    const { connectionId, listenerId, address, only } = connection;
    const full = this.#slots.take(address);
    if (full !== undefined) {
      this.#logRefusal(address, full);
      this.#transport.respond(connectionId, null, { kind: 'close' });
      return;
    }
    const tls: ListenerTls = only === undefined ? this.#listenerTls(listenerId) : { mode: 'off' };
    const machine = createNegotiation({
      // Asked late, so that a fault in the answer costs this connection and nothing else.
      exports: lazily(() => {
        const all = this.#exportsFor({ address, tls: null });
        return only === undefined ? all : onlyExport(all, only);
      }),
      tls: tls.mode,
      stopping: () => this.#stopping,
    });
    const deadline = this.#clock.setTimer(HANDSHAKE_TIME_MAX_MS, () => this.#expire(connectionId));
    this.#connections.set(connectionId, { address, tls, machine, deadline });
    this.#step(connectionId, () => machine.start());
  }

  /** The TLS handshake is done: what the peer has proven decides what it sees from here on. */
  tlsStarted(connectionId: number, tls: TlsFacts): void {
    const negotiating = this.#connections.get(connectionId);
    if (negotiating === undefined) return;
    this.#step(connectionId, () => {
      const { address, machine } = negotiating;
      machine.tlsStarted(this.#exportsFor({ address, tls }));
      return [];
    });
  }

  received(connectionId: number, data: Uint8Array): void {
    const negotiating = this.#connections.get(connectionId);
    if (negotiating === undefined) return;
    this.#step(connectionId, () => negotiating.machine.receive(data));
  }

  /** `cause` is native code's, when it was not we who ended the negotiation. */
  closed(connectionId: number, cause?: string): void {
    const negotiating = this.#connections.get(connectionId);
    if (negotiating === undefined) return;
    if (cause !== undefined) {
      const peer = peerText({ address: negotiating.address, tls: null });
      // Why a TLS handshake failed is what an operator looks for; the rest are port scans.
      const level = cause.startsWith('tls') ? 'info' : 'debug';
      this.#logger[level]({ connectionId, peer, cause }, 'connection ended in negotiation');
    }
    negotiating.deadline.cancel();
    this.#connections.delete(connectionId);
    this.#slots.release(negotiating.address);
  }

  #expire(connectionId: number): void {
    const peer = this.#peerOf(connectionId);
    this.closed(connectionId);
    this.#logger.info({ peer, limitMs: HANDSHAKE_TIME_MAX_MS }, 'handshake took too long');
    this.#transport.closeConnection(connectionId);
  }

  #logRefusal(address: PeerAddress, full: { scope: string; max: number }): void {
    this.#refused += 1;
    const nowBootMs = this.#clock.bootMs();
    if (nowBootMs - this.#refusalLoggedBootMs < REFUSAL_LOG_INTERVAL_MS) return;
    const peer = peerText({ address, tls: null });
    this.#logger.warn({ peer, ...full, refused: this.#refused }, 'too many handshakes at once');
    this.#refused = 0;
    this.#refusalLoggedBootMs = nowBootMs;
  }

  #peerOf(connectionId: number): string | undefined {
    const address = this.#connections.get(connectionId)?.address;
    return address === undefined ? undefined : peerText({ address, tls: null });
  }

  /** A client whose bytes find a fault in our own code loses its connection, not the daemon. */
  #step(connectionId: number, take: () => Action[]): void {
    try {
      this.#obey(connectionId, take());
    } catch (error) {
      this.#logger.error({ connectionId, cause: messageOf(error) }, 'negotiation failed');
      this.closed(connectionId);
      this.#transport.respond(connectionId, null, { kind: 'close' });
    }
  }

  /** Turns the actions of one step into the one answer that the shard waits for. */
  #obey(connectionId: number, actions: readonly Action[]): void {
    const parts: Uint8Array[] = [];
    let next: NextStep = { kind: 'read' };
    for (const action of actions) {
      switch (action.kind) {
        case 'send':
          parts.push(action.bytes);
          break;
        case 'enterTransmission': {
          const diskId = this.#transport.diskIdOf(action.exportName);
          next =
            diskId === undefined
              ? { kind: 'close' }
              : {
                  kind: 'transmission',
                  diskId,
                  replies: action.replies,
                  allocationContextId: action.allocationContextId,
                  leftover: action.leftover,
                };
          break;
        }
        case 'startTls':
          next = { kind: 'start-tls', contextId: this.#tlsContextOf(connectionId) };
          break;
        case 'close': {
          const { reason, detail } = action;
          const peer = this.#peerOf(connectionId);
          this.#logger.debug({ connectionId, peer, reason, detail }, 'negotiation ended');
          next = { kind: 'close' };
          break;
        }
      }
    }
    if (next.kind === 'transmission' || next.kind === 'close') this.closed(connectionId);
    this.#transport.respond(connectionId, parts.length === 0 ? null : Buffer.concat(parts), next);
  }

  #tlsContextOf(connectionId: number): number {
    const tls = this.#connections.get(connectionId)?.tls;
    if (tls === undefined || tls.mode === 'off') {
      throw new Error('TLS was started on a listener without TLS');
    }
    return tls.contextId;
  }
}

/** A directory that is made when it is first asked. */
function lazily(make: () => ExportDirectory): ExportDirectory {
  let made: ExportDirectory | undefined;
  const directory = (): ExportDirectory => (made ??= make());
  return { list: () => directory().list(), find: (name) => directory().find(name) };
}

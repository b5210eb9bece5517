// SPDX-License-Identifier: Apache-2.0
import type { PeerAddress } from '../nbd/peer.js';

/**
 * Connections that have not finished option negotiation, TLS handshake included; more are closed
 * at once (CVE-2024-7409 had no bound). Each may cost a buffered option (8 KiB) and two replies to
 * LIST.
 */
export const NEGOTIATING_CONNECTIONS_MAX = 100;

/**
 * Of these, connections of one peer: an IP address (IPv6: its /64), or a uid on the unix socket.
 * The most eager client, the kernel's with `-connections 16`, stays far below; and no peer can keep
 * out all others.
 */
export const NEGOTIATING_CONNECTIONS_PER_PEER_MAX = 50;

/** Counts the connections in negotiation, in all and for each peer. */
export class NegotiationSlots {
  readonly #byPeer = new Map<string, number>();
  #taken = 0;

  /** Undefined when there is room, which is then taken; otherwise which limit is reached. */
  take(address: PeerAddress): { readonly scope: 'all' | 'peer'; readonly max: number } | undefined {
    if (this.#taken >= NEGOTIATING_CONNECTIONS_MAX) {
      return { scope: 'all', max: NEGOTIATING_CONNECTIONS_MAX };
    }
    const peer = peerKey(address);
    const ofPeer = this.#byPeer.get(peer) ?? 0;
    if (ofPeer >= NEGOTIATING_CONNECTIONS_PER_PEER_MAX) {
      return { scope: 'peer', max: NEGOTIATING_CONNECTIONS_PER_PEER_MAX };
    }
    this.#byPeer.set(peer, ofPeer + 1);
    this.#taken += 1;
    return undefined;
  }

  /** Gives back what one `take` took. */
  release(address: PeerAddress): void {
    const peer = peerKey(address);
    const ofPeer = this.#byPeer.get(peer);
    if (ofPeer === undefined) throw new Error(`no slot of ${peer} is taken`);
    if (ofPeer === 1) this.#byPeer.delete(peer);
    else this.#byPeer.set(peer, ofPeer - 1);
    this.#taken -= 1;
  }
}

/** Who counts as one: ports and processes are cheap to have many of. */
function peerKey(peer: PeerAddress): string {
  if (peer.kind === 'unix') return `uid ${String(peer.uid)}`;
  return peer.address.includes(':') ? networkOf(peer.address) : peer.address;
}

/** The /64 of an IPv6 address: whoever has one of its addresses has 2^64 of them. */
function networkOf(address: string): string {
  const [head = '', tail] = address.split('::');
  const left = head.split(':').filter((group) => group !== '');
  const right = (tail ?? '').split(':').filter((group) => group !== '');
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].slice(0, 4).join(':') + '::/64';
}

// SPDX-License-Identifier: Apache-2.0
import { printable } from './text.js';

/** Where a connection comes from, as the kernel says it. */
export type PeerAddress =
  | { readonly kind: 'unix'; readonly pid: number; readonly uid: number; readonly gid: number }
  | {
      readonly kind: 'tcp';
      /** IPv4 or IPv6 literal without brackets; IPv4 also for a mapped address. */
      readonly address: string;
      readonly port: number;
    };

/** What a TLS handshake has proven; everything in it was verified before it got here. */
export interface TlsFacts {
  /** As OpenSSL names it: `TLSv1.2`, `TLSv1.3`. */
  readonly version: string;
  readonly cipher: string;
  /** Null when the client showed none. */
  readonly certificate: {
    /** RFC 2253, such as `CN=vm1,O=Example`. */
    readonly subject: string;
    /** Each with its type: `DNS:vm1.example`, `URI:…`, `IP:…`, `email:…`. */
    readonly subjectAltNames: readonly string[];
    /** SHA-256 of the certificate, 64 lower-case hex digits. */
    readonly fingerprintSha256: string;
  } | null;
  readonly pskIdentity: string | null;
}

/** Who is at the other end of a connection. */
export interface Peer {
  readonly address: PeerAddress;
  /** Null on a connection in clear. */
  readonly tls: TlsFacts | null;
}

/** One line for logs and tables, safe to print. */
export function peerText(peer: Peer): string {
  const { address, tls } = peer;
  const where =
    address.kind === 'unix'
      ? `unix:pid=${String(address.pid)},uid=${String(address.uid)},gid=${String(address.gid)}`
      : address.address.includes(':')
        ? `[${address.address}]:${String(address.port)}`
        : `${address.address}:${String(address.port)}`;
  const who = tls?.certificate?.subject ?? tls?.pskIdentity;
  return who === undefined || who === null ? where : `${where} (${printable(who)})`;
}

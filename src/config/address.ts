// SPDX-License-Identifier: Apache-2.0
import { isIP } from 'node:net';

export interface Address {
  /** An IP address, IPv6 without brackets. */
  readonly host: string;
  /** 0: the system picks one. */
  readonly port: number;
}

/**
 * Reads `127.0.0.1:10809`, `[::1]:10809`, `localhost:10809`; undefined for anything else. Other
 * names are refused: which address a daemon serves must not hang on what a resolver says at its
 * start.
 */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) return undefined;
  const [, ipv6, other] = match;
  if (ipv6 !== undefined) return isIP(ipv6) === 6 ? { host: ipv6, port } : undefined;
  if (other === 'localhost') return { host: '127.0.0.1', port };
  return other !== undefined && isIP(other) === 4 ? { host: other, port } : undefined;
}

export function isLoopback(address: Address): boolean {
  if (isIP(address.host) === 4) return address.host.startsWith('127.');
  // The URL parser writes every spelling of an IPv6 address in the shortest form.
  return new URL(`http://[${address.host}]`).hostname === '[::1]';
}

export function formatAddress({ host, port }: Address): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

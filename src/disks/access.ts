// SPDX-License-Identifier: Apache-2.0
import type { Peer, PeerAddress } from '../nbd/peer.js';
import type { AccessRule } from './access-rule.js';
import {
  formatIpAddress,
  type IpAddress,
  isInNetwork,
  isLoopback,
  parseIpAddress,
  parseIpNetwork,
} from './ip-network.js';

/**
 * Whether an allow list lets a peer use its disk: if any rule matches with all its conditions. An
 * empty list stands for the peers of this machine, that is, of unix sockets (the mode of the
 * socket's file decides who gets that far) and of loopback TCP; it never opens a disk to a network.
 *
 * Certificates and identities were verified before they got here; everything is compared whole.
 */
export function admits(rules: readonly AccessRule[], peer: Peer): boolean {
  if (rules.length === 0) return isLocal(peer.address);
  return rules.some((rule) => matches(rule, peer));
}

function isLocal(address: PeerAddress): boolean {
  if (address.kind === 'unix') return true;
  const ip = ipOf(address.address);
  return ip !== undefined && isLoopback(ip);
}

function matches(rule: AccessRule, { address, tls }: Peer): boolean {
  const { uid, gid, pid, subject, san, psk, cidr } = rule;
  const unix = address.kind === 'unix' ? address : undefined;
  const conditions = [
    uid === undefined || unix?.uid === uid,
    gid === undefined || unix?.gid === gid,
    pid === undefined || unix?.pid === pid,
    subject === undefined || tls?.certificate?.subject === subject,
    san === undefined || (tls?.certificate?.subjectAltNames ?? []).some(isName(san)),
    psk === undefined || tls?.pskIdentity === psk,
    cidr === undefined || isFrom(cidr, address),
  ];
  // A rule without conditions cannot be written; should one get here, it matches nobody.
  return Object.keys(rule).length > 0 && conditions.every(Boolean);
}

/** Addresses are compared by value: an IPv6 address has many spellings. */
function isName(wanted: string): (name: string) => boolean {
  if (!wanted.startsWith('IP:')) return (name) => name === wanted;
  return (name) => {
    const address = name.startsWith('IP:') ? parseIpAddress(name.slice(3)) : undefined;
    return address !== undefined && `IP:${formatIpAddress(address)}` === wanted;
  };
}

function isFrom(cidr: string, address: PeerAddress): boolean {
  if (address.kind !== 'tcp') return false;
  const ip = ipOf(address.address);
  return ip !== undefined && isInNetwork(parseIpNetwork(cidr), ip);
}

/** A link-local peer carries the zone of its interface (`fe80::1%eth0`), which no rule names. */
function ipOf(text: string): IpAddress | undefined {
  return parseIpAddress(text.replace(/%.*$/, ''));
}

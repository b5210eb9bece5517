// SPDX-License-Identifier: Apache-2.0
import type { Peer, PeerAddress } from '../nbd/peer.js';
import type { AccessRule } from './access-rule.js';
import {
  formatIpAddress,
  type IpAddress,
  type IpNetwork,
  isInNetwork,
  isLoopback,
  parseIpAddress,
  parseIpNetwork,
} from './ip-network.js';

/** Whether a peer may use a disk. */
export type Admission = (peer: Peer) => boolean;

/**
 * What an allow list says: a peer is admitted if any rule matches with all its conditions. An empty
 * list stands for the peers of this machine, that is, of unix sockets (the mode of the socket's
 * file decides who gets that far) and of loopback TCP; it never opens a disk to a network.
 *
 * Certificates and identities were verified before they got here; everything is compared whole.
 * Strangers can have it asked often, so that what can be read beforehand is.
 */
export function createAdmission(rules: readonly AccessRule[]): Admission {
  if (rules.length === 0) return ({ address }) => isLocal(address);
  const matchers = rules.map(createMatcher);
  return (peer) => matchers.some((matches) => matches(peer));
}

function isLocal(address: PeerAddress): boolean {
  if (address.kind === 'unix') return true;
  const ip = ipOf(address.address);
  return ip !== undefined && isLoopback(ip);
}

function createMatcher({ uid, gid, pid, subject, san, psk, cidr }: AccessRule): Admission {
  const conditions: Admission[] = [];
  if (uid !== undefined) conditions.push(ofUnix((unix) => unix.uid === uid));
  if (gid !== undefined) conditions.push(ofUnix((unix) => unix.gid === gid));
  if (pid !== undefined) conditions.push(ofUnix((unix) => unix.pid === pid));
  if (subject !== undefined) conditions.push(({ tls }) => tls?.certificate?.subject === subject);
  if (san !== undefined) {
    const isSan = isName(san);
    conditions.push(({ tls }) => tls?.certificate?.subjectAltNames.some(isSan) === true);
  }
  if (psk !== undefined) conditions.push(({ tls }) => tls?.pskIdentity === psk);
  if (cidr !== undefined) conditions.push(isFrom(parseIpNetwork(cidr)));
  // A rule without conditions cannot be written; should one get here, it matches nobody.
  return (peer) => conditions.length > 0 && conditions.every((holds) => holds(peer));
}

function ofUnix(holds: (address: PeerAddress & { kind: 'unix' }) => boolean): Admission {
  return ({ address }) => address.kind === 'unix' && holds(address);
}

/** Addresses are compared by value: an IPv6 address has many spellings. */
function isName(wanted: string): (name: string) => boolean {
  if (!wanted.startsWith('IP:')) return (name) => name === wanted;
  return (name) => {
    const address = name.startsWith('IP:') ? parseIpAddress(name.slice(3)) : undefined;
    return address !== undefined && `IP:${formatIpAddress(address)}` === wanted;
  };
}

function isFrom(network: IpNetwork): Admission {
  return ({ address }) => {
    if (address.kind !== 'tcp') return false;
    const ip = ipOf(address.address);
    return ip !== undefined && isInNetwork(network, ip);
  };
}

/** A link-local peer carries the zone of its interface (`fe80::1%eth0`), which no rule names. */
function ipOf(text: string): IpAddress | undefined {
  return parseIpAddress(text.replace(/%.*$/, ''));
}

// SPDX-License-Identifier: Apache-2.0
import { isIP } from 'node:net';

/** An address as the number that it is: 32 bits or 128. */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** All addresses that share their first `prefixBits` bits with `address`, whose rest is zero. */
export interface IpNetwork {
  readonly address: IpAddress;
  readonly prefixBits: number;
}

const BITS = { 4: 32, 6: 128 } as const;
/** ::ffff:0:0/96 holds the IPv4 addresses (RFC 4291, 2.5.5.2). */
const MAPPED_PREFIX_BITS = 96;
const MAPPED_PREFIX = 0xffffn;

/** Reads an IPv4 or IPv6 literal without brackets, zone or leading zeros; else undefined. */
export function parseIpAddress(text: string): IpAddress | undefined {
  switch (isIP(text)) {
    case 4:
      return { family: 4, value: parseIpv4(text) };
    case 6:
      return text.includes('%') ? undefined : { family: 6, value: parseIpv6(text) };
    default:
      return undefined;
  }
}

/** The IPv4 address that a mapped one (`::ffff:10.0.0.1`) stands for; others as they are. */
export function unmapped(address: IpAddress): IpAddress {
  const value = BigInt.asUintN(32, address.value);
  const mapped = address.family === 6 && address.value >> 32n === MAPPED_PREFIX;
  return mapped ? { family: 4, value } : address;
}

/**
 * Reads `10.0.0.0/8`; without a prefix the network is that one address. A mapped network becomes
 * the IPv4 network that it is. Throws an Error that says what was expected.
 */
export function parseIpNetwork(text: string): IpNetwork {
  const [literal = '', prefix, ...rest] = text.split('/');
  const address = parseIpAddress(literal);
  if (address === undefined || rest.length > 0) {
    throw new Error(`expected an IPv4 or IPv6 network such as 10.0.0.0/8, got ${quoted(text)}`);
  }
  const bitsMax = BITS[address.family];
  const prefixBits = prefix === undefined ? bitsMax : parsePrefix(prefix, bitsMax);
  const start = firstOf(address, prefixBits);
  if (start.value !== address.value) {
    const meant = `${formatIpAddress(start)}/${String(prefixBits)}`;
    throw new Error(`expected zeros after the first ${String(prefixBits)} bits, such as ${meant}`);
  }
  const inner = unmapped(address);
  if (inner.family === address.family || prefixBits < MAPPED_PREFIX_BITS) {
    return { address, prefixBits };
  }
  return { address: inner, prefixBits: prefixBits - MAPPED_PREFIX_BITS };
}

/** Compares bits, never text, whose prefixes are not those of addresses (CVE-2013-6410). */
export function isInNetwork(network: IpNetwork, address: IpAddress): boolean {
  const { family, value } = unmapped(address);
  if (family !== network.address.family) return false;
  return firstOf({ family, value }, network.prefixBits).value === network.address.value;
}

/** 127.0.0.0/8 and ::1. */
export function isLoopback(address: IpAddress): boolean {
  const { family, value } = unmapped(address);
  return family === 4 ? value >> 24n === 127n : value === 1n;
}

export function formatIpNetwork({ address, prefixBits }: IpNetwork): string {
  return `${formatIpAddress(address)}/${String(prefixBits)}`;
}

/** The one spelling of an address; IPv6 as RFC 5952 says. */
export function formatIpAddress({ family, value }: IpAddress): string {
  if (family === 4) return partsOf(value, { count: 4, bits: 8n }).join('.');
  const groups = partsOf(value, { count: 8, bits: 16n }).map((group) => group.toString(16));
  const zeros = longestZeros(groups);
  if (zeros.length < 2) return groups.join(':');
  const head = groups.slice(0, zeros.start).join(':');
  return `${head}::${groups.slice(zeros.start + zeros.length).join(':')}`;
}

function firstOf({ family, value }: IpAddress, prefixBits: number): IpAddress {
  const rest = BigInt(BITS[family] - prefixBits);
  return { family, value: (value >> rest) << rest };
}

function parsePrefix(text: string, bitsMax: number): number {
  const prefixBits = /^(?:0|[1-9]\d{0,2})$/.test(text) ? Number(text) : Number.NaN;
  if (prefixBits <= bitsMax) return prefixBits;
  throw new Error(`expected a prefix of 0 to ${String(bitsMax)} bits, got ${quoted(text)}`);
}

function parseIpv4(text: string): bigint {
  return text.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

/** `isIP` has checked the form: at most one `::`, and dots only in the last 32 bits. */
function parseIpv6(text: string): bigint {
  const lastColon = text.lastIndexOf(':');
  const tail = text.slice(lastColon + 1);
  if (tail.includes('.')) {
    return parseIpv6(`${text.slice(0, lastColon + 1)}0:0`) | parseIpv4(tail);
  }
  const [head = '', rest] = text.split('::');
  const front = groupsOf(head);
  const back = groupsOf(rest ?? '');
  const zeros = new Array<bigint>(8 - front.length - back.length).fill(0n);
  return [...front, ...zeros, ...back].reduce((value, group) => (value << 16n) | group, 0n);
}

function groupsOf(text: string): bigint[] {
  return text === '' ? [] : text.split(':').map((group) => BigInt(`0x${group}`));
}

function partsOf(value: bigint, { count, bits }: { count: number; bits: bigint }): bigint[] {
  return Array.from({ length: count }, (_, index) =>
    BigInt.asUintN(Number(bits), value >> (bits * BigInt(count - 1 - index))),
  );
}

/** The longest run of zero groups, the first of equals. */
function longestZeros(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let length = 0;
  groups.forEach((group, index) => {
    length = group === '0' ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  });
  return best;
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

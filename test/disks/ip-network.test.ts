// SPDX-License-Identifier: Apache-2.0
import { BlockList } from 'node:net';
import fc from 'fast-check';
import { test } from 'tap';
import {
  formatIpAddress,
  formatIpNetwork,
  type IpAddress,
  isInNetwork,
  isLoopback,
  parseIpAddress,
  parseIpNetwork,
} from '../../src/disks/ip-network.js';

function address(text: string): IpAddress {
  const parsed = parseIpAddress(text);
  if (parsed === undefined) throw new Error(`no address: ${text}`);
  return parsed;
}

function covers(network: string, peer: string): boolean {
  return isInNetwork(parseIpNetwork(network), address(peer));
}

void test('a network holds its first and its last address', (t) => {
  t.ok(covers('10.0.0.0/8', '10.0.0.0'));
  t.ok(covers('10.0.0.0/8', '10.255.255.255'));
  t.ok(covers('2001:db8::/33', '2001:db8:7fff:ffff:ffff:ffff:ffff:ffff'));
  t.end();
});

void test('a network does not hold its neighbours', (t) => {
  t.notOk(covers('10.0.0.0/8', '9.255.255.255'));
  t.notOk(covers('10.0.0.0/8', '11.0.0.0'));
  t.notOk(covers('2001:db8::/33', '2001:db8:8000::'));
  t.end();
});

void test('an address whose text begins like the network is not in it (CVE-2013-6410)', (t) => {
  t.notOk(covers('10.1.1.1', '10.1.1.10'));
  t.notOk(covers('10.1.1.1/32', '10.1.1.100'));
  t.notOk(covers('192.168.1.0/24', '192.168.10.1'));
  t.notOk(covers('2001:db8::1', '2001:db8::10'));
  t.end();
});

void test('a prefix that ends inside a byte is compared to the bit', (t) => {
  t.ok(covers('172.16.0.0/12', '172.31.255.255'));
  t.notOk(covers('172.16.0.0/12', '172.32.0.0'));
  t.notOk(covers('172.16.0.0/12', '172.15.255.255'));
  t.end();
});

void test('a prefix of 0 bits holds every address of its family and none of the other', (t) => {
  t.ok(covers('0.0.0.0/0', '255.255.255.255'));
  t.notOk(covers('0.0.0.0/0', '2001:db8::1'));
  t.ok(covers('::/0', 'ffff::1'));
  t.notOk(covers('::/0', '10.0.0.1'));
  t.end();
});

void test('a mapped IPv4 address counts as the IPv4 address that it is', (t) => {
  t.ok(covers('10.0.0.0/8', '::ffff:10.1.2.3'));
  t.ok(covers('10.0.0.0/8', '::ffff:a01:203'));
  t.notOk(covers('::/0', '::ffff:10.1.2.3'));
  t.notOk(covers('10.0.0.0/8', '::fffe:10.1.2.3'));
  t.end();
});

void test('a mapped network becomes the IPv4 network that it is', (t) => {
  t.equal(formatIpNetwork(parseIpNetwork('::ffff:10.0.0.0/104')), '10.0.0.0/8');
  t.equal(formatIpNetwork(parseIpNetwork('::ffff:0:0/96')), '0.0.0.0/0');
  t.equal(
    formatIpNetwork(parseIpNetwork('::ffff:0:0/95'.replace('ffff', 'fffe'))),
    '::fffe:0:0/95',
  );
  t.end();
});

void test('networks that are none are refused', (t) => {
  const wrong: ReadonlyArray<readonly [string, RegExp]> = [
    ['', /expected an IPv4 or IPv6 network/],
    ['vm1.example', /expected an IPv4 or IPv6 network/],
    ['10.0.0', /expected an IPv4 or IPv6 network/],
    ['010.0.0.0/8', /expected an IPv4 or IPv6 network/],
    ['10.0.0.0/8/8', /expected an IPv4 or IPv6 network/],
    ['[2001:db8::1]', /expected an IPv4 or IPv6 network/],
    ['fe80::1%eth0/64', /expected an IPv4 or IPv6 network/],
    ['10.0.0.0/33', /0 to 32 bits, got "33"/],
    ['10.0.0.0/', /0 to 32 bits, got ""/],
    ['10.0.0.0/08', /0 to 32 bits, got "08"/],
    ['10.0.0.0/-1', /0 to 32 bits, got "-1"/],
    ['10.0.0.0/255.0.0.0', /0 to 32 bits/],
    ['2001:db8::/129', /0 to 128 bits, got "129"/],
    ['10.0.0.1/8', /zeros after the first 8 bits, such as 10\.0\.0\.0\/8/],
    ['2001:db8::1/32', /such as 2001:db8::\/32/],
  ];
  for (const [text, says] of wrong) t.throws(() => parseIpNetwork(text), { message: says }, text);
  t.end();
});

void test('loopback is 127.0.0.0/8 and ::1, mapped or not', (t) => {
  for (const text of ['127.0.0.1', '127.255.0.9', '::1', '::ffff:127.0.0.1']) {
    t.ok(isLoopback(address(text)), text);
  }
  for (const text of ['128.0.0.1', '10.0.0.1', '::', '::2', '::127.0.0.1', '1::1', '0.0.0.0']) {
    t.notOk(isLoopback(address(text)), text);
  }
  t.end();
});

void test('IPv6 addresses have one spelling (examples of RFC 5952)', (t) => {
  const spellings = [
    ['2001:0db8:0000:0000:0001:0000:0000:0001', '2001:db8::1:0:0:1'],
    ['2001:DB8::', '2001:db8::'],
    ['::', '::'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
  ] as const;
  for (const [text, spelled] of spellings) t.equal(formatIpAddress(address(text)), spelled);
  t.end();
});

const anyAddress = fc.oneof(fc.ipV4(), fc.ipV6());

void test('property: an address that was printed is read as the same address', (t) => {
  fc.assert(
    fc.property(anyAddress, (text) => {
      const parsed = address(text);
      const again = address(formatIpAddress(parsed));
      return again.family === parsed.family && again.value === parsed.value;
    }),
  );
  t.end();
});

void test("property: membership is what Node's own block list says", (t) => {
  const nearby = fc.tuple(anyAddress, fc.nat(128), fc.nat(127));
  fc.assert(
    fc.property(nearby, ([text, anyPrefix, flippedBit]) => {
      const { family, value } = address(text);
      const bits = family === 4 ? 32 : 128;
      const prefixBits = anyPrefix % (bits + 1);
      const rest = BigInt(bits - prefixBits);
      const start = formatIpAddress({ family, value: (value >> rest) << rest });
      const peer = formatIpAddress({ family, value: value ^ (1n << BigInt(flippedBit % bits)) });
      const oracle = new BlockList();
      oracle.addSubnet(start, prefixBits, family === 4 ? 'ipv4' : 'ipv6');
      const expected = oracle.check(peer, family === 4 ? 'ipv4' : 'ipv6');
      return covers(`${start}/${String(prefixBits)}`, peer) === expected;
    }),
    { numRuns: 500 },
  );
  t.end();
});

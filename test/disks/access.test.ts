// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import type { Peer, TlsFacts } from '../../src/nbd/peer.js';
import { createAdmission } from '../../src/disks/access.js';
import { parseAccessRule } from '../../src/disks/access-rule.js';

const UNIX: Peer = { address: { kind: 'unix', pid: 42, uid: 1000, gid: 100 }, tls: null };

function tcp(address: string, tls: TlsFacts | null = null): Peer {
  return { address: { kind: 'tcp', address, port: 4711 }, tls };
}

function certified(subject: string, ...subjectAltNames: string[]): TlsFacts {
  const certificate = { subject, subjectAltNames, fingerprintSha256: '00'.repeat(32) };
  return { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', certificate, pskIdentity: null };
}

function keyed(pskIdentity: string): TlsFacts {
  return { version: 'TLSv1.2', cipher: 'PSK', certificate: null, pskIdentity };
}

function isAdmitted(peer: Peer, ...rules: string[]): boolean {
  return createAdmission(rules.map(parseAccessRule))(peer);
}

void test('an empty list admits unix sockets and loopback TCP', (t) => {
  for (const peer of [UNIX, tcp('127.0.0.1'), tcp('127.8.9.1'), tcp('::1')]) {
    t.ok(isAdmitted(peer), JSON.stringify(peer.address));
  }
  t.end();
});

void test('an empty list admits nobody from a network, whatever TLS has proven', (t) => {
  t.notOk(isAdmitted(tcp('10.0.0.1')));
  t.notOk(isAdmitted(tcp('128.0.0.1')));
  t.notOk(isAdmitted(tcp('2001:db8::1')));
  t.notOk(isAdmitted(tcp('10.0.0.1', certified('CN=vm1', 'DNS:vm1.example'))));
  t.notOk(isAdmitted(tcp('10.0.0.1', keyed('backup'))));
  t.notOk(isAdmitted(tcp('nonsense')));
  t.end();
});

void test('one rule is enough to close the disk to everybody else of this machine', (t) => {
  t.notOk(isAdmitted(UNIX, 'cidr=10.0.0.0/8'));
  t.notOk(isAdmitted(tcp('127.0.0.1'), 'uid=1000'));
  t.end();
});

void test('any rule suffices, but only with all its conditions', (t) => {
  const vm1 = tcp('10.0.0.1', certified('CN=vm1', 'DNS:vm1.example'));
  t.ok(isAdmitted(vm1, 'uid=0', 'san=DNS:vm1.example and cidr=10.0.0.0/8'));
  t.notOk(isAdmitted(vm1, 'uid=0', 'san=DNS:vm1.example and cidr=10.1.0.0/16'));
  t.notOk(isAdmitted(vm1, 'san=DNS:vm2.example and cidr=10.0.0.0/8'));
  t.notOk(isAdmitted(vm1, 'san=DNS:vm2.example', 'cidr=10.1.0.0/16'));
  t.end();
});

void test('uid, gid and pid are those of the kernel, and of unix sockets only', (t) => {
  t.ok(isAdmitted(UNIX, 'uid=1000 and gid=100 and pid=42'));
  t.notOk(isAdmitted(UNIX, 'uid=1001'));
  t.notOk(isAdmitted(UNIX, 'uid=1000 and gid=1000'));
  t.notOk(isAdmitted(UNIX, 'pid=4'));
  t.notOk(isAdmitted(tcp('127.0.0.1'), 'uid=0'));
  t.end();
});

void test('a subject is compared whole and as it is', (t) => {
  const peer = tcp('10.0.0.1', certified('CN=vm1,O=Example'));
  t.ok(isAdmitted(peer, 'subject=CN=vm1,O=Example'));
  for (const other of ['CN=vm1', 'CN=vm1,O=Example2', 'O=Example,CN=vm1', 'CN=VM1,O=Example']) {
    t.notOk(isAdmitted(peer, `subject=${other}`), other);
  }
  t.notOk(isAdmitted(tcp('10.0.0.1'), 'subject=CN=vm1,O=Example'));
  t.notOk(isAdmitted(tcp('10.0.0.1', keyed('CN=vm1,O=Example')), 'subject=CN=vm1,O=Example'));
  t.end();
});

void test('an alternative name is compared whole, with its type', (t) => {
  const names = ['DNS:vm1.example', 'URI:spiffe://example/vm1', 'IP:10.0.0.1', 'email:a@b.example'];
  const peer = tcp('192.0.2.1', certified('CN=vm1', ...names));
  for (const name of names) t.ok(isAdmitted(peer, `san=${name}`), name);
  const others = [
    'DNS:vm1.example.org',
    'DNS:m1.example',
    'DNS:example',
    'URI:vm1.example',
    'URI:spiffe://example/vm10',
    'IP:10.0.0.10',
    'DNS:10.0.0.1',
    'email:a@b.example.org',
  ];
  for (const name of others) t.notOk(isAdmitted(peer, `san=${name}`), name);
  t.end();
});

void test('a wildcard that a certificate holds is no name that a rule could mean', (t) => {
  const peer = tcp('192.0.2.1', certified('CN=x', 'DNS:*.example'));
  t.notOk(isAdmitted(peer, 'san=DNS:vm1.example'));
  t.end();
});

void test('an address as alternative name is compared by value', (t) => {
  const peer = tcp('192.0.2.1', certified('CN=x', 'IP:2001:DB8:0:0:0:0:0:1', 'IP:nonsense'));
  t.ok(isAdmitted(peer, 'san=IP:2001:db8::1'));
  t.notOk(isAdmitted(peer, 'san=IP:2001:db8::10'));
  t.end();
});

void test('a name in the subject is no alternative name', (t) => {
  t.notOk(isAdmitted(tcp('192.0.2.1', certified('CN=vm1.example')), 'san=DNS:vm1.example'));
  t.end();
});

void test('the identity of a pre-shared key is compared whole', (t) => {
  t.ok(isAdmitted(tcp('10.0.0.1', keyed('backup')), 'psk=backup'));
  t.notOk(isAdmitted(tcp('10.0.0.1', keyed('backup2')), 'psk=backup'));
  t.notOk(isAdmitted(tcp('10.0.0.1', keyed('Backup')), 'psk=backup'));
  t.notOk(isAdmitted(tcp('10.0.0.1', certified('CN=backup', 'DNS:backup')), 'psk=backup'));
  t.notOk(isAdmitted(tcp('10.0.0.1'), 'psk=backup'));
  t.end();
});

void test('a network is that of a TCP peer, mapped or with a zone', (t) => {
  t.ok(isAdmitted(tcp('10.1.1.1'), 'cidr=10.0.0.0/8'));
  t.ok(isAdmitted(tcp('::ffff:10.1.1.1'), 'cidr=10.0.0.0/8'));
  t.ok(isAdmitted(tcp('fe80::1%eth0'), 'cidr=fe80::/10'));
  t.notOk(isAdmitted(tcp('10.1.1.10'), 'cidr=10.1.1.1'));
  t.notOk(isAdmitted(UNIX, 'cidr=0.0.0.0/0'));
  t.notOk(isAdmitted(tcp('2001:db8::1'), 'cidr=0.0.0.0/0'));
  t.end();
});

void test('a rule without conditions, should there be one, admits nobody', (t) => {
  t.notOk(createAdmission([{}])(UNIX));
  t.end();
});

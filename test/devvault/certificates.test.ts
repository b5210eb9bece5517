// SPDX-License-Identifier: Apache-2.0
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect, createServer } from 'node:tls';
import { promisify } from 'node:util';
import { test, type Test } from 'tap';
import {
  createCa,
  createServerIdentity,
  loadCertificates,
} from '../../src/devvault/certificates.js';
import {
  encodeObjectIdentifier,
  encodeSequence,
  encodeTime,
  encodeUnsigned,
} from '../../src/devvault/der.js';
import { makeStateDir } from './support.js';

const run = promisify(execFile);
const DAY_MS = 86_400_000;
const host = '127.0.0.1';

async function openssl(...args: string[]): Promise<string> {
  const { stdout } = await run('openssl', args);
  return stdout;
}

async function makeFiles(t: Test): Promise<{ ca: string; server: string }> {
  const stateDir = await makeStateDir(t);
  await loadCertificates({ stateDir, host, nowMs: Date.now() });
  return { ca: join(stateDir, 'ca.pem'), server: join(stateDir, 'server.pem') };
}

void test('openssl accepts the chain with strict checks for each name', async (t) => {
  const { ca, server } = await makeFiles(t);
  for (const name of [
    ['-verify_ip', '127.0.0.1'],
    ['-verify_ip', '::1'],
    ['-verify_hostname', 'localhost'],
  ]) {
    const args = [
      'verify',
      '-x509_strict',
      '-purpose',
      'sslserver',
      ...name,
      '-CAfile',
      ca,
      server,
    ];
    t.match(await openssl(...args), /: OK/);
  }
});

void test('openssl refuses the server certificate for a name outside loopback', async (t) => {
  const { ca, server } = await makeFiles(t);
  const verify = openssl('verify', '-verify_hostname', 'example.com', '-CAfile', ca, server);
  await t.rejects(verify, /hostname mismatch/i);
});

void test('openssl prints the extensions of the server certificate', async (t) => {
  const { server } = await makeFiles(t);
  const text = await openssl('x509', '-in', server, '-noout', '-text');
  t.match(text, /DNS:localhost, IP Address:127\.0\.0\.1, IP Address:0:0:0:0:0:0:0:1/);
  t.match(text, /X509v3 Basic Constraints: critical\s+CA:FALSE/);
  t.match(text, /X509v3 Key Usage: critical\s+Digital Signature\n/);
  t.match(text, /TLS Web Server Authentication/);
  t.match(text, /Signature Algorithm: ecdsa-with-SHA256/);
});

void test('openssl prints the constraints of the CA', async (t) => {
  const { ca } = await makeFiles(t);
  const text = await openssl('x509', '-in', ca, '-noout', '-text');
  t.match(text, /X509v3 Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
  t.match(text, /X509v3 Key Usage: critical\s+Certificate Sign, CRL Sign/);
  t.match(text, /Permitted:\s+DNS:localhost\s+IP:127\.0\.0\.0\/255\.0\.0\.0/);
});

void test('the CA cannot vouch for a name outside loopback', async (t) => {
  const stateDir = await makeStateDir(t);
  await loadCertificates({ stateDir, host, nowMs: Date.now() });
  const path = (name: string): string => join(stateDir, name);
  await writeFile(path('evil.ext'), 'subjectAltName=DNS:login.microsoftonline.com\n');
  const made = 'ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=evil'.split(' ');
  await openssl(
    'req',
    '-new',
    '-keyout',
    path('evil.key'),
    '-out',
    path('evil.csr'),
    '-newkey',
    ...made,
  );
  const signer = ['-CA', path('ca.pem'), '-CAkey', path('ca.key'), '-extfile', path('evil.ext')];
  await openssl('x509', '-req', '-in', path('evil.csr'), '-out', path('evil.pem'), ...signer);
  await t.rejects(
    openssl('verify', '-CAfile', path('ca.pem'), path('evil.pem')),
    /permitted subtree/,
  );
});

void test('a TLS client that trusts only the CA connects', async (t) => {
  const ca = createCa(Date.now());
  const { certificatePem, privateKeyPem } = createServerIdentity(ca, { host, nowMs: Date.now() });
  const server = createServer({ cert: certificatePem, key: privateKeyPem }, (socket) =>
    socket.end('hello'),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = connect({ host: '127.0.0.1', port, ca: ca.certificatePem });
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  t.equal(chunk.toString(), 'hello');
  t.equal(socket.authorized, true);
  socket.destroy();
  server.close();
});

void test('a TLS client that trusts another CA does not connect', async (t) => {
  const { certificatePem, privateKeyPem } = createServerIdentity(createCa(Date.now()), {
    host,
    nowMs: Date.now(),
  });
  const server = createServer({ cert: certificatePem, key: privateKeyPem });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const other = createCa(Date.now()).certificatePem;
  const socket = connect({ host: '127.0.0.1', port, ca: other });
  const [error] = (await once(socket, 'error')) as [Error];
  t.match(error.message, /unable to (verify|get)/);
  server.close();
});

void test('private keys are readable by their owner only', async (t) => {
  const stateDir = await makeStateDir(t);
  await loadCertificates({ stateDir, host, nowMs: Date.now() });
  for (const name of ['ca.key', 'server.key']) {
    t.equal((await stat(join(stateDir, name))).mode & 0o777, 0o600, name);
  }
});

void test('certificates are kept while they are valid', async (t) => {
  const stateDir = await makeStateDir(t);
  const first = await loadCertificates({ stateDir, host, nowMs: Date.now() });
  const second = await loadCertificates({ stateDir, host, nowMs: Date.now() + 100 * DAY_MS });
  t.same(second, first);
});

void test('an expired server certificate is replaced under the same CA', async (t) => {
  const stateDir = await makeStateDir(t);
  const first = await loadCertificates({ stateDir, host, nowMs: Date.now() });
  const second = await loadCertificates({ stateDir, host, nowMs: Date.now() + 824 * DAY_MS });
  t.same(second.ca, first.ca);
  t.not(second.server.certificatePem, first.server.certificatePem);
});

void test('an expired CA is replaced together with the server certificate', async (t) => {
  const stateDir = await makeStateDir(t);
  const first = await loadCertificates({ stateDir, host, nowMs: Date.now() });
  const nowMs = Date.now() + 3650 * DAY_MS;
  const second = await loadCertificates({ stateDir, host, nowMs });
  t.not(second.ca.certificatePem, first.ca.certificatePem);
  const certificate = new X509Certificate(second.server.certificatePem);
  t.ok(certificate.verify(new X509Certificate(second.ca.certificatePem).publicKey));
});

void test('a server certificate that lacks the address is replaced', async (t) => {
  const stateDir = await makeStateDir(t);
  await loadCertificates({ stateDir, host, nowMs: Date.now() });
  const { server } = await loadCertificates({ stateDir, host: '127.8.9.10', nowMs: Date.now() });
  const certificate = new X509Certificate(server.certificatePem);
  t.equal(certificate.checkIP('127.8.9.10'), '127.8.9.10');
  t.equal(certificate.checkIP('127.0.0.1'), '127.0.0.1');
});

void test('a server certificate of another CA is replaced', async (t) => {
  const stateDir = await makeStateDir(t);
  const first = await loadCertificates({ stateDir, host, nowMs: Date.now() });
  await rm(join(stateDir, 'ca.pem'));
  const second = await loadCertificates({ stateDir, host, nowMs: Date.now() });
  t.not(second.server.certificatePem, first.server.certificatePem);
});

void test('a certificate without its private key is refused', async (t) => {
  const stateDir = await makeStateDir(t);
  await loadCertificates({ stateDir, host, nowMs: Date.now() });
  await rm(join(stateDir, 'ca.key'));
  await t.rejects(loadCertificates({ stateDir, host, nowMs: Date.now() }), {
    code: 'ERR_DEVVAULT_CERTIFICATE',
    message: /ca\.key is missing/,
  });
});

void test('a private key of another certificate is refused', async (t) => {
  const stateDir = await makeStateDir(t);
  await loadCertificates({ stateDir, host, nowMs: Date.now() });
  await writeFile(join(stateDir, 'ca.key'), await readFile(join(stateDir, 'server.key')));
  await t.rejects(loadCertificates({ stateDir, host, nowMs: Date.now() }), {
    code: 'ERR_DEVVAULT_CERTIFICATE',
    message: /ca\.key is not the key of ca\.pem/,
  });
});

void test('a damaged certificate is refused', async (t) => {
  const stateDir = await makeStateDir(t);
  await loadCertificates({ stateDir, host, nowMs: Date.now() });
  await writeFile(join(stateDir, 'server.pem'), 'no certificate');
  await t.rejects(loadCertificates({ stateDir, host, nowMs: Date.now() }), {
    code: 'ERR_DEVVAULT_CERTIFICATE',
  });
});

void test('DER integers take the shortest form and stay positive', (t) => {
  t.equal(encodeUnsigned(Buffer.from([0, 0, 1])).toString('hex'), '020101');
  t.equal(encodeUnsigned(Buffer.from([0x80])).toString('hex'), '02020080');
  t.equal(encodeUnsigned(Buffer.from([0])).toString('hex'), '020100');
  t.end();
});

void test('DER lengths grow at 128 and 65536 bytes', (t) => {
  t.equal(encodeSequence(Buffer.alloc(127)).subarray(0, 2).toString('hex'), '307f');
  t.equal(encodeSequence(Buffer.alloc(128)).subarray(0, 3).toString('hex'), '308180');
  t.equal(encodeSequence(Buffer.alloc(65_536)).subarray(0, 5).toString('hex'), '3083010000');
  t.end();
});

void test('DER object identifiers are those of X.690 section 8.19', (t) => {
  t.equal(encodeObjectIdentifier('1.2.840.113549').toString('hex'), '06062a864886f70d');
  t.equal(encodeObjectIdentifier('2.5.29.17').toString('hex'), '0603551d11');
  t.end();
});

void test('DER times change their form in 2050', (t) => {
  const ascii = (iso: string): string => encodeTime(new Date(iso)).subarray(2).toString('ascii');
  t.equal(ascii('2049-12-31T23:59:59Z'), '491231235959Z');
  t.equal(ascii('2050-01-01T00:00:00Z'), '20500101000000Z');
  t.end();
});

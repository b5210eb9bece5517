// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { runOk } from './process.js';

/** A key and a self-signed certificate, or one that `authority` signs; PEM files `NAME-*.pem`. */
async function certify(
  dir: string,
  name: string,
  options: { subject: string; extensions: readonly string[]; authority?: string },
): Promise<void> {
  const file = (part: string): string => join(dir, `${name}-${part}.pem`);
  const { authority } = options;
  await runOk('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-subj', options.subject, '-days', '2', '-keyout', file('key'), '-out', file('cert')],
    ...(authority === undefined
      ? []
      : ['-CA', join(dir, `${authority}-cert.pem`), '-CAkey', join(dir, `${authority}-key.pem`)]),
    ...options.extensions.flatMap((extension) => ['-addext', extension]),
  ]);
}

const AUTHORITY = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];
const SERVER = [
  'basicConstraints=critical,CA:FALSE',
  'extendedKeyUsage=serverAuth',
  'subjectAltName=DNS:localhost,IP:127.0.0.1',
];
const CLIENT = ['basicConstraints=critical,CA:FALSE', 'extendedKeyUsage=clientAuth'];

/**
 * Everything for X.509 in `dir`: `ca`, `server` and `renewed` as `NAME-cert.pem` and
 * `NAME-key.pem`, and directories as libnbd and qemu want them: `client` (CN=vm1, vm1.example),
 * `stranger`, whose certificate another authority signed, `twin`, whose names only begin or end
 * like those of `client`, and `nobody`, without one.
 */
export async function makeCertificates(dir: string): Promise<void> {
  await certify(dir, 'ca', { subject: '/CN=Test CA', extensions: AUTHORITY });
  await certify(dir, 'other', { subject: '/CN=Other CA', extensions: AUTHORITY });
  for (const name of ['server', 'renewed']) {
    await certify(dir, name, { subject: `/CN=${name}`, extensions: SERVER, authority: 'ca' });
  }
  const named = [...CLIENT, 'subjectAltName=DNS:vm1.example'];
  await certify(dir, 'client', { subject: '/CN=vm1', extensions: named, authority: 'ca' });
  await certify(dir, 'stranger', { subject: '/CN=vm1', extensions: named, authority: 'other' });
  const longer = [...CLIENT, 'subjectAltName=DNS:vm1.example.org'];
  const twin = { subject: '/O=Example/CN=vm1', extensions: longer, authority: 'ca' };
  await certify(dir, 'twin', twin);
  for (const name of ['client', 'stranger', 'twin', 'nobody']) {
    const here = join(dir, name);
    await mkdir(here);
    await copyFile(join(dir, 'ca-cert.pem'), join(here, 'ca-cert.pem'));
    if (name === 'nobody') continue;
    await copyFile(join(dir, `${name}-cert.pem`), join(here, 'client-cert.pem'));
    await copyFile(join(dir, `${name}-key.pem`), join(here, 'client-key.pem'));
  }
}

const keys = new Map<string, string>();

/**
 * A PSK file, and the keys of its names in hex; the key of a name is the same in every file that
 * has the default name.
 */
export async function makePsk(
  dir: string,
  names: readonly string[],
  file = 'keys.psk',
): Promise<Map<string, string>> {
  const lines = names.map((name) => {
    const known = `${dir}/${file}:${name}`;
    const key = keys.get(known) ?? randomBytes(32).toString('hex');
    keys.set(known, key);
    return `${name}:${key}\n`;
  });
  await writeFile(join(dir, file), lines.join(''), { mode: 0o600 });
  return new Map(names.map((name) => [name, keys.get(`${dir}/${file}:${name}`) ?? '']));
}

/** What a client of Node's needs to show a certificate of makeCertificates. */
export async function withCertificate(dir: string, name: string): Promise<ConnectionOptions> {
  const file = (part: string): Promise<Buffer> => readFile(join(dir, name, part));
  const [ca, cert, key] = await Promise.all(
    ['ca-cert.pem', 'client-cert.pem', 'client-key.pem'].map(file),
  );
  return { ca, cert, key, servername: 'localhost' };
}

/** What a client of Node's needs to use a key of makePsk. */
export function withKey(keys: ReadonlyMap<string, string>, identity: string): ConnectionOptions {
  const psk = Buffer.from(keys.get(identity) ?? '', 'hex');
  // The key proves the server too; there is no certificate whose name could be checked.
  return {
    pskCallback: () => ({ psk, identity }),
    ciphers: 'PSK',
    checkServerIdentity: () => undefined,
  };
}

// SPDX-License-Identifier: Apache-2.0
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { Rig, temporaryDirectory } from '../dataplane/rig.js';
import { makeCertificates, makePsk, withCertificate, withKey } from '../support/tls-files.js';
import { type Place, SIZE_BYTES, start, startNbdServer } from './targets.js';

/** A server that requires TLS, as a client with a certificate and one with a key come to it. */
export interface TlsTarget {
  readonly name: string;
  readonly certificate: Place;
  readonly key: Place;
}

/** keyhold and its peers, with one set of certificates and keys for all of them. */
export async function tlsTargets(t: Test): Promise<TlsTarget[]> {
  const dir = await temporaryDirectory(t);
  await makeCertificates(dir);
  const keys = await makePsk(dir, ['alice']);
  const certificate = { tls: await withCertificate(dir, 'client') };
  const key = { tls: withKey(keys, 'alice') };
  const names = { keyhold, nbdkit, 'qemu-nbd': qemuNbd, 'nbd-server': nbdServer };
  return Promise.all(
    Object.entries(names).map(async ([name, serve]) => {
      const [withX509, withPsk] = await serve(t, dir);
      return { name, certificate: { ...withX509, ...certificate }, key: { ...withPsk, ...key } };
    }),
  );
}

async function keyhold(t: Test, dir: string): Promise<readonly [Place, Place]> {
  const rig = await Rig.start(t);
  await rig.serve('disk', { sizeBytes: SIZE_BYTES });
  rig.plane.loadTls({
    certFile: join(dir, 'server-cert.pem'),
    keyFile: join(dir, 'server-key.pem'),
    clientCaFile: join(dir, 'ca-cert.pem'),
    pskFile: join(dir, 'keys.psk'),
    clientCertificates: 'required',
    minVersion: '1.2',
  });
  const path = join(rig.dir, 'tls.sock');
  rig.plane.listenUnix(path, 0o600, 'require');
  const place = { where: { path }, export: 'disk' };
  return [place, place];
}

/** Takes certificates or keys, not both at once: two processes. */
async function nbdkit(t: Test, dir: string): Promise<readonly [Place, Place]> {
  const serve = async (name: string, ...options: string[]): Promise<Place> => {
    const path = join(dir, `nbdkit-${name}.sock`);
    const args = ['--foreground', '--unix', path, '--tls=require', ...options];
    const memory = ['memory', String(SIZE_BYTES)];
    return { where: await start(t, 'nbdkit', [...args, ...memory], { path }), export: '' };
  };
  return [
    await serve('x509', `--tls-certificates=${dir}`, '--tls-verify-peer'),
    await serve('psk', `--tls-psk=${join(dir, 'keys.psk')}`),
  ];
}

async function qemuNbd(t: Test, dir: string): Promise<readonly [Place, Place]> {
  const serve = async (kind: string): Promise<Place> => {
    const [path, image] = [join(dir, `qemu-${kind}.sock`), join(dir, `qemu-${kind}.image`)];
    await writeFile(image, '');
    await truncate(image, SIZE_BYTES);
    const args = [
      ...['--object', `tls-creds-${kind},id=tls0,endpoint=server,dir=${dir}`],
      ...['--tls-creds', 'tls0', '--socket', path],
      ...['--persistent', '--shared=0', '--format=raw', image],
    ];
    return { where: await start(t, 'qemu-nbd', args, { path }), export: '' };
  };
  return [await serve('x509'), await serve('psk')];
}

/** It has no setting for keys. */
async function nbdServer(t: Test, dir: string): Promise<readonly [Place, Place]> {
  const settings = [
    `certfile = ${join(dir, 'server-cert.pem')}`,
    `keyfile = ${join(dir, 'server-key.pem')}`,
    `cacertfile = ${join(dir, 'ca-cert.pem')}`,
    'force_tls = true',
  ];
  const place = { where: await startNbdServer(t, { settings }), export: 'disk' };
  return [place, place];
}

// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, NetConnectOpts } from 'node:net';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import type { Test } from 'tap';
import { Rig, temporaryDirectory } from '../dataplane/rig.js';
import type { ReplyKind } from '../support/nbd-chunk-rules.js';
import { NbdClient } from '../support/nbd-client.js';
import { OPT } from '../support/nbd-wire.js';
import type { ExportFacts } from '../support/nbd-wire.js';
import { endProcess, eventually, runOk } from '../support/process.js';

/** Of every disk: not a round number, so that a wrongly rounded bound shows. */
export const SIZE_BYTES = 1024 * 1024 + 512;

/** A server under test with one writable and one read-only export. */
export interface Target {
  readonly name: string;
  readonly writable: Place;
  readonly readOnly: Place;
}

export interface Place {
  readonly where: NetConnectOpts;
  readonly export: string;
  /** STARTTLS comes first, with these options. */
  readonly tls?: ConnectionOptions;
}

export async function keyhold(t: Test): Promise<Target & { rig: Rig }> {
  const rig = await Rig.start(t);
  const where = rig.listen();
  await rig.serve('disk', { sizeBytes: SIZE_BYTES });
  await rig.serve('fixed', { sizeBytes: SIZE_BYTES, readOnly: true });
  const at = (name: string): Place => ({ where, export: name });
  return { name: 'keyhold', writable: at('disk'), readOnly: at('fixed'), rig };
}

/** The same behind TLS, which it requires; the certificate is its own authority. */
export async function keyholdWithTls(t: Test): Promise<Target & { rig: Rig }> {
  const target = await keyhold(t);
  const { rig } = target;
  const [keyFile, certFile] = [join(rig.dir, 'key.pem'), join(rig.dir, 'cert.pem')];
  const subject = ['-subj', '/CN=keyhold', '-addext', 'subjectAltName=DNS:keyhold'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const out = ['-keyout', keyFile, '-out', certFile, '-days', '2'];
  await runOk('openssl', ['req', '-x509', ...key, ...out, ...subject]);
  rig.plane.loadTls({ certFile, keyFile, clientCertificates: 'none', minVersion: '1.2' });
  const path = join(rig.dir, 'tls.sock');
  rig.plane.listenUnix(path, 0o600, 'require');
  const tls = { ca: await readFile(certFile), servername: 'keyhold' };
  const at = ({ export: name }: Place): Place => ({ where: { path }, export: name, tls });
  const { writable, readOnly } = target;
  return { name: 'keyhold with TLS', writable: at(writable), readOnly: at(readOnly), rig };
}

export async function nbdkit(t: Test, sizeBytes = SIZE_BYTES): Promise<Target> {
  const serve = async (name: string, ...options: string[]): Promise<Place> => {
    const path = join(await temporaryDirectory(t), `${name}.sock`);
    const args = ['--foreground', '--unix', path, ...options, 'memory', String(sizeBytes)];
    return { where: await start(t, 'nbdkit', args, { path }), export: '' };
  };
  const [writable, readOnly] = [await serve('rw'), await serve('ro', '--readonly')];
  return { name: 'nbdkit', writable, readOnly };
}

export async function qemuNbd(t: Test, sizeBytes = SIZE_BYTES): Promise<Target> {
  const serve = async (name: string, ...options: string[]): Promise<Place> => {
    const dir = await temporaryDirectory(t);
    const [path, image] = [join(dir, `${name}.sock`), join(dir, 'image')];
    await writeFile(image, '');
    await truncate(image, sizeBytes);
    const args = [
      '--socket',
      path,
      '--persistent',
      '--shared=0',
      '--format=raw',
      '--description=x',
      ...options,
    ];
    return { where: await start(t, 'qemu-nbd', [...args, image], { path }), export: '' };
  };
  const [writable, readOnly] = [await serve('rw'), await serve('ro', '--read-only')];
  return { name: 'qemu-nbd', writable, readOnly };
}

/** It knows no socket but TCP; the port is free when it is asked for, and ours if luck holds. */
export async function nbdServer(t: Test, sizeBytes = SIZE_BYTES): Promise<Target> {
  const where = await startNbdServer(t, { sizeBytes });
  const at = (name: string): Place => ({ where, export: name });
  return { name: 'nbd-server', writable: at('disk'), readOnly: at('fixed') };
}

/** With exports `disk` and `fixed`; `settings` are further lines of its general section. */
export async function startNbdServer(
  t: Test,
  { sizeBytes = SIZE_BYTES, settings = [] }: { sizeBytes?: number; settings?: readonly string[] },
): Promise<NetConnectOpts> {
  const dir = await temporaryDirectory(t);
  const port = await freePort();
  const general = [`port = ${port}`, 'listenaddr = 127.0.0.1', 'allowlist = true'];
  const lines = ['[generic]', ...general, ...settings];
  for (const name of ['disk', 'fixed']) {
    const image = join(dir, name);
    await writeFile(image, '');
    await truncate(image, sizeBytes);
    lines.push(`[${name}]`, `exportname = ${image}`, 'flush = true', 'fua = true', 'trim = true');
    if (name === 'fixed') lines.push('readonly = true');
  }
  await writeFile(join(dir, 'config'), `${lines.join('\n')}\n`);
  const pidFile = join(dir, 'pid');
  await runOk('nbd-server', ['-C', join(dir, 'config'), '-p', pidFile]); // it goes on as a daemon
  await eventually('nbd-server has a process', () => existsSync(pidFile));
  const pid = Number(await readFile(pidFile, 'utf8'));
  t.teardown(() => void process.kill(pid, 'SIGKILL'));
  const where = { port, host: '127.0.0.1' };
  await listens('nbd-server', where);
  return where;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Runs a server until the test ends, and waits until it listens. */
export async function start(
  t: Test,
  program: string,
  args: readonly string[],
  where: NetConnectOpts,
): Promise<NetConnectOpts> {
  const server = spawn(program, args, { stdio: 'ignore' });
  // qemu-nbd may take a polite end for a reason to wait.
  t.teardown(() => endProcess(server, 'SIGKILL'));
  await listens(program, where);
  return where;
}

async function listens(program: string, where: NetConnectOpts): Promise<void> {
  await eventually(`${program} listens`, async () => {
    try {
      (await NbdClient.connect(where)).destroy();
      return true;
    } catch {
      return false;
    }
  });
}

/** A client ready for options: inside TLS where the place has it. */
export async function negotiate({ where, tls }: Place): Promise<NbdClient> {
  const client = await NbdClient.handshake(where);
  if (tls !== undefined) await client.startTls(tls);
  return client;
}

export interface Entered {
  readonly client: NbdClient;
  readonly facts: ExportFacts;
}

/** A client in transmission, with base:allocation unless replies are simple. */
export async function enter(t: Test, place: Place, replies: ReplyKind): Promise<Entered> {
  const client = await negotiate(place);
  t.teardown(() => client.destroy());
  if (replies === 'structured') await client.option(OPT.STRUCTURED_REPLY);
  if (replies === 'extended') await client.option(OPT.EXTENDED_HEADERS);
  if (replies !== 'simple') await client.setMetaContext(place.export);
  return { client, facts: await client.go(place.export) };
}

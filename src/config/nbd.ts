// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import type { SchemaIssue } from '../base/schema-issues.js';
import { type Address, isLoopback, parseAddress } from './address.js';
import { address } from './fields.js';
import { absolutePath, socketPath } from './paths.js';

const LISTENERS_MAX = 16;

const tlsMode = z.enum(['off', 'allow', 'require']);
/** Whether clients of a listener may, or must, speak TLS. */
export type TlsMode = z.infer<typeof tlsMode>;

const clientCertificates = z.enum(['none', 'optional', 'required']);

const listener = z.union(
  [address, z.strictObject({ address, tls: z.exactOptional(tlsMode) })],
  'expected an address such as "127.0.0.1:10809", or a table of address and tls',
);

/** The section `[nbd]` as it is written. */
export const nbdSchema = z.strictObject({
  socket: z.exactOptional(socketPath),
  socket_tls: z.exactOptional(tlsMode),
  listen: z.exactOptional(z.array(listener).max(LISTENERS_MAX)),
  tls: z.exactOptional(tlsMode),
  certificate: z.exactOptional(
    z.strictObject({
      cert_file: absolutePath,
      key_file: absolutePath,
      client_ca_file: z.exactOptional(absolutePath),
      client_certificates: z.exactOptional(clientCertificates),
    }),
  ),
  psk: z.exactOptional(z.strictObject({ file: absolutePath })),
});
export type NbdFile = z.infer<typeof nbdSchema>;

export interface ListenConfig extends Address {
  readonly tls: TlsMode;
}

/** Where the server's TLS material lies: a certificate with its key, pre-shared keys, or both. */
export interface TlsFilesConfig {
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly clientCaFile?: string;
  readonly pskFile?: string;
  readonly clientCertificates: 'none' | 'optional' | 'required';
}

export interface NbdConfig {
  readonly socket: string;
  readonly socketTls: TlsMode;
  readonly listen: readonly ListenConfig[];
  /** Of every TCP listener that says nothing else. */
  readonly tls: TlsMode;
  /** Null: no listener speaks TLS. */
  readonly tlsFiles: TlsFilesConfig | null;
}

export const NBD_DEFAULTS = { socket: '/run/keyhold/nbd.sock', tls: 'off' } as const;

export function fillNbd(file: NbdFile): NbdConfig {
  const tls = file.tls ?? NBD_DEFAULTS.tls;
  return {
    socket: file.socket ?? NBD_DEFAULTS.socket,
    socketTls: file.socket_tls ?? 'off',
    listen: (file.listen ?? []).map((entry) => ({
      ...addressOf(typeof entry === 'string' ? entry : entry.address),
      tls: (typeof entry === 'string' ? undefined : entry.tls) ?? tls,
    })),
    tls,
    tlsFiles: tlsFilesOf(file),
  };
}

function tlsFilesOf({ certificate, psk }: NbdFile): TlsFilesConfig | null {
  if (certificate === undefined && psk === undefined) return null;
  const clientCaFile = certificate?.client_ca_file;
  return {
    ...(certificate === undefined
      ? {}
      : { certFile: certificate.cert_file, keyFile: certificate.key_file }),
    ...(clientCaFile === undefined ? {} : { clientCaFile }),
    ...(psk === undefined ? {} : { pskFile: psk.file }),
    clientCertificates:
      certificate?.client_certificates ?? (clientCaFile === undefined ? 'none' : 'required'),
  };
}

/** What fields of the section must be to each other. */
export function checkNbd(file: NbdFile): SchemaIssue[] {
  const nbd = fillNbd(file);
  const issues: SchemaIssue[] = [];
  for (const [index, { tls, ...rest }] of nbd.listen.entries()) {
    if (isLoopback(rest) || tls === 'require') continue;
    const entry = file.listen?.[index];
    const [text, said] =
      typeof entry === 'object'
        ? [entry.address, `tls is ${tls}`]
        : [entry ?? '', `nbd.tls is ${tls}`];
    issues.push({
      path: `nbd.listen[${index}]`,
      message:
        `expected a loopback address, got ${text}: beyond loopback NBD needs ` +
        `tls = "require", and ${said}`,
    });
  }
  return [...issues, ...checkTlsFiles(file, nbd)];
}

function checkTlsFiles(file: NbdFile, nbd: NbdConfig): SchemaIssue[] {
  const issues: SchemaIssue[] = [];
  const modes = [
    ['nbd.tls', nbd.tls],
    ['nbd.socket_tls', nbd.socketTls],
    ...nbd.listen.map(({ tls }, index) => [`nbd.listen[${index}].tls`, tls] as const),
  ] as const;
  const wanted = modes.find(([, mode]) => mode !== 'off');
  if (wanted !== undefined && nbd.tlsFiles === null) {
    const [path, mode] = wanted;
    const message = `${mode} needs [nbd.certificate] or [nbd.psk], and there is neither`;
    issues.push({ path, message });
  }
  const { certificate } = file;
  const asked = certificate?.client_certificates ?? 'none';
  if (certificate !== undefined && asked !== 'none' && certificate.client_ca_file === undefined) {
    const message = `${asked} needs client_ca_file, and there is none`;
    issues.push({ path: 'nbd.certificate.client_certificates', message });
  }
  return issues;
}

/** Of a text that the schema let through. */
function addressOf(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw new Error(`address ${text} passed the schema`);
  return parsed;
}

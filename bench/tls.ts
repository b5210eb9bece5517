// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeCertificates } from '../test/support/tls-files.js';

/** The same certificate for every server. */
export async function tlsFiles(dir: string): Promise<string> {
  const files = join(dir, 'tls');
  if (!existsSync(files)) {
    await mkdir(files);
    await makeCertificates(files);
  }
  return files;
}

/** fio cannot be told where certificates are: so the clients show none and check none. */
export function tlsUriOf(socket: string, name = ''): string {
  return `nbds+unix:///${name}?socket=${socket}&tls-verify-peer=false`;
}

/** What a GnuTLS of Debian 12 may use beside AES-256-GCM. */
const OTHER_CIPHERS = [
  'chacha20-poly1305',
  'aes-128-gcm',
  'aes-128-ccm',
  'aes-256-ccm',
  'aes-128-cbc',
  'aes-256-cbc',
];

/** Leaves nbdkit and the clients, all of GnuTLS, one cipher: the same with every server. */
export async function forceCipher(dir: string): Promise<void> {
  const path = join(dir, 'gnutls.conf');
  const lines = OTHER_CIPHERS.map((cipher) => `tls-disabled-cipher = ${cipher}`);
  await writeFile(path, ['[overrides]', ...lines, ''].join('\n'));
  process.env['GNUTLS_SYSTEM_PRIORITY_FILE'] = path;
}

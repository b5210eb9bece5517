// SPDX-License-Identifier: Apache-2.0
import type { ReloadResult } from '../admin/api.js';
import { messageOf } from '../base/errors.js';
import type { TlsFilesConfig } from '../config/nbd.js';
import type { DataPlane } from '../dataplane/plane.js';
import type { Alarms } from './alarms.js';

const ALARM = 'tls files';

/** What a file is for, in the order in which native code reads them. */
const PARTS = [
  ['certificate', 'certFile'],
  ['key', 'keyFile'],
  ['client CA', 'clientCaFile'],
  ['psk', 'pskFile'],
] as const;

export function loadTls(plane: Pick<DataPlane, 'loadTls'>, files: TlsFilesConfig): void {
  plane.loadTls({ ...files, minVersion: '1.2' });
}

/**
 * Reads the TLS files anew. A file that cannot be used raises an alarm, which the next success
 * clears, and everything stays as it was; throws ERR_TLS_FILES then.
 */
export function reloadTls(options: {
  plane: Pick<DataPlane, 'loadTls'>;
  alarms: Pick<Alarms, 'raise' | 'clear'>;
  files: TlsFilesConfig | null;
}): Pick<ReloadResult, 'files'> {
  const { plane, alarms, files } = options;
  if (files === null) return { files: [] };
  try {
    loadTls(plane, files);
  } catch (error) {
    alarms.raise(ALARM, `not reloaded, the old ones stay in use: ${messageOf(error)}`);
    throw error;
  }
  alarms.clear(ALARM);
  return {
    files: PARTS.flatMap(([part, field]) => {
      const path = files[field];
      return path === undefined ? [] : [{ part, path }];
    }),
  };
}

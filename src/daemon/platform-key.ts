// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { KeyholdError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { PlatformKeyConfig } from '../config/config.js';
import type { Addon } from '../dataplane/addon.js';
import { codes } from '../dataplane/errors.js';
import { loadPlatformKey, type PlatformKey } from '../dataplane/platform-key.js';

/**
 * The host's platform key, when the config names one. Throws ERR_PLATFORM_KEY_FILE: whoever names a
 * key wants to know at once that it cannot be had, and not with the first disk that needs it.
 */
export function openPlatformKey(
  config: PlatformKeyConfig | null,
  context: { addon: Addon; credentialsDirectory: string | undefined; logger: Logger },
): PlatformKey | undefined {
  if (config === null) return undefined;
  const key = loadPlatformKey(context.addon, {
    path: config.kind === 'file' ? config.path : credentialPath(config.name, context),
    credential: config.kind === 'credential',
  });
  context.logger.info({ platformKey: key.id }, 'the host has its platform key');
  return key;
}

function credentialPath(
  name: string,
  { credentialsDirectory }: { credentialsDirectory: string | undefined },
): string {
  if (credentialsDirectory !== undefined) return join(credentialsDirectory, name);
  throw new KeyholdError(
    codes.ERR_PLATFORM_KEY_FILE,
    `reading the platform key: credential ${name} is asked, but CREDENTIALS_DIRECTORY is not set`,
    { fields: { credential: name } },
  );
}

// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import type { PlatformKeyHandle } from './ports.js';

/** What asks for the platform key: throws ERR_PLATFORM_KEY_MISSING when the host has none. */
export type PlatformKeySource = () => PlatformKeyHandle;

export function platformKeySource(key: PlatformKeyHandle | undefined): PlatformKeySource {
  return () => {
    if (key !== undefined) return key;
    throw new KeyholdError(
      codes.ERR_PLATFORM_KEY_MISSING,
      'the config names no platform key: [platform_key] file or credential is needed',
    );
  };
}

// SPDX-License-Identifier: Apache-2.0
import type { OuterCipher, OuterLayer } from '../disks/ports.js';
import type { PlatformKeyHandle } from '../sets/ports.js';
import type { Addon, NativePlatformKey } from './addon.js';
import { callNative, codes } from './errors.js';

/** The file, whatever native code found wrong with it. */
const FILE_CODES = {
  InvalidArgument: codes.ERR_PLATFORM_KEY_FILE,
  System: codes.ERR_PLATFORM_KEY_FILE,
};

/** The platform key's handle: the key is in native memory for as long as the handle lives. */
export class PlatformKey implements PlatformKeyHandle {
  readonly native: NativePlatformKey;
  readonly id: string;

  constructor(native: NativePlatformKey) {
    this.native = native;
    this.id = native.id;
  }
}

/** The native object behind a handle of this facade; anything else is a programmer's error. */
export function nativePlatformKey(key: PlatformKeyHandle): NativePlatformKey {
  if (!(key instanceof PlatformKey)) throw new TypeError('platform key handle of another custody');
  return key.native;
}

/**
 * Reads a file of 32 bytes. Unless it is a `credential` of systemd, it must belong to root or the
 * daemon's user, with mode 0600 or 0400, and be no symbolic link. Throws ERR_PLATFORM_KEY_FILE.
 */
export function loadPlatformKey(
  addon: Addon,
  { path, credential }: { path: string; credential: boolean },
): PlatformKey {
  return callNative(
    'reading the platform key',
    () => new PlatformKey(addon.loadPlatformKey(path, credential)),
    FILE_CODES,
  );
}

/** Makes a new key in a new file, mode 0600. Throws ERR_PLATFORM_KEY_FILE; never overwrites. */
export function createPlatformKeyFile(addon: Addon, path: string): PlatformKey {
  return callNative(
    'making a platform key',
    () => new PlatformKey(addon.createPlatformKeyFile(path)),
    FILE_CODES,
  );
}

/** The outer pass over the inner header. Throws ERR_DEK_UNSEAL or ERR_DEK_DIGEST. */
export function openOuterCipher(
  addon: Addon,
  { platform, dek }: OuterLayer,
  sectorSizeBytes: 512 | 4096,
): OuterCipher {
  const operation = `opening the outer layer with platform key ${platform.id}`;
  const native = callNative(operation, () =>
    addon.openOuterCipher(
      nativePlatformKey(platform),
      dek.sealed,
      dek.aad,
      dek.digest,
      sectorSizeBytes,
    ),
  );
  return {
    encrypt: (bytes, offsetBytes) =>
      callNative(operation, () => native.encrypt(bytes, offsetBytes)),
    decrypt: (bytes, offsetBytes) =>
      callNative(operation, () => native.decrypt(bytes, offsetBytes)),
    wipe: () => native.wipe(),
  };
}

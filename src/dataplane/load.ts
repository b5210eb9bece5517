// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Addon } from './addon.js';
import { codes } from './errors.js';

/** The addon lies at the same distance from src/dataplane and from dist/dataplane. */
const ADDON_URL = new URL('../../native/build/release/keyhold.node', import.meta.url);

/** Loads the addon into this thread; process-wide state lives in the native core. */
export function loadAddon(): Addon {
  const path = fileURLToPath(ADDON_URL);
  try {
    return createRequire(import.meta.url)(path) as Addon;
  } catch (cause) {
    throw new KeyholdError(codes.ERR_ADDON_LOAD, `loading ${path}: ${messageOf(cause)}`, { cause });
  }
}

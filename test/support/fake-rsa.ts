// SPDX-License-Identifier: Apache-2.0
import { constants, generateKeyPairSync, type KeyObject } from 'node:crypto';

/** How the fakes wrap; what vaults call RSA-OAEP-256. */
export const OAEP = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };

/** One RSA key for a whole test file: generating it is what takes time. */
let sharedPair: { publicKey: KeyObject; privateKey: KeyObject } | undefined;
export function rsaPair(): { publicKey: KeyObject; privateKey: KeyObject } {
  sharedPair ??= generateKeyPairSync('rsa', { modulusLength: 2048 });
  return sharedPair;
}

// SPDX-License-Identifier: Apache-2.0
import type { KeyVaultKey } from '@azure/keyvault-keys';
import { type Check, failed, passed, skipped, warned } from '../base/check.js';
import { bitLength, OPERATIONS, SIZES_BITS, withoutLeadingZeros } from './customer-key.js';
import { codes } from './errors.js';

const DAY_MS = 24 * 3_600_000;
/** Time to find a person who may make a new version, and for that to get everywhere. */
const EXPIRY_WARNING_DAYS = 30;

/** The ids of `checkKey`, for a key that could not be read. */
export const KEY_CHECKS = [
  'key-type',
  'key-size',
  'key-enabled',
  'key-operations',
  'key-dates',
  'recovery-level',
] as const;

/** Everything about a key that one GET tells, each property on its own. Pure. */
export function checkKey(
  key: KeyVaultKey,
  options: { nowMs: number; allowPurgeable: boolean; expiryDenies: boolean },
): Check[] {
  return [
    checkType(key),
    checkSize(key),
    checkEnabled(key),
    checkOperations(key),
    checkDates(key, options),
    checkRecoveryLevel(key, options.allowPurgeable),
  ];
}

function checkType(key: KeyVaultKey): Check {
  const type = key.keyType ?? 'no type';
  if (isRsa(key)) return passed('key-type', type, { type });
  const message = `the key is of type ${type}, expected RSA or RSA-HSM`;
  return failed('key-type', { code: codes.ERR_KEY_TYPE, kind: 'invalid', message }, { type });
}

function checkSize(key: KeyVaultKey): Check {
  if (!isRsa(key)) return skipped('key-size', 'only RSA keys have a size that matters');
  const sizeBits = bitLength(withoutLeadingZeros(key.key?.n));
  if (SIZES_BITS.includes(sizeBits)) return passed('key-size', `${sizeBits} bits`, { sizeBits });
  const message = `the key has ${sizeBits} bits, expected ${SIZES_BITS.join(', ')}`;
  return failed('key-size', { code: codes.ERR_KEY_SIZE, kind: 'invalid', message }, { sizeBits });
}

function checkEnabled(key: KeyVaultKey): Check {
  const enabled = key.properties.enabled === true;
  const version = key.properties.version ?? '';
  if (enabled) return passed('key-enabled', 'enabled', { enabled, version });
  const message = 'the key version is disabled, expected enabled';
  const problem = { code: codes.ERR_KEY_DISABLED, kind: 'key-inaccessible', message } as const;
  return failed('key-enabled', problem, { enabled, version });
}

function checkOperations(key: KeyVaultKey): Check {
  const operations = key.keyOperations ?? [];
  const facts = { operations };
  const permitted = operations.join(', ') || 'no operation';
  if (OPERATIONS.every((operation) => operations.includes(operation))) {
    return passed('key-operations', permitted, facts);
  }
  const message = `the key permits ${permitted}, expected wrapKey and unwrapKey`;
  const problem = { code: codes.ERR_KEY_OPERATIONS, kind: 'invalid', message } as const;
  return failed('key-operations', problem, facts);
}

/**
 * Outside its dates Key Vault refuses to wrap, and goes on unwrapping: disks run on, and nothing
 * else warns of it. Hence a warning and no failure.
 */
function checkDates(
  key: KeyVaultKey,
  { nowMs, expiryDenies }: { nowMs: number; expiryDenies: boolean },
): Check {
  const { notBefore, expiresOn } = key.properties;
  const facts = {
    ...(notBefore === undefined ? {} : { notBefore: notBefore.toISOString() }),
    ...(expiresOn === undefined ? {} : { expires: expiresOn.toISOString() }),
  };
  if (notBefore !== undefined && notBefore.getTime() > nowMs) {
    const message = `the key is not valid before ${notBefore.toISOString()}`;
    return warned('key-dates', 'KeyNotYetValid', message, facts);
  }
  if (expiresOn === undefined) return passed('key-dates', 'never expires', facts);
  const daysLeft = Math.trunc((expiresOn.getTime() - nowMs) / DAY_MS);
  const withDays = { ...facts, daysLeft };
  if (expiresOn.getTime() <= nowMs) {
    const message = `the key expired at ${expiresOn.toISOString()}; the vault still unwraps with it`;
    if (!expiryDenies) return warned('key-dates', 'KeyExpired', message, withDays);
    const denied = `${message}, but the set takes its disks offline then`;
    const problem = { code: 'KeyExpired', kind: 'key-inaccessible', message: denied } as const;
    return failed('key-dates', problem, withDays);
  }
  if (daysLeft < EXPIRY_WARNING_DAYS) {
    return warned('key-dates', 'KeyExpiresSoon', `the key expires in ${daysLeft} days`, withDays);
  }
  return passed('key-dates', `expires in ${daysLeft} days`, withDays);
}

function checkRecoveryLevel(key: KeyVaultKey, allowPurgeable: boolean): Check {
  const recoveryLevel = key.properties.recoveryLevel ?? 'none';
  const facts = { recoveryLevel };
  if (recoveryLevel !== 'none' && !recoveryLevel.includes('Purgeable')) {
    return passed('recovery-level', recoveryLevel, facts);
  }
  const message = `the recovery level is ${recoveryLevel}, expected one with purge protection`;
  const code = codes.ERR_KEY_PURGEABLE;
  return allowPurgeable
    ? warned('recovery-level', code, `${message}; the set allows it`, facts)
    : failed('recovery-level', { code, kind: 'invalid', message }, facts);
}

export function isRsa(key: KeyVaultKey): boolean {
  return key.keyType === 'RSA' || key.keyType === 'RSA-HSM';
}

// SPDX-License-Identifier: Apache-2.0
import type { DoctorCheck, DoctorReport, DoctorTarget } from '../../../src/admin/api-doctor.js';

export const VERSION = '0123456789abcdef0123456789abcdef';
const KEY = 'https://myvault.vault.azure.net/keys/disks';

export function check(
  id: string,
  verdict: DoctorCheck['verdict'] = 'ok',
  rest: Partial<DoctorCheck> = {},
): DoctorCheck {
  const kind = verdict === 'fail' ? 'key-inaccessible' : null;
  return { id, verdict, code: null, kind, message: 'as it should be', facts: {}, ...rest };
}

export const TOKEN = check('token', 'ok', {
  facts: { objectId: '11111111-2222-3333-4444-555555555555' },
});
export const IDENTITY = check('identity', 'ok', {
  facts: {
    name: 'prod',
    clientId: '99999999-2222-3333-4444-555555555555',
    tenantId: 'contoso',
    secretFile: '/etc/keyhold/azure secret',
  },
});
export const READ_KEY = check('key', 'ok', { facts: { kid: `${KEY}/${VERSION}` } });

export function target(
  checks: readonly DoctorCheck[],
  rest: Partial<DoctorTarget> = {},
): DoctorTarget {
  return {
    set: 'demo',
    identity: 'prod',
    identityKind: 'client-secret',
    key: KEY,
    vaultUrl: 'https://myvault.vault.azure.net',
    vaultName: 'myvault',
    managedHsm: false,
    keyName: 'disks',
    keyVersion: null,
    checks: [...checks],
    ...rest,
  };
}

export const HEALTHY: DoctorReport = {
  targets: [target([IDENTITY, TOKEN, READ_KEY, check('unwrap'), check('canary')])],
  host: [check('locked-memory'), check('state-directory')],
};

export const SICK: DoctorReport = {
  targets: [
    target([
      IDENTITY,
      check('clock', 'warn', {
        code: 'ClockDifference',
        message: "this clock is 600 s ahead of the vault's, expected at most 300 s",
      }),
      TOKEN,
      READ_KEY,
      check('key-enabled', 'fail', {
        code: 'ERR_KEY_DISABLED',
        message: 'the key version is disabled, expected enabled',
      }),
      check('wrap', 'skipped', { message: 'it needs an RSA key' }),
      check('unwrap', 'fail', {
        code: 'KeyDisabled',
        message: 'Operation unwrapKey is not allowed on a disabled key.',
        facts: { kid: `${KEY}/${VERSION}` },
      }),
    ]),
  ],
  host: [
    check('state-directory', 'fail', {
      code: 'StateDirectoryMode',
      kind: 'forbidden',
      message: '/var/lib/keyhold has mode 0755, expected nothing for group and others',
      facts: { path: '/var/lib/keyhold', mode: '0755' },
    }),
  ],
};

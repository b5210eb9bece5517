// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import type { Caller } from '../../src/admin/api.js';
import { createSystemRandom } from '../../src/base/random.js';
import { Doctor, type DoctorOptions } from '../../src/daemon/doctor.js';
import type { SetRecord } from '../../src/sets/record.js';
import { TestClock } from '../vault/support/rig.js';

const OPERATOR: Caller = { uid: 1000, gid: 991, pid: 7, role: 'operate' };
const ADMIN: Caller = { ...OPERATOR, uid: 0, role: 'admin' };
/** Nothing listens on port 1. */
const KEY = 'https://127.0.0.1:1/keys/k1';

const RECORD = {
  name: 's1',
  identity: 'prod',
  allowPurgeable: false,
  keys: [
    {
      kid: `${KEY}/78deebed173b48e48f55abf87ed4cf71`,
      url: KEY,
      canary: { plaintext: 'AAAA', wrapped: 'AAAA' },
    },
  ],
} as unknown as SetRecord;

function createDoctor(overrides: Partial<DoctorOptions> = {}): Doctor {
  return new Doctor({
    config: () => ({
      identities: { prod: { kind: 'azure-cli' } },
      vault: { verifyChallengeResource: true, timeoutMs: 1000 },
    }),
    credentialsDirectory: undefined,
    clock: new TestClock(),
    random: createSystemRandom(),
    sets: {
      get: () => ({ record: RECORD }) as never,
      list: () => [{ record: RECORD }, { record: { ...RECORD, name: 's2' } }] as never,
      broken: () => [{ name: 's3', path: '/s/s3.json', message: 'not JSON' }],
    },
    host: () => ({
      procDirectory: '/proc',
      sysDirectory: '/sys',
      stateDir: '/',
      daemonUid: 0,
      memfdSecret: true,
      engine: { name: 'epoll', why: 'asked for', fallback: false },
      shards: { total: 1, alive: 1 },
    }),
    ...overrides,
  });
}

void test('a set is examined by its key and its canary', async (t) => {
  const { targets, host } = await createDoctor().examine({ set: 's1' }, OPERATOR);
  t.match(targets, [{ set: 's1', key: KEY, keyName: 'k1', identityKind: 'azure-cli' }]);
  t.ok(targets[0]?.checks.some(({ id }) => id === 'canary'));
  t.ok(host.some(({ id }) => id === 'state-directory'));
});

void test('without a name every set is examined, and broken records fail', async (t) => {
  const { targets, host } = await createDoctor().examine({}, OPERATOR);
  t.same(
    targets.map(({ set }) => set),
    ['s1', 's2'],
  );
  t.match(
    host.find(({ id }) => id === 'record'),
    { verdict: 'fail', facts: { set: 's3' } },
  );
});

void test('a key needs no set, and no identity where there is but one', async (t) => {
  const { targets } = await createDoctor().examine({ key: KEY }, OPERATOR);
  t.match(targets, [{ set: null, identity: 'prod', vaultName: '127.0.0.1' }]);
});

void test('a vault of Azure is named as az names it', async (t) => {
  const doctor = createDoctor({
    config: () => ({
      identities: {},
      vault: { verifyChallengeResource: true, timeoutMs: 100, proxy: 'http://127.0.0.1:1' },
    }),
  });
  for (const [host, vaultName, managedHsm] of [
    ['myvault.vault.azure.net', 'myvault', false],
    ['myhsm.managedhsm.azure.net', 'myhsm', true],
    ['vault.azure.net.example', 'vault.azure.net.example', false],
  ] as const) {
    const request = { key: `https://${host}/keys/k`, identity: 'none' };
    const { targets } = await doctor.examine(request, OPERATOR);
    t.match(targets, [{ vaultName, managedHsm, identityKind: null }]);
  }
});

void test('a key without an identity is refused where there are two', async (t) => {
  const doctor = createDoctor({
    config: () => ({
      identities: { one: { kind: 'azure-cli' }, two: { kind: 'azure-cli' } },
      vault: { verifyChallengeResource: true, timeoutMs: 100 },
    }),
  });
  await t.rejects(doctor.examine({ key: KEY }, OPERATOR), {
    code: 'ERR_IDENTITY_AMBIGUOUS',
    message: /found one, two/,
  });
});

void test('a URL that is none is refused', async (t) => {
  await t.rejects(createDoctor().examine({ key: 'http://v/keys/k' }, OPERATOR), {
    code: 'ERR_KEY_URL',
  });
});

void test('an operator may not send tokens where no challenge is checked', async (t) => {
  const doctor = createDoctor({
    config: () => ({
      identities: { prod: { kind: 'azure-cli' } },
      vault: { verifyChallengeResource: false, timeoutMs: 100 },
    }),
  });
  await t.rejects(doctor.examine({ key: KEY }, OPERATOR), { code: 'ERR_ADMIN_FORBIDDEN' });
  await t.resolves(doctor.examine({ set: 's1' }, OPERATOR));
  await t.resolves(doctor.examine({ key: KEY }, ADMIN));
});

void test('a fifth examination at the same time is refused, one after the others not', async (t) => {
  const doctor = createDoctor();
  const four = [1, 2, 3, 4].map(() => doctor.examine({ set: 's1' }, OPERATOR));
  await t.rejects(doctor.examine({ set: 's1' }, OPERATOR), { code: 'ERR_DOCTOR_BUSY' });
  await Promise.all(four);
  await t.resolves(doctor.examine({ set: 's1' }, OPERATOR));
});

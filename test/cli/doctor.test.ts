// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { type DoctorCheck, doctorReportSchema } from '../../src/admin/api-doctor.js';
import type { DoctorTarget } from '../../src/admin/api-doctor.js';
import { remediesOf } from '../../src/cli/remedies.js';
import {
  check,
  HEALTHY,
  IDENTITY,
  READ_KEY,
  SICK,
  target,
  TOKEN,
  VERSION,
} from './support/doctor-report.js';
import { FakeAdmin } from './support/fake-admin.js';
import { Transcript } from './support/golden.js';
import { cli } from './support/run-cli.js';

/** What is said about a check that failed with a code, in a target with everything known. */
function remedy(
  id: string,
  code: string,
  facts: DoctorCheck['facts'] = {},
  rest: Partial<DoctorTarget> = {},
): string {
  const sick = check(id, 'fail', { code, facts });
  return remediesOf(sick, target([IDENTITY, TOKEN, READ_KEY, sick], rest)).join('\n');
}

async function start(t: { teardown(fn: () => unknown): unknown }): Promise<FakeAdmin> {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  return fake;
}

void test('transcript: what is wrong, and what to do about it', async (t) => {
  const fake = await start(t);
  const transcript = new Transcript({ env: { KEYHOLD_SOCKET: fake.socketPath } });
  fake.answer('POST /v1/doctor', HEALTHY, doctorReportSchema);
  await transcript.run('doctor');
  fake.answer('POST /v1/doctor', SICK, doctorReportSchema);
  await transcript.run('doctor', 'demo');
  const { expected, actual } = await transcript.compare('doctor');
  t.equal(actual, expected);
});

void test('a set, a key and an identity are passed on as they are', async (t) => {
  const fake = await start(t);
  fake.answer('POST /v1/doctor', HEALTHY, doctorReportSchema);
  const options = { env: { KEYHOLD_SOCKET: fake.socketPath } };
  await cli(['doctor'], options);
  await cli(['doctor', 'demo'], options);
  await cli(['doctor', '--key', 'https://v/keys/k', '--identity', 'prod'], options);
  t.same(
    fake.seen.map(({ body }) => body),
    [{}, { set: 'demo' }, { key: 'https://v/keys/k', identity: 'prod' }],
  );
});

void test('warnings alone exit with 0', async (t) => {
  const fake = await start(t);
  const report = { targets: [], host: [check('swap', 'warn', { code: 'SwapInClear' })] };
  fake.answer('POST /v1/doctor', report, doctorReportSchema);
  t.equal((await cli(['doctor'], { env: { KEYHOLD_SOCKET: fake.socketPath } })).status, 0);
});

void test('the first failure decides the exit code', async (t) => {
  const fake = await start(t);
  const options = { env: { KEYHOLD_SOCKET: fake.socketPath } };
  const dns = check('dns', 'fail', { code: 'ENOTFOUND', kind: 'unavailable' });
  const report = { targets: [target([dns, check('canary', 'fail')])], host: [] };
  fake.answer('POST /v1/doctor', report, doctorReportSchema);
  t.equal((await cli(['doctor', 'demo'], options)).status, 6);
  fake.answer('POST /v1/doctor', SICK, doctorReportSchema);
  t.equal((await cli(['doctor', 'demo'], options)).status, 5);
});

void test('--json has the remedy beside each check', async (t) => {
  const fake = await start(t);
  fake.answer('POST /v1/doctor', SICK, doctorReportSchema);
  const options = { env: { KEYHOLD_SOCKET: fake.socketPath } };
  const { stdout } = await cli(['doctor', 'demo', '--json'], options);
  const { host, targets } = JSON.parse(stdout) as {
    host: { remedy: string[] }[];
    targets: { checks: { id: string; remedy: string[] }[] }[];
  };
  t.same(host[0]?.remedy, ['chmod 0700 /var/lib/keyhold']);
  t.same(targets[0]?.checks.find(({ id }) => id === 'token')?.remedy, []);
});

void test('what a vault says cannot steer the terminal', async (t) => {
  const fake = await start(t);
  const report = { targets: [target([check('key', 'fail', { message: '\u001b[2J' })])], host: [] };
  fake.answer('POST /v1/doctor', report, doctorReportSchema);
  const { stdout } = await cli(['doctor'], { env: { KEYHOLD_SOCKET: fake.socketPath } });
  t.notMatch(stdout, /\u001b/);
});

void test('what passed or was skipped needs no remedy', (t) => {
  t.same(remediesOf(check('key-enabled', 'ok', { code: 'ERR_KEY_DISABLED' }), target([])), []);
  t.same(remediesOf(check('dns', 'skipped'), target([])), []);
  t.end();
});

void test('a failure that nobody foresaw says where to look', (t) => {
  t.match(remedy('unwrap', 'HTTP418'), /keyhold set show demo/);
  t.end();
});

for (const [claim, actual, expected] of [
  [
    'a disabled version is enabled',
    remedy('unwrap', 'KeyDisabled'),
    `az keyvault key set-attributes --vault-name myvault --name disks --version ${VERSION} --enabled true`,
  ],
  [
    'a disabled old version is named by its own number',
    remedy('canary', 'KeyDisabled', { kid: 'https://myvault.vault.azure.net/keys/disks/abc' }),
    'az keyvault key set-attributes --vault-name myvault --name disks --version abc --enabled true',
  ],
  [
    'a missing role is assigned to the identity on the key',
    remedy('key', 'ForbiddenByRbac'),
    'az role assignment create --role "Key Vault Crypto Service Encryption User" ' +
      '--assignee-object-id 11111111-2222-3333-4444-555555555555 ' +
      '--assignee-principal-type ServicePrincipal ' +
      '--scope "$(az keyvault show --name myvault --query id --output tsv)/keys/disks"\n' +
      'a new role assignment takes up to ten minutes',
  ],
  [
    'a missing policy is set',
    remedy('unwrap', 'AccessDenied'),
    'az keyvault set-policy --name myvault --object-id 11111111-2222-3333-4444-555555555555 ' +
      '--key-permissions get wrapKey unwrapKey\n' +
      'or, in a vault with role-based access, the role ' +
      '"Key Vault Crypto Service Encryption User" on the key',
  ],
  [
    'the firewall is opened for the address that the vault saw',
    remedy('key', 'ForbiddenByFirewall', { clientAddress: '20.1.2.3' }),
    'az keyvault network-rule add --name myvault --ip-address 20.1.2.3',
  ],
  [
    'purge protection is switched on',
    remedy('recovery-level', 'ERR_KEY_PURGEABLE'),
    'az keyvault update --name myvault --enable-purge-protection true',
  ],
  [
    'an expired secret is replaced in its file',
    remedy('token', 'AADSTS7000222'),
    'az ad app credential reset --append --id 99999999-2222-3333-4444-555555555555 ' +
      '--query password --output tsv\n' +
      'write it into /etc/keyhold/azure secret; no restart is needed',
  ],
  [
    'a deleted key is recovered, in all its versions',
    remedy('key', 'KeyNotFound'),
    'az keyvault key recover --vault-name myvault --name disks\nor check name and version in the URL',
  ],
  [
    'a key in a managed HSM is found by the HSM’s name',
    remedy('unwrap', 'KeyDisabled', {}, { managedHsm: true }),
    `az keyvault key set-attributes --hsm-name myvault --name disks --version ${VERSION} --enabled true`,
  ],
  [
    'the embedded vault is driven by keyhold itself',
    remedy('unwrap', 'KeyDisabled', {}, { identityKind: 'embedded-vault' }),
    'keyhold vault enable disks',
  ],
] as const) {
  void test(claim, (t) => {
    t.equal(actual, expected);
    t.end();
  });
}

void test('a name that a shell would read is quoted', (t) => {
  const text = remedy('recovery-level', 'ERR_KEY_PURGEABLE', {}, { vaultName: "x'; rm -rf /" });
  t.equal(text, "az keyvault update --name 'x'\\''; rm -rf /' --enable-purge-protection true");
  t.end();
});

void test('without a token the identity is looked up by its client id', (t) => {
  const sick = check('key', 'fail', { code: 'AccessDenied' });
  const noObject = check('token', 'ok', { facts: { clientId: 'app-1' } });
  const [text = ''] = remediesOf(sick, target([noObject, sick]));
  t.match(text, '--object-id "$(az ad sp show --id app-1 --query id --output tsv)"');
  t.end();
});

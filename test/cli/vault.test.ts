// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { type DevVault, startDevVault } from '../../src/devvault/dev-vault.js';
import type { KeyInfo, VaultStatus } from '../../src/devvault/control-schemas.js';
import { type CliResult, cli } from './support/run-cli.js';

let dir = '';
let vault: DevVault;

void test('the vault commands drive a running embedded vault', async (t) => {
  dir = await mkdtemp(join(tmpdir(), 'keyhold-vault-'));
  vault = await startDevVault({ stateDir: dir });
  t.teardown(async () => {
    await vault.close();
    await rm(dir, { recursive: true, force: true });
  });
  const run = (...args: string[]): Promise<CliResult> =>
    cli(['vault', ...args], { env: { KEYHOLD_VAULT_SOCKET: vault.socketPath } });
  const json = async <A>(...args: string[]): Promise<A> => {
    const { status, stdout, stderr } = await run(...args, '--json');
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as A;
  };

  await t.test('key create makes an RSA key of 2048 bits', async (t) => {
    const key = await json<KeyInfo>('key', 'create', 'k');
    t.match(key, { name: 'k', enabled: true, versions: [{ kty: 'RSA', sizeBits: 2048 }] });
    t.equal(key.id, `${vault.url}/keys/k`);
  });

  await t.test('key create takes kind, size and operations', async (t) => {
    const ec = await json<KeyInfo>('key', 'create', 'ec', '--kty', 'EC');
    t.match(ec.versions, [{ kty: 'EC' }]);
    const args = ['--size', '1024', '--ops', 'sign, verify', '--disabled'];
    const small = await json<KeyInfo>('key', 'create', 'small', ...args);
    t.match(small, { enabled: false, versions: [{ sizeBits: 1024, ops: ['sign', 'verify'] }] });
  });

  await t.test('disable and enable change the newest version', async (t) => {
    t.match((await run('disable', 'k')).stdout, /^key k: disabled, newest version https:/);
    t.notOk((await json<KeyInfo>('show', 'k')).enabled);
    t.match((await run('enable', 'k')).stdout, /^key k: enabled/);
  });

  await t.test('--version names a version, not the version of the program', async (t) => {
    const { versions } = await json<KeyInfo>('rotate', 'k');
    const [oldest] = versions;
    const key = await json<KeyInfo>('disable', 'k', '--version', oldest?.version ?? '');
    t.strictSame(
      key.versions.map(({ enabled }) => enabled),
      [false, true],
    );
    await json('enable', 'k', '--version', 'all');
  });

  await t.test('delete, recover, and a purge that the vault forbids', async (t) => {
    t.match((await run('delete', 'k')).stdout, /^key k: deleted/);
    const purge = await run('purge', 'k');
    t.equal(purge.status, 7);
    t.match(purge.stderr, /purge protection.*\[ERR_DEVVAULT_FORBIDDEN\]/);
    t.match((await run('recover', 'k')).stdout, /^key k: enabled/);
  });

  await t.test('deny and allow change the permissions of the identity', async (t) => {
    const denied = await json<VaultStatus>('deny', '--operation', 'unwrapKey,get');
    t.notOk(denied.access.principals[vault.clientId]?.includes('unwrapKey'));
    t.match((await json<VaultStatus>('deny')).access.principals, {});
    const allowed = await json<VaultStatus>('allow');
    t.ok(allowed.access.principals[vault.clientId]?.includes('unwrapKey'));
  });

  await t.test('trouble is scripted with its options, and ended', async (t) => {
    const options = ['--operation', 'unwrapKey', '--count', '3', '--retry-after', '7'];
    const { troubles } = await json<VaultStatus>('trouble', 'error', '--status', '429', ...options);
    t.match(troubles, [
      { kind: 'error', operation: 'unwrapKey', status: 429, times: 3, retryAfterSeconds: 7 },
    ]);
    t.match((await json<VaultStatus>('trouble', 'latency', '--latency', '2s')).troubles, [
      {},
      { kind: 'latency', latencyMs: 2000 },
    ]);
    t.strictSame((await json<VaultStatus>('trouble', 'none')).troubles, []);
  });

  await t.test('an option that the kind of trouble does not take is refused', async (t) => {
    const { status, stderr } = await run('trouble', 'hang', '--status', '500');
    t.equal(status, 2);
    t.match(stderr, /status.*\[ERR_DEVVAULT_INPUT\]/);
  });

  await t.test('recovery-level changes the vault, and refuses a level that is none', async (t) => {
    const level = 'Recoverable+Purgeable';
    t.equal((await json<VaultStatus>('recovery-level', level)).recoveryLevel, level);
    t.equal((await run('recovery-level', 'Never')).status, 2);
  });

  await t.test('the views are for people', async (t) => {
    t.match((await run('list')).stdout, /^NAME +STATE +KIND +VERSIONS +URL\nec +enabled +EC/);
    t.match((await run('show', 'k')).stdout, /^key k\n {2}state +enabled\n[^]*VERSION +STATE/);
    t.match((await run('status')).stdout, /permissions +get wrapKey unwrapKey and \d+ more\n/);
    t.match((await run('log')).stdout, /^TIME +OPERATION/);
  });

  await t.test('a key that is not there exits with 3', async (t) => {
    for (const command of ['show', 'disable', 'delete', 'recover', 'rotate']) {
      const { status, stderr } = await run(command, 'nobody');
      t.equal(status, 3, command);
      t.match(stderr, /nobody.*\[ERR_DEVVAULT_KEY_NOT_FOUND\]/);
    }
  });
});

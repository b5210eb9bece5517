// SPDX-License-Identifier: Apache-2.0
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'tap';
import { startDevVault } from '../../src/devvault/dev-vault.js';
import {
  createKeyClient,
  createRemoteClient,
  fetchToken,
  makeStateDir,
  makeWrapped,
  send,
  sendAuthorized,
  startVault,
} from './support.js';

for (const host of [
  '0.0.0.0',
  '::',
  '192.0.2.1',
  '128.0.0.1',
  'localhost',
  'example.com',
  '',
  '::ffff:127.0.0.1',
  '127.1',
]) {
  void test(`host ${JSON.stringify(host)} is refused before anything is made`, async (t) => {
    const stateDir = await makeStateDir(t);
    await t.rejects(startDevVault({ stateDir, host }), {
      code: 'ERR_DEVVAULT_NOT_LOOPBACK',
      message: /expected an address of 127\.0\.0\.0\/8 or ::1/,
    });
    t.same(await readdir(stateDir), []);
  });
}

void test('another address of loopback serves too, with challenge verification on', async (t) => {
  const fixture = await startVault(t, { host: '127.8.9.10' });
  t.match(fixture.vault.url, /^https:\/\/127\.8\.9\.10:\d+$/);
  t.equal(fixture.vault.resource, 'api://8.9.10');
  const { kid } = await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  t.equal((await createKeyClient(fixture).getKey('k1')).id, kid);
});

void test('::1 serves where the machine has it, and is a clear error where not', async (t) => {
  const hasIpv6 = (networkInterfaces()['lo'] ?? []).some(({ address }) => address === '::1');
  const stateDir = await makeStateDir(t);
  if (!hasIpv6) {
    await t.rejects(startDevVault({ stateDir, host: '::1' }), { code: 'ERR_DEVVAULT_LISTEN' });
    return;
  }
  const fixture = await startVault(t, { stateDir, host: '::1' });
  t.equal((await sendAuthorized(fixture, '/keys?api-version=7.4')).status, 200);
});

void test('keys, secret, tenant, port and certificates survive a restart', async (t) => {
  const first = await startVault(t);
  const { kid, wrapped, plaintext } = await makeWrapped(first);
  await first.vault.close();
  const second = await startVault(t, { stateDir: first.stateDir });
  t.equal(second.vault.url, first.vault.url);
  t.equal(second.secret, first.secret);
  t.equal(second.ca, first.ca);
  t.equal(second.vault.tenantId, first.vault.tenantId);
  const { result } = await createRemoteClient(second, kid).unwrapKey('RSA-OAEP-256', wrapped);
  t.same(Buffer.from(result), plaintext);
});

void test('disabled, deleted and denied survive a restart; trouble does not', async (t) => {
  const first = await startVault(t);
  await first.control.createKey({ name: 'k1', kty: 'EC' });
  await first.control.createKey({ name: 'k2', kty: 'EC' });
  await first.control.disableKey('k1');
  await first.control.deleteKey('k2');
  await first.control.deny({ operations: ['get'] });
  await first.control.trouble({ kind: 'hang' });
  await first.vault.close();
  const { control } = await startVault(t, { stateDir: first.stateDir });
  t.match(await control.keys(), [
    { name: 'k1', enabled: false },
    { name: 'k2', deleted: true },
  ]);
  const { access, troubles } = await control.status();
  t.notOk(Object.values(access.principals)[0]?.includes('get'));
  t.same(troubles, []);
});

void test('a token that was issued before a restart is still good', async (t) => {
  const first = await startVault(t);
  const authorization = `Bearer ${await fetchToken(first)}`;
  await first.vault.close();
  const second = await startVault(t, { stateDir: first.stateDir });
  const reply = await send(second, '/keys?api-version=7.4', { headers: { authorization } });
  t.equal(reply.status, 200);
});

void test('settings given at start are kept', async (t) => {
  const settings = { recoveryLevel: 'Recoverable+Purgeable', recoverableDays: 90 } as const;
  const first = await startVault(t, { settings });
  await first.vault.close();
  const { control } = await startVault(t, { stateDir: first.stateDir });
  t.match(await control.status(), settings);
});

void test('files with secrets are for their owner only', async (t) => {
  const { stateDir } = await startVault(t);
  for (const name of ['state.json', 'ca.key', 'server.key', 'client-secret']) {
    t.equal((await stat(join(stateDir, name))).mode & 0o777, 0o600, name);
  }
});

void test('a state directory that was missing is made for its owner only', async (t) => {
  const stateDir = join(await makeStateDir(t), 'a', 'vault');
  await startVault(t, { stateDir });
  t.equal((await stat(stateDir)).mode & 0o777, 0o700);
});

void test('a state directory that cannot be made is a clear error', async (t) => {
  const file = join(await makeStateDir(t), 'file');
  await writeFile(file, '');
  await t.rejects(startDevVault({ stateDir: join(file, 'vault') }), {
    code: 'ERR_DEVVAULT_STATE',
    message: /cannot make the embedded vault's state directory/,
  });
});

void test('a process ends by itself once its vault is closed', async (t) => {
  const stateDir = await makeStateDir(t);
  const module = new URL('../../src/devvault/dev-vault.ts', import.meta.url).href;
  const script = `
    const { startDevVault } = await import(${JSON.stringify(module)});
    const vault = await startDevVault({ stateDir: ${JSON.stringify(stateDir)} });
    await vault.close();
    console.log('closed');`;
  const args = [...process.execArgv, '--input-type=module', '-e', script];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 30_000 });
  t.match(stdout, /closed/);
});

void test('a port that another program took is a clear error', async (t) => {
  const first = await startVault(t);
  const { port } = first.vault;
  await first.vault.close();
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(port, '127.0.0.1', resolve));
  t.teardown(() => squatter.close());
  await t.rejects(startDevVault({ stateDir: first.stateDir }), {
    code: 'ERR_DEVVAULT_PORT_TAKEN',
    message: `cannot listen on 127.0.0.1 port ${port}: the port is taken`,
  });
  squatter.close();
  // The failed start holds nothing: the next one works.
  const again = await startVault(t, { stateDir: first.stateDir });
  t.equal(again.vault.port, port);
});

void test('a second vault on the same state directory is refused', async (t) => {
  const { stateDir, control } = await startVault(t);
  await t.rejects(startDevVault({ stateDir, port: 0 }), { code: 'ERR_DEVVAULT_ALREADY_RUNNING' });
  t.ok(await control.status());
});

void test('a socket that a crash left behind is replaced', async (t) => {
  const stateDir = await makeStateDir(t);
  await writeFile(join(stateDir, 'control.sock'), '');
  const { control } = await startVault(t, { stateDir });
  t.ok(await control.status());
});

void test('a path too long for a socket is refused with its length', async (t) => {
  const stateDir = join(await makeStateDir(t), 'x'.repeat(100));
  await t.rejects(startDevVault({ stateDir }), {
    code: 'ERR_DEVVAULT_SOCKET_PATH',
    message: /at most 107/,
  });
});

for (const [what, change] of [
  ['no JSON', () => '{'],
  ['another format', (text: string) => text.replace('"format": 1', '"format": 2')],
  ['an unknown member', (text: string) => text.replace('{', '{ "extra": 1,')],
  ['a damaged tenant', (text: string) => text.replace(/"tenantId": "./, '"tenantId": "?')],
] as const) {
  void test(`a state file with ${what} is refused without quoting it`, async (t) => {
    const first = await startVault(t);
    await first.control.createKey({ name: 'k1', kty: 'EC' });
    await first.vault.close();
    const path = join(first.stateDir, 'state.json');
    const text = change(await readFile(path, 'utf8'));
    await writeFile(path, text);
    await t.rejects(startDevVault({ stateDir: first.stateDir }), {
      code: 'ERR_DEVVAULT_STATE',
      message: /^(?![\s\S]*PRIVATE)cannot read the vault's state/,
    });
    t.equal(await readFile(path, 'utf8'), text);
  });
}

void test('an empty client secret is refused', async (t) => {
  const stateDir = await makeStateDir(t);
  await writeFile(join(stateDir, 'client-secret'), '\n');
  await t.rejects(startDevVault({ stateDir }), { code: 'ERR_DEVVAULT_STATE' });
});

void test('a change that cannot be written is refused and has not happened', async (t) => {
  const fixture = await startVault(t);
  await fixture.control.createKey({ name: 'k1', kty: 'EC' });
  // Takes the name of the temporary file, so that writing fails for root as well.
  await mkdir(join(fixture.stateDir, 'state.json.tmp'));
  await t.rejects(fixture.control.disableKey('k1'));
  t.equal((await fixture.control.key('k1')).enabled, true);
});

void test('closing ends idle connections and frees the port', async (t) => {
  const { vault } = await startVault(t);
  const socket = connect(vault.port, '127.0.0.1');
  await once(socket, 'connect');
  const ended = once(socket, 'close');
  await vault.close();
  await ended;
  const again = connect(vault.port, '127.0.0.1');
  const [error] = (await once(again, 'error')) as [NodeJS.ErrnoException];
  t.equal(error.code, 'ECONNREFUSED');
});

void test('closing twice is closing once', async (t) => {
  const { vault, stateDir } = await startVault(t);
  await Promise.all([vault.close(), vault.close()]);
  t.notOk((await readdir(stateDir)).includes('control.sock'));
});

void test('parallel changes all arrive', async (t) => {
  const fixture = await startVault(t);
  const client = createKeyClient(fixture);
  await client.createEcKey('k0');
  const names = ['k1', 'k2', 'k3', 'k4', 'k5'];
  await Promise.all(names.map((name) => client.createEcKey(name)));
  await fixture.vault.close();
  const { control } = await startVault(t, { stateDir: fixture.stateDir });
  t.same(
    (await control.keys()).map(({ name }) => name),
    ['k0', ...names],
  );
});

// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { VaultReady } from '../../src/cli/commands/vault-serve.js';
import { formatBanner, summarize } from '../../src/cli/dev/banner.js';
import { shellQuote } from '../../src/cli/paths.js';
import { prepareConfig } from '../../src/cli/dev/config-file.js';
import { type DevPaths, devPaths } from '../../src/cli/dev/state-directory.js';

const VAULT: VaultReady = {
  ready: true,
  url: 'https://127.0.0.1:8443',
  tenantId: 'tenant',
  clientId: 'client',
  clientSecretPath: '/d/vault/secret',
  caPath: '/d/vault/ca.pem',
  controlSocket: '/d/vault/control.sock',
};

async function directory(t: { teardown(fn: () => unknown): unknown }): Promise<DevPaths> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold "q" '));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return devPaths(dir);
}

/** One that was free a moment ago. */
async function freePortNumber(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function busyPort(t: { teardown(fn: () => unknown): unknown }): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

void test('a config that is missing is written, and fits at the next start', async (t) => {
  const paths = await directory(t);
  await prepareConfig(paths, VAULT, { metricsPort: 0 });
  const text = await readFile(paths.config, 'utf8');
  t.match(text, `[nbd]\nsocket = ${JSON.stringify(paths.nbdSocket)}\n`);
  t.match(
    text,
    /\[identity\.dev\]\nkind = "[a-z-]+"\nauthority_host = "https:\/\/127.0.0.1:8443"\n/,
  );
  t.match(text, '[vault]\nca_file = "/d/vault/ca.pem"\n');
  t.match(text, /\[metrics\]\nlisten = "127\.0\.0\.1:\d+"\n/);
  await prepareConfig(paths, VAULT);
  t.equal(await readFile(paths.config, 'utf8'), text);
});

for (const [name, from, to] of [
  ['another vault', '"https://127.0.0.1:8443"', '"https://127.0.0.1:9999"'],
  ['another NBD socket', 'nbd.sock', 'other.sock'],
  ['another identity', '"client"', '"stranger"'],
  ['no CA', 'ca_file', '# ca_file'],
] as const) {
  void test(`a config with ${name} is refused and stays as it is`, async (t) => {
    const paths = await directory(t);
    await prepareConfig(paths, VAULT, { metricsPort: 0 });
    const text = (await readFile(paths.config, 'utf8')).replace(from, to);
    await writeFile(paths.config, text);
    await t.rejects(prepareConfig(paths, VAULT), {
      code: 'ERR_CLI_DEV_CONFIG',
      message: /expected .*, found /,
    });
    t.equal(await readFile(paths.config, 'utf8'), text);
  });
}

void test('what a person added to the config is kept', async (t) => {
  const paths = await directory(t);
  await prepareConfig(paths, VAULT, { metricsPort: 0 });
  const added = `${await readFile(paths.config, 'utf8')}\n[data_plane]\nshards = 1 # mine\n`;
  await writeFile(paths.config, added);
  await prepareConfig(paths, VAULT);
  t.equal(await readFile(paths.config, 'utf8'), added);
});

void test('a busy metrics port is replaced by a free one and remembered', async (t) => {
  const paths = await directory(t);
  const busy = await busyPort(t);
  await prepareConfig(paths, VAULT, { metricsPort: busy });
  t.notMatch(await readFile(paths.config, 'utf8'), `127.0.0.1:${String(busy)}"`);
});

void test('a metrics port that is asked for takes the place of the recorded one', async (t) => {
  const paths = await directory(t);
  await prepareConfig(paths, VAULT, { metricsPort: 0 });
  const asked = await freePortNumber();
  await prepareConfig(paths, VAULT, { metricsPort: asked });
  t.match(await readFile(paths.config, 'utf8'), `listen = "127.0.0.1:${String(asked)}"`);
});

void test('asking for any metrics port leaves the recorded one alone', async (t) => {
  const paths = await directory(t);
  await prepareConfig(paths, VAULT, { metricsPort: 0 });
  const before = await readFile(paths.config, 'utf8');
  await prepareConfig(paths, VAULT, { metricsPort: 0 });
  t.equal(await readFile(paths.config, 'utf8'), before);
});

void test('a recorded metrics port that is busy is replaced, with a note', async (t) => {
  const paths = await directory(t);
  await prepareConfig(paths, VAULT, { metricsPort: 0 });
  const before = await readFile(paths.config, 'utf8');
  const busy = await busyPort(t);
  const line = `listen = "127.0.0.1:${String(busy)}"`;
  await writeFile(paths.config, before.replace(/listen = "[^"]*"/, line));
  const notes: string[] = [];
  await prepareConfig(paths, VAULT, { note: (note) => notes.push(note) });
  const after = await readFile(paths.config, 'utf8');
  t.notMatch(after, line);
  const blank = (text: string): string => text.replace(/listen = "[^"]*"/, '');
  t.equal(blank(after), blank(before));
  t.match(notes, [/metrics port \d+ is busy/]);
});

void test('the banner can be pasted into a shell', (t) => {
  const paths = devPaths('/home/a b/$x');
  const summary = summarize(paths, { demoDisk: true, metrics: 'http://127.0.0.1:9754/metrics' });
  const text = formatBanner(summary, { HOME: '/h' });
  t.match(text, "nbdinfo 'nbd+unix:///demo?socket=/home/a%20b/%24x/nbd.sock'");
  t.match(text, "nbd-client -unix '/home/a b/$x/nbd.sock' -N demo /dev/nbd0");
  t.match(
    text,
    "npx keyhold vault disable demo-key --vault-socket '/home/a b/$x/vault/control.sock'",
  );
  t.match(text, 'http://127.0.0.1:9754/metrics');
  t.end();
});

void test('the banner of the default directory names no vault socket', (t) => {
  const paths = devPaths('/h/.cache/keyhold');
  const summary = summarize(paths, { demoDisk: true, metrics: null });
  const text = formatBanner(summary, { HOME: '/h', KEYHOLD_VAULT_SOCKET: '/elsewhere' });
  t.match(text, /npx keyhold vault disable demo-key$/m);
  t.end();
});

void test('a quote in a shell word is quoted', (t) => {
  t.equal(shellQuote("it's"), `'it'\\''s'`);
  t.equal(shellQuote('/a/b-c.sock'), '/a/b-c.sock');
  t.equal(shellQuote(''), "''");
  t.end();
});

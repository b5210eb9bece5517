// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { test } from 'tap';
import { loadConfig, parseConfig } from '../../src/config/config.js';
import { KeyholdError } from '../../src/base/errors.js';

const PATH = '/etc/keyhold/keyhold.toml';

function refusal(text: string): { code: string; message: string } {
  try {
    parseConfig(text, PATH);
  } catch (error) {
    if (error instanceof KeyholdError) return error;
    throw error;
  }
  throw new Error(`not refused: ${text}`);
}

void test('an empty file gives the documented defaults', (t) => {
  t.same(parseConfig('', PATH), {
    path: PATH,
    stateDir: '/var/lib/keyhold',
    nbd: {
      socket: '/run/keyhold/nbd.sock',
      socketTls: 'off',
      listen: [],
      tls: 'off',
      tlsFiles: null,
    },
    admin: { socket: '/run/keyhold/admin.sock' },
    audit: { anchorIntervalMs: null, syslog: false },
    metrics: { listen: { host: '127.0.0.1', port: 9754 } },
    dataPlane: { shards: 0, xts: 'auto', engine: 'auto', cipherThreads: 'auto', busyPollUs: 100 },
    platformKey: null,
    disks: {},
    identities: {},
    vault: {
      verifyChallengeResource: true,
      timeoutMs: 5000,
    },
  });
  t.end();
});

void test('a platform key is a file or a credential', (t) => {
  const keyOf = (line: string): unknown => parseConfig(`[platform_key]\n${line}`, PATH).platformKey;
  t.same(keyOf('file = "/etc/keyhold/platform.key"'), {
    kind: 'file',
    path: '/etc/keyhold/platform.key',
  });
  t.same(keyOf('credential = "platform"'), { kind: 'credential', name: 'platform' });
  t.end();
});

for (const [what, lines, message] of [
  ['both a file and a credential', 'file = "/a"\ncredential = "b"', /platform_key: .*got both/],
  ['neither', '', /platform_key: .*got neither/],
  ['a relative path', 'file = "a"', /platform_key\.file/],
  ['a credential with a slash', 'credential = "../a"', /platform_key\.credential/],
  ['an unknown field', 'path = "/a"', /platform_key/],
] as const) {
  void test(`a platform key with ${what} is refused`, (t) => {
    const refused = refusal(`[platform_key]\n${lines}`);
    t.equal(refused.code, 'ERR_CONFIG_INVALID');
    t.match(refused.message, message);
    t.end();
  });
}

void test('TLS of each listener and the files of all reach their places', (t) => {
  const { nbd } = parseConfig(
    `[nbd]
    listen = ["0.0.0.0:10809", { address = "127.0.0.1:1", tls = "off" }, { address = "[::1]:2" }]
    tls = "require"
    socket_tls = "allow"
    [nbd.certificate]
    cert_file = "/cert"
    key_file = "/key"
    client_ca_file = "/ca"
    [nbd.psk]
    file = "/psk"`,
    PATH,
  );
  t.same(nbd.listen, [
    { host: '0.0.0.0', port: 10809, tls: 'require' },
    { host: '127.0.0.1', port: 1, tls: 'off' },
    { host: '::1', port: 2, tls: 'require' },
  ]);
  t.equal(nbd.socketTls, 'allow');
  t.same(nbd.tlsFiles, {
    certFile: '/cert',
    keyFile: '/key',
    clientCaFile: '/ca',
    pskFile: '/psk',
    clientCertificates: 'required',
  });
  t.end();
});

void test('clients show no certificate where no authority for them is named', (t) => {
  const text = '[nbd.certificate]\ncert_file = "/c"\nkey_file = "/k"';
  t.equal(parseConfig(text, PATH).nbd.tlsFiles?.clientCertificates, 'none');
  t.end();
});

void test('every field reaches its place', (t) => {
  const text = `
    state_dir = "/srv/keyhold"
    [nbd]
    socket = "/srv/nbd.sock"
    listen = ["127.0.0.1:10809", "[::1]:0", "localhost:1"]
    tls = "off"
    [admin]
    socket = "/srv/admin.sock"
    [metrics]
    listen = "0.0.0.0:9000"
    [data_plane]
    shards = 3
    xts = "evp"
    engine = "epoll"
    cipher_threads = 0
    busy_poll_us = 0
    [disks]
    linger = "0s"
    grace = "2m"
    [identity.prod]
    kind = "managed-identity"
    client_id = "c"
    [vault]
    ca_file = "/srv/ca.pem"
    verify_challenge_resource = false
    proxy = "http://proxy:3128"
    timeout = "500ms"
    service_version = "7.5"
  `;
  t.match(parseConfig(text, PATH), {
    stateDir: '/srv/keyhold',
    nbd: {
      socket: '/srv/nbd.sock',
      listen: [
        { host: '127.0.0.1', port: 10809 },
        { host: '::1', port: 0 },
        { host: '127.0.0.1', port: 1 },
      ],
    },
    admin: { socket: '/srv/admin.sock' },
    metrics: { listen: { host: '0.0.0.0', port: 9000 } },
    dataPlane: { shards: 3, xts: 'evp', engine: 'epoll', cipherThreads: 0, busyPollUs: 0 },
    disks: { lingerMs: 0, graceMs: 120_000 },
    identities: { prod: { kind: 'managed-identity' } },
    vault: {
      caFile: '/srv/ca.pem',
      verifyChallengeResource: false,
      proxy: 'http://proxy:3128',
      timeoutMs: 500,
      serviceVersion: '7.5',
    },
  });
  t.end();
});

void test('empty strings stand for nothing', (t) => {
  const text = '[vault]\nca_file = ""\nproxy = ""\n[metrics]\nlisten = ""';
  const { metrics, vault } = parseConfig(text, PATH);
  t.same(metrics, { listen: null });
  t.same(vault, { verifyChallengeResource: true, timeoutMs: 5000 });
  t.end();
});

void test('anchors of the audit log are off for nothing and for zero', (t) => {
  for (const text of ['', '0', '0s']) {
    const { audit } = parseConfig(`[audit]\nanchor_interval = "${text}"`, PATH);
    t.equal(audit.anchorIntervalMs, null, text);
  }
  t.end();
});

void test('anchors of the audit log reach their places', (t) => {
  const text = '[audit]\nanchor_interval = "10m"\nanchor = "syslog"\nanchor_socket = "/log"';
  const { audit } = parseConfig(text, PATH);
  t.same(audit, { anchorIntervalMs: 600_000, syslog: true, syslogSocket: '/log' });
  t.end();
});

for (const [text, message] of [
  [
    '[audit]\nanchor_interval = "10"',
    'audit.anchor_interval: expected a duration between 1s and 24h, or nothing, got "10"',
  ],
  ['[audit]\nanchor_interval = "999ms"', /^audit.anchor_interval: expected a duration between 1s/],
  ['[audit]\nanchor_interval = "25h"', /^audit.anchor_interval: expected a duration between 1s/],
  ['[audit]\nanchor = "email"', /^audit.anchor: expected one of "log"/],
  ['[audit]\nanchor_socket = "log"', /^audit.anchor_socket: expected an absolute path/],
  ['state_dri = "/x"', 'state_dri: unknown field, did you mean state_dir?'],
  ['[nbd]\nsokcet = "/x"', 'nbd.sokcet: unknown field, did you mean socket?'],
  ['[identiy.prod]\nkind = "azure-cli"', 'identiy: unknown field, did you mean identity?'],
  ['[vault]\nzzz = 1', /^vault.zzz: unknown field, expected one of ca_file, proxy, /],
  [
    '[identity.prod]\nkind = "azure-cli"\ntennant_id = "t"',
    'identity.prod.tennant_id: unknown field, did you mean tenant_id?',
  ],
  [
    '[identity.prod]\nkind = "azure-cli"\ncredential = "c"',
    'identity.prod.credential: unknown field of this kind, though one of another',
  ],
  ['state_dir = "relative"', /^state_dir: expected an absolute path .*, got "relative"$/],
  ['state_dir = 5', 'state_dir: expected string, received number'],
  ['state_dir = "/a\\u0000b"', /^state_dir: expected an absolute path/],
  [
    `[admin]\nsocket = "/${'x'.repeat(107)}"`,
    /^admin.socket: expected a socket path of at most 107 bytes, got "/,
  ],
  [
    '[nbd]\nlisten = ["127.0.0.1"]',
    /^nbd.listen\[0\]: expected an IP address and a port.*, got "127.0.0.1"$/,
  ],
  ['[nbd]\nlisten = ["host:1"]', /^nbd.listen\[0\]: expected an IP address/],
  ['[nbd]\nlisten = ["127.0.0.1:65536"]', /^nbd.listen\[0\]: expected an IP address/],
  ['[nbd]\nlisten = "127.0.0.1:1"', 'nbd.listen: expected array, received string'],
  ['[nbd]\ntls = "maybe"', 'nbd.tls: expected one of "off"|"allow"|"require", got "maybe"'],
  [
    '[nbd]\ntls = "require"',
    'nbd.tls: require needs [nbd.certificate] or [nbd.psk], and there is neither',
  ],
  ['[nbd]\nsocket_tls = "allow"', /^nbd.socket_tls: allow needs \[nbd.certificate\] or/],
  [
    '[nbd]\nlisten = [{ address = "127.0.0.1:1", tls = "allow" }]',
    /^nbd.listen\[0\].tls: allow needs/,
  ],
  [
    '[nbd]\nlisten = [{ adress = "127.0.0.1:1" }]',
    /^nbd.listen\[0\]: expected an address such as "127.0.0.1:10809", or a table of address and/,
  ],
  [
    '[nbd]\nlisten = [{ address = "0.0.0.0:1", tls = "allow" }]\ntls = "require"\n' +
      '[nbd.psk]\nfile = "/psk"',
    'nbd.listen[0]: expected a loopback address, got 0.0.0.0:1: ' +
      'beyond loopback NBD needs tls = "require", and tls is allow',
  ],
  ['[nbd.certificate]\ncert_file = "/c"', 'nbd.certificate.key_file: missing: expected string'],
  ['[nbd.psk]\nfile = "psk"', /^nbd.psk.file: expected an absolute path/],
  [
    '[nbd.certificate]\ncert_file = "/c"\nkey_file = "/k"\nclient_certificates = "optional"',
    'nbd.certificate.client_certificates: optional needs client_ca_file, and there is none',
  ],
  [
    '[nbd]\nlisten = ["0.0.0.0:10809"]',
    'nbd.listen[0]: expected a loopback address, got 0.0.0.0:10809: ' +
      'beyond loopback NBD needs tls = "require", and nbd.tls is off',
  ],
  [
    '[nbd]\nlisten = ["127.0.0.1:1", "[::]:10809"]',
    /^nbd.listen\[1\]: expected a loopback address, got \[::\]:10809/,
  ],
  [
    '[nbd]\nsocket = "/a"\n[admin]\nsocket = "/a"',
    'admin.socket: expected another path than nbd.socket, got /a',
  ],
  ['[data_plane]\nshards = -1', /^data_plane.shards: too small: .*>=0, got -1$/],
  ['[data_plane]\nshards = 1.5', /^data_plane.shards: expected int, received number/],
  ['[data_plane]\ncipher_threads = 17', /^data_plane.cipher_threads: .*16/],
  ['[data_plane]\ncipher_threads = -1', /^data_plane.cipher_threads: /],
  ['[data_plane]\ncipher_threads = "many"', /^data_plane.cipher_threads: .*auto/],
  ['[data_plane]\nbusy_poll_us = 1001', /^data_plane.busy_poll_us: .*1000/],
  ['[data_plane]\nbusy_poll_us = -1', /^data_plane.busy_poll_us: /],
  ['[data_plane]\nengine = "aio"', /^data_plane.engine: .*"auto"\|"io_uring"\|"epoll"/],
  ['[data_plane]\nxts = "EVP;"', 'data_plane.xts: expected auto or a kernel, got "EVP;"'],
  ['[vault]\ntimeout = "5"', 'vault.timeout: expected a duration between 100ms and 60s, got "5"'],
  ['[vault]\ntimeout = "2h"', 'vault.timeout: expected a duration between 100ms and 60s, got "2h"'],
  [
    '[vault]\nverify_challenge_resource = "no"',
    'vault.verify_challenge_resource: expected boolean, received string',
  ],
  [
    '[identity.prod]\nkind = "guess"',
    /^identity.prod.kind: expected one of managed-identity, workload-identity, .*, got "guess"$/,
  ],
  [
    '[identity.prod]\nclient_id = "c"',
    /^identity.prod.kind: expected one of managed-identity, .*, got nothing$/,
  ],
  ['[identity."a/b"]\nkind = "azure-cli"', /^identity.a\/b: /],
  [
    '[identity.p]\nkind = "workload-identity"\nclient_id = "c"\ntenant_id = "t"\ntoken_file = "t"',
    'identity.p.token_file: expected an absolute path, got "t"',
  ],
  ['identity = 5', 'identity: expected record, received number'],
] as const) {
  void test(`refused: ${text.replaceAll('\n', ' ').slice(0, 70)}`, (t) => {
    const error = refusal(text);
    t.equal(error.code, 'ERR_CONFIG_INVALID');
    const prefix = `config ${PATH}: `;
    t.ok(error.message.startsWith(prefix), error.message);
    t.match(error.message.slice(prefix.length), message);
    t.end();
  });
}

void test('every finding is listed at once', (t) => {
  const { message } = refusal('state_dir = "x"\nfoo = 1\n[nbd]\ntls = "odd"');
  t.match(message, /state_dir: .*; nbd.tls: .*; foo: /);
  t.end();
});

void test('a password in a proxy URL is not repeated', (t) => {
  const { message } = refusal('[vault]\nproxy = "socks5://user:hunter2@proxy:1"');
  t.match(message, /^config .*: vault.proxy: expected an http/);
  t.notMatch(message, /hunter2/);
  t.end();
});

void test('broken TOML is refused with line and column and without an excerpt', (t) => {
  const { code, message } = refusal('state_dir = "/x"\nsecret = hunter2');
  t.equal(code, 'ERR_CONFIG_SYNTAX');
  t.match(message, /^config \/etc\/keyhold\/keyhold.toml, line 2, column \d+: /);
  t.notMatch(message, /hunter2/);
  t.end();
});

void test('a table that is opened twice is refused', (t) => {
  t.equal(refusal('[nbd]\n[nbd]').code, 'ERR_CONFIG_SYNTAX');
  t.end();
});

void test('whatever the bytes, the answer is a config or a refusal', (t) => {
  const value = fc.oneof(
    fc.string(),
    fc.integer().map(String),
    fc.constant('"/x"'),
    fc.constant('[]'),
  );
  const key = fc.constantFrom('state_dir', 'nbd', 'identity', 'vault', 'a.b', '__proto__', '[nbd]');
  fc.assert(
    fc.property(fc.array(fc.tuple(key, value)), (pairs) => {
      const text = pairs.map(([k, v]) => `${k} = ${v}`).join('\n');
      try {
        parseConfig(text, PATH);
      } catch (error) {
        if (!(error instanceof KeyholdError)) throw error;
      }
    }),
    { numRuns: 500 },
  );
  t.end();
});

void test('a file is read', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-config-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'keyhold.toml');
  await writeFile(path, 'state_dir = "/srv"');
  t.match(await loadConfig(path), { path, stateDir: '/srv' });
  await writeFile(path, Buffer.from([0x61, 0xff]));
  await t.rejects(loadConfig(path), { code: 'ERR_CONFIG_READ' });
  await writeFile(path, '#'.repeat(2 ** 20 + 1));
  await t.rejects(loadConfig(path), { code: 'ERR_CONFIG_READ', message: /at most 1048576 bytes/ });
  await t.rejects(loadConfig(directory), { code: 'ERR_CONFIG_READ', message: /EISDIR/ });
  await t.rejects(loadConfig(join(directory, 'none')), {
    code: 'ERR_CONFIG_READ',
    kind: 'usage',
    message: /ENOENT/,
  });
});

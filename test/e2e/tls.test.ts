// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { eventually, run, type RunResult, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';
import { makeCertificates, makePsk } from '../support/tls-files.js';

/** The system with three listeners: unix and a TCP port that require TLS, a TCP port without. */
interface Rig {
  readonly stack: Stack;
  readonly tls: string;
  readonly port: string;
  readonly clearPort: string;
}

async function start(t: Test): Promise<Rig> {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const tls = join(stack.dir, 'tls');
  await mkdir(tls);
  await makeCertificates(tls);
  await makePsk(tls, ['alice']);
  await stack.createDisk({ name: 'demo', size: '16M' });
  const lines = [
    '[nbd]',
    'socket_tls = "require"',
    'listen = ["127.0.0.1:0", { address = "127.0.0.1:0", tls = "off" }]',
    'tls = "require"',
    `certificate.cert_file = "${tls}/server-cert.pem"`,
    `certificate.key_file = "${tls}/server-key.pem"`,
    `certificate.client_ca_file = "${tls}/ca-cert.pem"`,
    `psk.file = "${tls}/keys.psk"`,
  ];
  await stack.reconfigure((text) => text.replace('[nbd]', lines.join('\n')));
  await eventually('the disk is online', async () => (await stack.disk('demo')).state === 'online');
  const [port = '', clearPort = ''] = (await stack.nbdPorts()).map(String);
  return { stack, tls, port, clearPort };
}

/** With the distribution's Python, whose module it needs; a URI may name files only if told so. */
function nbdsh(uri: string, script: string): Promise<RunResult> {
  const connect = `h.set_uri_allow_local_file(True); h.connect_uri("${uri}")`;
  return run('nbdsh', ['-c', connect, '-c', script], { env: { PATH: '/usr/bin:/bin' } });
}

const pskUri = ({ stack, tls }: Rig, name = 'alice'): string =>
  `nbds+unix://${name}@/demo?socket=${stack.nbdSocket}&tls-psk-file=${tls}/keys.psk`;
const certUri = ({ tls, port }: Rig, dir = 'client'): string =>
  `nbds://127.0.0.1:${port}/demo?tls-certificates=${join(tls, dir)}`;

void test('the daemon serves real clients over TLS', async (t) => {
  const rig = await start(t);
  const { stack, tls, port, clearPort } = rig;

  await t.test('nbdinfo and nbdcopy with a pre-shared key', async (t) => {
    const info = await runOk('nbdinfo', ['--json', pskUri(rig)]);
    t.match(JSON.parse(info), { protocol: /newstyle/, TLS: true });
    const source = join(stack.dir, 'source');
    execFileSync('dd', ['if=/dev/urandom', `of=${source}`, 'bs=1M', 'count=16', 'status=none']);
    await runOk('nbdcopy', [source, pskUri(rig)]);
    await runOk('nbdcopy', [pskUri(rig), join(stack.dir, 'back')]);
    await runOk('cmp', [source, join(stack.dir, 'back')]);
  });

  await t.test('nbdinfo with a client certificate, who is then shown', async (t) => {
    await runOk('nbdinfo', [certUri(rig)]);
    const seen = join(stack.dir, 'seen');
    const wait = `while not os.path.exists("${seen}"): time.sleep(0.05)`;
    const shell = nbdsh(certUri(rig), `import os, time\n${wait}`);
    await eventually('the client is shown', async () =>
      (await stack.ok('status', '--connections')).includes('CN=vm1'),
    );
    await writeFile(seen, '');
    t.equal((await shell).status, 0);
  });

  await t.test('qemu-img with a client certificate', async (t) => {
    const image = [
      `driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=${port}`,
      'export=demo,tls-creds=tls0,tls-hostname=localhost',
    ].join(',');
    const args = [
      ...['info', '--object', `tls-creds-x509,id=tls0,endpoint=client,dir=${join(tls, 'client')}`],
      ...['--image-opts', image],
    ];
    t.match(await runOk('qemu-img', args), /virtual size: 16 MiB/);
  });

  await t.test('strangers are refused', async (t) => {
    await makePsk(join(tls), ['alice', 'mallory'], 'other.psk');
    const wrong = pskUri(rig).replace('keys.psk', 'other.psk');
    for (const [what, uri] of [
      ['a wrong key', wrong],
      ['an unknown name', wrong.replace('alice@', 'mallory@')],
      ['a certificate of another authority', certUri(rig, 'stranger')],
      ['no certificate', certUri(rig, 'nobody')],
      ['no TLS', `nbd+unix:///demo?socket=${stack.nbdSocket}`],
      ['TLS where there is none', certUri(rig).replace(port, clearPort)],
    ] as const) {
      t.not((await run('nbdinfo', [uri])).status, 0, what);
    }
    await eventually('the log says why', async () => {
      const log = await readFile(join(stack.dir, 'daemon.log'), 'utf8');
      return log.includes('tls handshake: peer did not return a certificate');
    });
    await runOk('nbdinfo', [`nbd://127.0.0.1:${clearPort}/demo`]);
  });

  await t.test('certificates are reloaded while a session goes on', async (t) => {
    const script = [
      'import os, time',
      'h.pread(512, 0)',
      `open("${stack.dir}/before", "w").close()`,
      `while not os.path.exists("${stack.dir}/after"): time.sleep(0.05)`,
      'h.pread(512, 0)',
    ];
    const shell = nbdsh(certUri(rig), script.join('\n'));
    await eventually('the session stands', () => existsSync(join(stack.dir, 'before')));
    await copyFile(join(tls, 'server-cert.pem'), join(tls, 'kept.pem'));
    await writeFile(join(tls, 'server-cert.pem'), 'nonsense');
    const broken = await stack.cli('reload');
    t.not(broken.status, 0);
    t.match(broken.stderr, /certificate file .*server-cert.pem: certificate 1 is no certificate/);
    t.match(await stack.ok('status'), /alarm tls files/);
    await runOk('nbdinfo', [certUri(rig)]);

    await copyFile(join(tls, 'renewed-cert.pem'), join(tls, 'server-cert.pem'));
    await copyFile(join(tls, 'renewed-key.pem'), join(tls, 'server-key.pem'));
    await chmod(join(tls, 'server-key.pem'), 0o600);
    t.match(await stack.ok('reload'), /reloaded certificate: .*server-cert.pem\n/);
    t.notMatch(await stack.ok('status'), /alarm tls files/);
    await runOk('nbdinfo', [certUri(rig)]);
    await writeFile(join(stack.dir, 'after'), '');
    t.equal((await shell).status, 0);
  });

  await t.test('SIGHUP reloads and does not end the daemon', async (t) => {
    await makePsk(tls, ['alice', 'bob']);
    process.kill(await stack.daemonPid(), 'SIGHUP');
    await eventually(
      'the new client gets in',
      async () => (await run('nbdinfo', [pskUri(rig, 'bob')])).status === 0,
    );
    t.match(await stack.ok('status'), /daemon/);
  });
});

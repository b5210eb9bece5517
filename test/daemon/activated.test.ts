// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { createAdminClient } from '../../src/admin/client.js';
import { Launcher } from '../support/launcher.js';
import { NbdClient } from '../support/nbd-client.js';
import { endProcess, eventually, run } from '../support/process.js';

/** As /proc shows it. */
const O_CLOEXEC = 0o2000000;

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

interface T {
  teardown(fn: () => unknown): unknown;
}

interface Place {
  readonly dir: string;
  readonly config: string;
  readonly command: readonly string[];
}

/** A configuration whose daemon keeps to a directory of this test. */
async function place(t: T): Promise<Place> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-act-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const config = join(dir, 'keyhold.toml');
  const lines = [
    `state_dir = "${dir}/state"`,
    `[nbd]\nsocket = "${dir}/own-nbd.sock"`,
    `[admin]\nsocket = "${dir}/own-admin.sock"`,
    '[metrics]\nlisten = ""',
    '[data_plane]\nshards = 1',
  ];
  await writeFile(config, lines.join('\n'));
  return { dir, config, command: [process.execPath, main, 'daemon', '--config', config] };
}

async function launch(t: T, sockets: readonly string[], { command }: Place): Promise<Launcher> {
  const launcher = await Launcher.bind(sockets, command);
  t.teardown(() => launcher.close());
  return launcher;
}

async function ready(launcher: Launcher): Promise<number> {
  const seen = launcher.output.length;
  const pid = await launcher.start();
  await eventually('the daemon is ready', () => launcher.output.slice(seen).includes('"ready"'));
  return pid;
}

async function missing(path: string): Promise<boolean> {
  return access(path).then(
    () => false,
    () => true,
  );
}

void test('a daemon serves on what it was given and binds nothing of its own', async (t) => {
  const here = await place(t);
  const [nbd, admin] = [join(here.dir, 'n.sock'), join(here.dir, 'a.sock')];
  const launcher = await launch(
    t,
    [`nbd=unix:${nbd}`, `admin=unix:${admin}`, 'nbd=tcp:127.0.0.1'],
    here,
  );
  const pid = await ready(launcher);
  const status = await createAdminClient({ socketPath: admin }).status();
  t.same(status.nbd, [`unix:${nbd}`, `127.0.0.1:${launcher.ports[2]}`]);
  t.equal(status.adminSocket, admin);
  for (const where of [{ path: nbd }, { host: '127.0.0.1', port: launcher.ports[2] ?? 0 }]) {
    const client = await NbdClient.handshake(where);
    t.same(await client.list(), []);
    client.destroy();
  }
  t.ok(await missing(join(here.dir, 'own-nbd.sock')));
  t.ok(await missing(join(here.dir, 'own-admin.sock')));
  const flags = /^flags:\s+(\d+)$/m.exec(await readFile(`/proc/${pid}/fdinfo/3`, 'utf8'))?.[1];
  t.ok((Number.parseInt(flags ?? '0', 8) & O_CLOEXEC) !== 0, 'no child inherits the socket');
});

void test('what was not given is bound as the config says', async (t) => {
  const here = await place(t);
  const nbd = join(here.dir, 'n.sock');
  const launcher = await launch(t, [`unix:${nbd}`], here);
  await ready(launcher);
  const status = await createAdminClient({ socketPath: join(here.dir, 'own-admin.sock') }).status();
  t.same(status.nbd, [`unix:${nbd}`]);
  t.ok(await missing(join(here.dir, 'own-nbd.sock')));
});

for (const how of ['stop', 'kill'] as const) {
  void test(`clients that come after ${how} wait for the next daemon`, async (t) => {
    const here = await place(t);
    const [nbd, admin] = [join(here.dir, 'n.sock'), join(here.dir, 'a.sock')];
    const launcher = await launch(
      t,
      [`nbd=unix:${nbd}`, `admin=unix:${admin}`, 'nbd=tcp:127.0.0.1'],
      here,
    );
    await ready(launcher);
    await launcher.finish(how);
    const places = [{ path: nbd }, { host: '127.0.0.1', port: launcher.ports[2] ?? 0 }];
    const waiting = await Promise.all(places.map((where) => NbdClient.connect(where)));
    const status = createAdminClient({ socketPath: admin }).status();
    await ready(launcher);
    for (const client of waiting) {
      await client.hello();
      t.same(await client.list(), []);
      client.destroy();
    }
    t.match(await status, { nbd: [`unix:${nbd}`] });
  });
}

void test('what is no listening socket is refused with its number and what it is', async (t) => {
  const here = await place(t);
  const launcher = await launch(t, ['nbd=file:/etc/passwd'], here);
  await launcher.start();
  t.equal(await launcher.finish('wait'), 2);
  t.match(launcher.output, 'fd 3: expected a listening stream socket, got a regular file');
  t.match(launcher.output, '[ERR_ACTIVATION]');
  t.match(launcher.output, /hint: check the socket units/);
});

void test('TCP beyond loopback is refused while TLS is not required', async (t) => {
  const here = await place(t);
  const launcher = await launch(t, ['nbd=tcp:0.0.0.0'], here);
  await launcher.start();
  t.equal(await launcher.finish('wait'), 2);
  t.match(launcher.output, /fd 3, nbd: expected .*got 0\.0\.0\.0:\d+: .*tls = "require"/);
});

void test('libnbd tools start a daemon captively', async (t) => {
  const here = await place(t);
  const { stdout, stderr, status } = await run('nbdinfo', [
    '--list',
    '--',
    '[',
    ...here.command,
    ']',
  ]);
  t.equal(status, 0, stderr);
  t.match(stdout, 'protocol: newstyle-fixed');
});

/** Debian's systemd package, where it is installed. */
const systemd = await run('systemd-socket-activate', ['--version']).then(
  ({ status }) => status === 0,
  () => false,
);
if (systemd) {
  void test('systemd-socket-activate starts the daemon when the first client comes', async (t) => {
    const here = await place(t);
    const nbd = join(here.dir, 'n.sock');
    const child = spawn('systemd-socket-activate', ['-l', nbd, ...here.command], {
      stdio: 'ignore',
    });
    t.teardown(() => endProcess(child, 'SIGTERM'));
    await eventually('the socket is there', async () => !(await missing(nbd)));
    const client = await NbdClient.handshake({ path: nbd });
    t.same(await client.list(), []);
    client.destroy();
  });
}

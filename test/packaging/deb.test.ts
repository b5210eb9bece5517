// SPDX-License-Identifier: Apache-2.0
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { run, runOk } from '../support/process.js';
import { valuesOf } from '../systemd/unit-files.js';
import { buildPackage, DPKG, repository, Root } from './root.js';

/**
 * Runs an embedded vault, and the installed daemon as its unit does: as its own user, with the
 * installed config. Both end with the shell, in order: who would take over a lock of a process
 * whose number is another one's in the next namespace?
 */
const SERVE = `
started=
trap 'kill $started; wait' EXIT
as_keyhold() { exec setpriv --reuid=keyhold --regid=keyhold --clear-groups --no-new-privs "$@"; }
wait_for() { for i in $(seq 200); do "$@" > /dev/null 2>&1 && return; sleep 0.1; done; "$@"; }
field() { sed -n 's/.*"'"$1"'":"\\([^"]*\\)".*/\\1/p' /tmp/vault.json; }
systemd-tmpfiles --create keyhold.conf
install -d -o keyhold /srv/vault
as_keyhold keyhold vault serve --state /srv/vault > /tmp/vault.json &
started="$! $started"
wait_for test -s /tmp/vault.json
`;
const DAEMON = `${SERVE}
as_keyhold keyhold daemon --config /etc/keyhold/keyhold.toml > /tmp/daemon.log 2>&1 &
started="$! $started"
wait_for keyhold status || { cat /tmp/daemon.log; exit 1; }
`;

/** What an administrator adds to the config; `field` is SERVE's. */
const IDENTITY = `cat >> /etc/keyhold/keyhold.toml << END

[identity.trial]
kind = "embedded-vault"
authority_host = "$(field url)"
tenant_id = "$(field tenantId)"
client_id = "$(field clientId)"
secret_file = "$(field clientSecretPath)"
[vault]
ca_file = "$(field caPath)"
END
`;

/** Fails where no file holds a run of what was written. */
const FIND_PATTERN = 'grep -rqF ZZZZZZZZZZZZZZZZ';

const WAIT_ONLINE = `online() { keyhold disk show db01 --json | grep -q '"state": "online"'; }
wait_for online`;

/** qemu-io's commands on the disk; it answers a pattern that differs on standard output. */
function qemuIo(command: string): string {
  const uri = 'nbd+unix:///db01?socket=/run/keyhold/nbd.sock';
  return `qemu-io -f raw -c '${command}' '${uri}'`;
}

/** A second version whose config has changed, made from the first by hand. */
async function repack(deb: string, dir: string): Promise<string> {
  const tree = join(dir, 'tree');
  await runOk('dpkg-deb', ['-R', deb, tree]);
  await edit(join(tree, 'DEBIAN/control'), (text) =>
    text.replace(/^Version: .*$/m, 'Version: 99.0.0'),
  );
  await edit(join(tree, 'etc/keyhold/keyhold.toml'), (text) => `${text}# of version 99\n`);
  const next = join(dir, 'next.deb');
  await runOk('dpkg-deb', ['--root-owner-group', '-Znone', '-b', tree, next]);
  await rm(tree, { recursive: true });
  return next;
}

async function edit(path: string, change: (text: string) => string): Promise<void> {
  await writeFile(path, change(await readFile(path, 'utf8')));
}

void test('the Debian package', { timeout: 600_000 }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-deb-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const shared = join(dir, 'shared');
  await mkdir(shared);
  const name = await buildPackage(shared);
  const deb = join(shared, name);
  await repack(deb, shared);
  const root = await Root.create(shared);
  t.teardown(() => root.close());
  /** Runs what must succeed. */
  const ok = async (script: string): Promise<string> => {
    const { status, stdout, stderr } = await root.run(script);
    if (status !== 0) throw new Error(`status ${String(status)}: ${script}\n${stdout}${stderr}`);
    return stdout;
  };
  const fails = async (script: string): Promise<boolean> => (await root.run(script)).status !== 0;
  // Debian 12 has no Node.js that Keyhold could run with, and no other copy of it either.
  await ok(`rm -rf "$(command -v node)" /usr/bin/node ${repository}dist /usr/lib/node_modules`);

  await t.test('is named by version and architecture', async (t) => {
    const { version } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as {
      version: string;
    };
    const arch = (await runOk('dpkg', ['--print-architecture'])).trim();
    t.equal(name, `keyhold_${version}_${arch}.deb`);
  });

  await t.test('has manual page, completions, alert rules and the page of errors', async (t) => {
    const files = await runOk('dpkg-deb', ['-c', deb]);
    for (const path of [
      'man/man1/keyhold.1.gz',
      'bash-completion/completions/keyhold',
      'zsh/vendor-completions/_keyhold',
      'fish/vendor_completions.d/keyhold.fish',
      'doc/keyhold/docs/monitoring/alerts.yml',
      'doc/keyhold/docs/ERRORS.md',
    ]) {
      t.ok(files.includes(` ./usr/share/${path}\n`), path);
    }
  });

  await t.test('depends on every library that its programs are linked with', async (t) => {
    const depends = await runOk('dpkg-deb', ['-f', deb, 'Depends']);
    await runOk('dpkg-deb', ['-x', deb, join(dir, 'files')]);
    for (const file of ['bin/node', 'native/build/release/keyhold.node']) {
      const path = join(dir, 'files/usr/lib/keyhold', file);
      const linked = await runOk('ldd', [path]);
      t.notMatch(linked, /not found/, file);
      for (const [, library = ''] of linked.matchAll(/=> (\S+)/g)) {
        const owner = (await run('dpkg', ['-S', library.replace(/^\/lib/, '*/lib')])).stdout;
        const packages = new Set([...owner.matchAll(/^([a-z0-9.+-]+)(?=[:,])/gm)].map(([n]) => n));
        t.ok(
          [...packages].some((n) => depends.includes(n)),
          `${library}: ${[...packages].join()}`,
        );
      }
    }
  });

  await t.test('holds no module that only development needs', async (t) => {
    const modules = await readdir(join(dir, 'files/usr/lib/keyhold/node_modules'));
    const { devDependencies, dependencies } = JSON.parse(
      await readFile(join(repository, 'package.json'), 'utf8'),
    ) as Record<string, Record<string, string>>;
    for (const name of Object.keys(devDependencies ?? {})) {
      t.notOk(modules.includes(name), name);
    }
    for (const name of Object.keys(dependencies ?? {})) {
      if (/^node-(addon-api|api-headers)$/.test(name)) continue;
      t.ok(modules.includes(name.split('/')[0] ?? ''), name);
    }
  });

  await t.test('names no directory of the machine that built it in its documents', async (t) => {
    const found = await run('grep', ['-rlF', repository, join(dir, 'files/usr/share')]);
    t.equal(found.stdout, '');
    await rm(join(dir, 'files'), { recursive: true });
  });

  await t.test('installs where there is no Node.js', async (t) => {
    t.ok(await fails('command -v node'));
    await ok(`${DPKG} -i /mnt/${name}`);
    t.match(await ok('keyhold --version'), /^\d+\.\d+\.\d+/);
  });

  await t.test('makes the user and its directories', async (t) => {
    t.match(await ok('getent passwd keyhold'), /^keyhold:x:\d+:\d+:Keyhold:\/var\/lib\/keyhold:/);
    t.equal(
      await ok("stat -c '%n %U %a' /var/lib/keyhold /run/keyhold /etc/keyhold"),
      '/var/lib/keyhold keyhold 700\n/run/keyhold keyhold 755\n/etc/keyhold root 755\n',
    );
  });

  await t.test('enables its units, which systemd accepts', async (t) => {
    const wants = '/etc/systemd/system';
    await ok(`test -L ${wants}/multi-user.target.wants/keyhold.service`);
    await ok(`test -L ${wants}/sockets.target.wants/keyhold-nbd.socket`);
    await ok(`test -L ${wants}/sockets.target.wants/keyhold-admin.socket`);
    const verify = 'systemd-analyze verify --man=no keyhold.service keyhold-admin.socket 2>&1';
    t.notMatch(await ok(verify), /keyhold/);
    const unit = await ok('cat /lib/systemd/system/keyhold.service');
    const [program = ''] = (valuesOf(unit, 'ExecStart')[0] ?? '').split(' ');
    await ok(`test -x ${program}`);
  });

  await t.test('its config starts a daemon, which it can reload', async (t) => {
    t.match(await ok(`${DAEMON}\nkeyhold status --json`), /"engine": \{/);
    await ok(`${DAEMON}\nkeyhold reload`);
  });

  await t.test('serves an encrypted disk to an NBD client', async (t) => {
    await ok(`${SERVE}\n${IDENTITY}`);
    const out = await ok(
      `${DAEMON}
      keyhold vault key create disks --vault-socket "$(field controlSocket)" > /dev/null
      keyhold set create prod --key "$(field url)/keys/disks" --identity trial > /dev/null
      keyhold disk create db01 --set prod --size 64M > /dev/null
      keyhold disk attach db01 > /dev/null
      ${qemuIo('write -P 0x5a 1M 2M')}
      ${qemuIo('flush')}
      ${qemuIo('read -v -P 0x5a 1M 16')}`,
    );
    t.match(out, /5a 5a 5a 5a/);
    // What lies in the store is something else.
    t.ok(await fails(`${FIND_PATTERN} /var/lib/keyhold`));
  });

  await t.test('an upgrade keeps the edited config, and the data is served', async (t) => {
    const before = await ok('cat /etc/keyhold/keyhold.toml');
    await ok(`${DPKG} --force-confdef --force-confold -i /mnt/next.deb`);
    t.equal(
      await ok("dpkg-query -W -f '${Version} ${db:Status-Status}' keyhold"),
      '99.0.0 installed',
    );
    t.equal(await ok('cat /etc/keyhold/keyhold.toml'), before);
    t.match(await ok('cat /etc/keyhold/keyhold.toml.dpkg-dist'), /# of version 99/);
    const read = `${DAEMON}\n${WAIT_ONLINE}`;
    t.match(await ok(`${read}\n${qemuIo('read -P 0x5a 1M 2M')}`), /read 2097152\/2097152 bytes/);
    t.match(await ok(`${read}\n${qemuIo('read -P 0 8M 1M')}`), /read 1048576\/1048576 bytes/);
  });

  await t.test('a unit that was disabled stays so over an upgrade', async (t) => {
    await ok('systemctl disable keyhold-admin.socket 2> /dev/null');
    await ok(`${DPKG} -i /mnt/next.deb`);
    t.ok(await fails('test -L /etc/systemd/system/sockets.target.wants/keyhold-admin.socket'));
    await ok('test -L /etc/systemd/system/multi-user.target.wants/keyhold.service');
  });

  const sums = 'cd /var/lib/keyhold && find . -type f -exec sha256sum {} + | sort';
  const kept = await ok(sums);

  await t.test('removing it keeps config, records and stores', async (t) => {
    await ok(`${DPKG} -r keyhold`);
    t.ok(await fails('test -e /usr/bin/keyhold || test -e /usr/lib/keyhold'));
    t.match(await ok('cat /etc/keyhold/keyhold.toml'), /identity\.trial/);
    t.equal(await ok(sums), kept);
  });

  await t.test('purging it takes config and links away, never records and stores', async (t) => {
    await ok('echo key > /etc/keyhold/platform.key');
    t.match(await ok(`${DPKG} -P keyhold`), /\/var\/lib\/keyhold stays/);
    t.equal(await ok('ls /etc/keyhold'), 'platform.key\n');
    t.equal(await ok('find /etc/systemd /usr/lib/systemd /lib/systemd -name "keyhold*"'), '');
    t.equal(await ok('find /var/lib/systemd/deb-systemd* -name "*keyhold*"'), '');
    t.equal(await ok(sums), kept);
    t.match(kept, /disks\//);
  });

  await t.test('installed again, it serves what was left', async (t) => {
    await ok(`${DPKG} -i /mnt/${name}`);
    await ok(`${SERVE}\n${IDENTITY}`);
    const read = `${DAEMON}\n${WAIT_ONLINE}`;
    t.match(await ok(`${read}\n${qemuIo('read -P 0x5a 1M 2M')}`), /read 2097152\/2097152 bytes/);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { eventually } from '../support/process.js';
import { Machine, whyNoMachine } from './machine.js';
import { buildPackage, DPKG } from './root.js';

const CONFIG = '/etc/keyhold/keyhold.toml';
const DROP_INS = '/etc/systemd/system/keyhold.service.d';
const EXAMPLES = '/usr/share/doc/keyhold/examples/keyhold.service.d';
const SECRET = '/run/credentials/keyhold.service/azure-secret';

/** An embedded vault as a service of the machine; `field` reads what it says of itself. */
const VAULT = `cat > /etc/systemd/system/vault.service << END
[Service]
ExecStart=/usr/bin/keyhold vault serve --state /srv/vault --listen 127.0.0.1:18443
StandardOutput=truncate:/srv/vault.json
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --quiet --now vault.service
for i in $(seq 300); do test -s /srv/vault.json && break; sleep 0.1; done
`;
const FIELD = `field() { sed -n 's/.*"'"$1"'":"\\([^"]*\\)".*/\\1/p' /srv/vault.json; }\n`;

/** As systemd/README.md and the example say. */
const CREDENTIAL = `${FIELD}mkdir -p /etc/credstore.encrypted ${DROP_INS}
systemd-creds encrypt --with-key=host --name=azure-secret "$(field clientSecretPath)" \
  /etc/credstore.encrypted/azure-secret
cp ${EXAMPLES}/credentials.conf ${DROP_INS}/
systemctl daemon-reload
systemctl restart keyhold
`;

const IDENTITY = `${FIELD}install -m 644 "$(field caPath)" /etc/keyhold/ca.pem
cat >> ${CONFIG} << END

[identity.trial]
kind = "embedded-vault"
authority_host = "$(field url)"
tenant_id = "$(field tenantId)"
client_id = "$(field clientId)"
secret_file = "${SECRET}"
[vault]
ca_file = "/etc/keyhold/ca.pem"
END
`;

const SET = `${FIELD}keyhold set create prod --key "$(field url)/keys/disks" --identity trial \
  --probe-interval 1s`;

/** Asks the embedded vault for something. */
function vault(command: string): string {
  return `${FIELD}keyhold vault ${command} --vault-socket "$(field controlSocket)"`;
}

/** qemu-io's commands on the disk; it fails where a pattern differs. */
function qemuIo(command: string): string {
  const uri = 'nbd+unix:///db01?socket=/run/keyhold/nbd.sock';
  return `qemu-io -f raw -c '${command}' '${uri}'`;
}

const NOBODY = 'setpriv --reuid=nobody --regid=nogroup --clear-groups';
const READ = qemuIo('read -P 0x5a 1M 2M');
const SOCKETS = 'stat -c %i /run/keyhold/nbd.sock /run/keyhold/admin.sock';
const GREET = `/usr/bin/python3 -c '
import nbd
client = nbd.NBD()
client.set_opt_mode(True)
client.connect_unix("/run/keyhold/nbd.sock")
print(client.get_protocol())
client.opt_abort()'`;

/** A drop-in: the daemon is not started before the gate is open. */
const GATE = `[Service]
ExecStartPre=/bin/sh -c 'until test -e /srv/gate; do sleep 0.1; done'
`;
const CONNECT_THEN_OPEN_GATE = `/usr/bin/python3 -c '
import socket
client = socket.socket(socket.AF_UNIX)
client.connect("/run/keyhold/nbd.sock")
open("/srv/gate", "w").close()
print(client.recv(18, socket.MSG_WAITALL))'`;

/** The service as systemd sees it. */
class Service {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  async show(property: string): Promise<string> {
    return (await this.#machine.ok(`systemctl show --value -p ${property} keyhold`)).trim();
  }

  async showNumber(property: string): Promise<number> {
    return Number(await this.show(property));
  }

  async until(property: string, pattern: RegExp): Promise<string> {
    let seen = '';
    await eventually(
      `${property} matches ${String(pattern)}`,
      async () => pattern.test((seen = await this.show(property))),
      60_000,
    );
    return seen;
  }

  /** Systemd has counted another restart of its own, and it serves the disk again. */
  async comesBack(restarts: number): Promise<void> {
    await eventually(
      'systemd restarts it',
      async () => (await this.showNumber('NRestarts')) > restarts,
      60_000,
    );
    await this.until('ActiveState', /^active$/);
    await this.online();
  }

  async online(): Promise<void> {
    await this.until('StatusText', /^1 of 1 disk online, 1 of 1 set granted/);
  }

  /** This test starts it more often than it may be started in ten minutes. */
  async forgetStarts(): Promise<void> {
    await this.#machine.ok('systemctl reset-failed keyhold');
  }
}

const skip = await whyNoMachine();

void test('under systemd as process 1', { skip, timeout: 600_000 }, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-systemd-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const shared = join(dir, 'shared');
  await mkdir(shared);
  const install = `${DPKG} --no-triggers -i /mnt/${await buildPackage(shared)}`;
  const machine = await Machine.boot(shared);
  t.teardown(() => machine.close());
  const service = new Service(machine);
  const { ok, fails } = {
    ok: (script: string) => machine.ok(script),
    fails: (script: string) => machine.fails(script),
  };

  await t.test('its installation starts sockets and service, which says READY', async (t) => {
    await ok(install);
    const units = 'keyhold.service keyhold-nbd.socket keyhold-admin.socket';
    t.equal(await ok(`systemctl is-active ${units}`), 'active\nactive\nactive\n');
    t.equal(await service.show('Type'), 'notify');
    t.match(await ok('systemctl status keyhold'), /Status: "0 of 0 disks online, 0 of 0 sets/);
  });

  await t.test('it has no privileges and a filter of system calls', async (t) => {
    const pid = await service.show('MainPID');
    const status = await ok(`cat /proc/${pid}/status`);
    const uid = (await ok('id -u keyhold')).trim();
    for (const line of [
      `Uid:\t${uid}\t${uid}\t${uid}\t${uid}`,
      'NoNewPrivs:\t1',
      'Seccomp:\t2',
      ...['Prm', 'Eff', 'Bnd', 'Amb'].map((set) => `Cap${set}:\t0000000000000000`),
    ]) {
      t.ok(status.includes(`\n${line}\n`), line);
    }
    t.match(await ok(`cat /proc/${pid}/limits`), /^Max core file size +0 +0 /m);
  });

  await t.test('it sees and writes nothing outside its own directories', async (t) => {
    await ok('mkdir -m 777 /srv/open; touch /home/seen /tmp/seen /dev/seen');
    const within = `nsenter -m -t ${await service.show('MainPID')}`;
    const as = `${within} setpriv --reuid=keyhold --regid=keyhold --clear-groups`;
    await ok(`${as} touch /var/lib/keyhold/mine && rm /var/lib/keyhold/mine`);
    // The permissions allow it; the mount does not.
    t.match(await fails(`${as} touch /srv/open/mine`), /Read-only file system/);
    t.match(await fails(`${within} touch /usr/mine`), /Read-only file system/);
    for (const hidden of ['/home/seen', '/tmp/seen', '/dev/seen']) {
      await ok(`test -e ${hidden}`);
      t.match(await fails(`${within} ls ${hidden}`), /No such file/, hidden);
    }
  });

  await t.test('who is not in its group reaches neither socket', async (t) => {
    t.match(await fails(`${NOBODY} keyhold status`), /permission denied|EACCES/i);
    t.match(await fails(`${NOBODY} ${GREET}`), /Permission denied/);
    t.match(await ok(`setpriv --reuid=nobody --regid=keyhold --clear-groups ${GREET}`), /newstyle/);
  });

  await t.test('a secret comes as an encrypted credential, for it alone', async (t) => {
    await ok(VAULT);
    await ok(vault('key create disks'));
    await ok(CREDENTIAL);
    t.equal(await ok(`stat -c '%U %a' ${SECRET}`), 'keyhold 400\n');
    await ok(`${FIELD}cmp ${SECRET} "$(field clientSecretPath)"`);
    t.match(await fails(`${NOBODY} cat ${SECRET}`), /Permission denied/);
    const renamed = 'systemd-creds decrypt --name=other /etc/credstore.encrypted/azure-secret';
    t.match(await fails(renamed), /name.*does not match|does not match.*name/i);
  });

  await t.test('systemctl reload applies a changed config', async (t) => {
    t.match(await fails(SET), /ERR_VAULT_IDENTITY/);
    await ok(IDENTITY);
    const pid = await service.show('MainPID');
    await ok('systemctl reload keyhold');
    await ok(SET);
    t.equal(await service.show('MainPID'), pid);
  });

  await t.test('a client reads back what it wrote through the socket of the unit', async (t) => {
    await ok('keyhold disk create db01 --set prod --size 64M && keyhold disk attach db01');
    await ok(qemuIo('write -P 0x5a 1M 2M'));
    t.match(await ok(`${qemuIo('flush')}; ${READ}`), /read 2097152\/2097152 bytes/);
    t.match(await fails(qemuIo('read -P 0x5b 1M 2M')), /Pattern verification failed/);
    t.match(
      await fails('grep -rF ZZZZZZZZZZZZZZZZ /var/lib/keyhold || echo none; false'),
      /^none$/m,
    );
    await service.online();
  });

  for (const [what, change, complaint] of [
    ['is wrong', 'echo "[nonsense]" >> $CONFIG', /nonsense: unknown field/],
    ['needs a restart', `sed -i 's|^state_dir.*|state_dir = "/srv/open"|' $CONFIG`, /state_dir/],
  ] as const) {
    await t.test(
      `systemctl reload fails with a config that ${what}, and it serves on`,
      async (t) => {
        await ok(`cp -p ${CONFIG} /srv/good`);
        await ok(`CONFIG=${CONFIG}; ${change}`);
        await fails('systemctl reload keyhold');
        t.equal(await service.show('ActiveState'), 'active');
        t.match(await ok('journalctl -u keyhold -o cat -n 20'), complaint);
        t.match(await ok(READ), /read 2097152/);
        await ok(`cp -p /srv/good ${CONFIG}; systemctl reload keyhold`);
      },
    );
  }

  await t.test('a revocation is in the status line, and so is the return of the key', async (t) => {
    await ok(vault('disable disks'));
    await service.until('StatusText', /^0 of 1 disk online, 0 of 1 set granted/);
    await fails(READ);
    t.equal(await service.show('ActiveState'), 'active');
    await ok(vault('enable disks'));
    await service.online();
    t.match(await ok(READ), /read 2097152/);
  });

  await t.test('a client that comes during a restart is served by the next process', async (t) => {
    await ok(`cat > ${DROP_INS}/gate.conf << 'END'\n${GATE}END\nsystemctl daemon-reload`);
    const [pid, sockets] = [await service.show('MainPID'), await ok(SOCKETS)];
    await ok('systemctl restart --no-block keyhold');
    await service.until('SubState', /^start-pre$/);
    t.equal(await service.show('MainPID'), '0');
    t.match(await ok(CONNECT_THEN_OPEN_GATE), /^b'NBDMAGICIHAVEOPT/);
    t.match(await service.show('MainPID'), /^[1-9]\d*$/);
    t.not(await service.show('MainPID'), pid);
    t.equal(await ok(SOCKETS), sockets);
    await service.online();
    t.match(await ok(READ), /read 2097152/);
    await ok(`rm ${DROP_INS}/gate.conf; systemctl daemon-reload`);
  });

  await t.test('killed, it is started again, and its disk comes back by itself', async (t) => {
    await service.forgetStarts();
    const [restarts, sockets] = [await service.showNumber('NRestarts'), await ok(SOCKETS)];
    await ok('systemctl kill --signal=KILL keyhold');
    await service.comesBack(restarts);
    t.match(await ok(READ), /read 2097152/);
    t.equal(await ok(SOCKETS), sockets);
  });

  await t.test('stopped by a signal, the watchdog kills it, and it is started again', async (t) => {
    // Of the unit's 30 s a test would see nothing else.
    await ok(`printf '[Service]\\nWatchdogSec=3s\\n' > ${DROP_INS}/watchdog.conf`);
    await ok('systemctl daemon-reload; systemctl restart keyhold');
    const restarts = await service.showNumber('NRestarts');
    await ok('systemctl kill --signal=STOP keyhold');
    await service.comesBack(restarts);
    t.match(await ok('journalctl -u keyhold -o cat -n 50'), /Failed with result 'watchdog'/);
    t.match(await ok(READ), /read 2097152/);
    await ok(`rm ${DROP_INS}/watchdog.conf; systemctl daemon-reload; systemctl restart keyhold`);
    t.equal(await service.show('WatchdogUSec'), '30s');
  });

  await t.test('an exit status of a wrong config is no reason to start it again', async (t) => {
    await service.forgetStarts();
    await ok(`cp -p ${CONFIG} /srv/good; echo '[nonsense]' >> ${CONFIG}`);
    await fails('systemctl restart keyhold');
    t.equal(await service.show('ActiveState'), 'failed');
    t.equal(await service.show('NRestarts'), '0');
    t.equal(await service.show('ExecMainStatus'), '2');
    await ok(`cp -p /srv/good ${CONFIG}; systemctl start keyhold`);
    await service.online();
  });

  await t.test('an upgrade restarts it and keeps the sockets', async (t) => {
    await service.forgetStarts();
    const [pid, sockets] = [await service.show('MainPID'), await ok(SOCKETS)];
    await ok(install);
    t.equal(await service.show('ActiveState'), 'active');
    t.not(await service.show('MainPID'), pid);
    t.equal(await ok(SOCKETS), sockets);
    await service.online();
    t.match(await ok(READ), /read 2097152/);
  });

  await t.test('systemctl stop ends it in order, and a client starts it again', async (t) => {
    await service.forgetStarts();
    await ok('systemctl stop keyhold');
    t.equal(await service.show('ActiveState'), 'inactive');
    t.equal(await service.show('Result'), 'success');
    t.equal(await service.show('ExecMainStatus'), '0');
    t.match(await ok(GREET), /newstyle-fixed/);
    t.equal(await service.show('ActiveState'), 'active');
  });

  await t.test(
    'it ends in order with the machine, and the next boot serves its disk',
    async (t) => {
      await machine.reboot(shared);
      t.match(
        await ok('journalctl -b -1 -u keyhold -o cat -n 5'),
        /Deactivated successfully\.\n(?:.*\n)*Stopped keyhold\.service/,
      );
      await service.online();
      t.match(await ok(READ), /read 2097152/);
    },
  );

  await t.test('removing the package stops the service and its sockets', async (t) => {
    await ok(`${DPKG} --no-triggers -r keyhold`);
    const units = 'keyhold.service keyhold-nbd.socket keyhold-admin.socket';
    t.match(await fails(`systemctl is-active ${units}`), /^inactive\ninactive\ninactive\n/);
    t.match(await fails(GREET), /refused|No such file/i);
    t.equal(await ok('pgrep -u keyhold || echo none'), 'none\n');
  });
});

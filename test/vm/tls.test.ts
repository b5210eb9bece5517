// SPDX-License-Identifier: Apache-2.0
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { createDisk, createSet } from '../support/keys.js';
import type { Stack } from '../support/stack.js';
import { makeCertificates } from '../support/tls-files.js';
import { runProgram } from '../support/vm/programs.js';
import { VmRig } from '../support/vm/rig.js';

const MIB = 1024 * 1024;

/** Files of certificates; `other` is an authority that signed none of those that count. */
const FILES = [
  'ca-cert',
  'other-cert',
  'client-cert',
  'client-key',
  'stranger-cert',
  'stranger-key',
];

/** The options of `nbd-client` for the certificate of a client; the server's name is in its own. */
function tlsOptions(client: string, authority = 'ca'): string {
  const file = (name: string): string => `/tmp/${name}.pem`;
  return (
    `-certfile ${file(`${client}-cert`)} -keyfile ${file(`${client}-key`)} ` +
    `-cacertfile ${file(`${authority}-cert`)} -tlshostname localhost`
  );
}

/**
 * Makes the file system here: its log alone is 64 MiB, and all of it would pass the cipher of an
 * emulated processor.
 */
async function formatXfs(stack: Stack, disk: string): Promise<void> {
  const image = join(stack.dir, 'xfs.img');
  await writeFile(image, '');
  await truncate(image, 512 * MIB);
  await runProgram('mkfs.xfs', ['-q', image]);
  await runProgram('nbdcopy', [image, stack.uri(disk)]);
}

void test('the kernel as a client over TLS, by the proxy of nbd-client', async (t) => {
  const rig = await VmRig.start(t);
  const { stack, guest } = rig;
  await makeCertificates(stack.dir);
  const lines = [
    'tls = "require"',
    `certificate.cert_file = "${stack.dir}/server-cert.pem"`,
    `certificate.key_file = "${stack.dir}/server-key.pem"`,
    `certificate.client_ca_file = "${stack.dir}/ca-cert.pem"`,
  ];
  await stack.reconfigure((text) => text.replace('[nbd]\n', `[nbd]\n${lines.join('\n')}\n`));
  await createSet(stack, 'set');
  const allow = ['san=DNS:vm1.example', 'uid=0'];
  await createDisk(stack, 'mine', { set: 'set', sizeBytes: 32 * MIB, allow });
  await createDisk(stack, 'large', { set: 'set', sizeBytes: 512 * MIB, allow });
  await createDisk(stack, 'theirs', { set: 'set', allow: ['san=DNS:vm2.example'] });
  await formatXfs(stack, 'large');
  for (const name of FILES) {
    const text = (await readFile(join(stack.dir, `${name}.pem`))).toString('base64');
    await guest.ok(`echo ${text} | base64 -d > /tmp/${name}.pem`);
  }

  // A handshake that fails ends the proxy, and its other half only sees that nothing comes.
  const refusals = [
    ['in clear', 'mine', '', /this listener requires TLS/],
    ['with a certificate of another authority', 'mine', tlsOptions('stranger'), /invalid/],
    ['for a disk that allows somebody else', 'theirs', tlsOptions('client'), /no export "theirs"/],
    ['of a server of another authority', 'mine', tlsOptions('client', 'other'), /invalid/],
  ] as const;
  for (const [claim, disk, options, why] of refusals) {
    await t.test(`no attachment ${claim}`, async (t) => {
      const { status, output } = await guest.run(await rig.attach(disk, '/dev/nbd1', options));
      t.not(status, 0);
      t.match(output, why);
      t.equal((await stack.disk(disk)).clients, 0);
      t.equal((await guest.run('nbd-client -c /dev/nbd1')).status, 1, 'no device');
    });
  }

  await guest.ok(await rig.attach('mine', '/dev/nbd0', tlsOptions('client')));

  await t.test(
    'the daemon sees TLS 1.2, all that nbd-client speaks, and the certificate of the client',
    async (t) => {
      const { connections } = await stack.disk('mine');
      const certificate = { subject: 'CN=vm1', subjectAltNames: ['DNS:vm1.example'] };
      t.match(connections, [{ tls: { version: 'TLSv1.2', certificate }, phase: 'transmission' }]);
    },
  );

  await guest.ok(await rig.attach('large', '/dev/nbd2', tlsOptions('client')));
  await guest.ok('mkfs.ext4 -q /dev/nbd0');

  for (const [kind, device, check] of [
    ['ext4', '/dev/nbd0', 'e2fsck -fn'],
    ['xfs', '/dev/nbd2', 'xfs_repair -n'],
  ] as const) {
    await t.test(
      `${kind}: files are read back as they were written, after a new mount`,
      async (t) => {
        await guest.ok(`
        mount ${device} /mnt
        for i in 1 2 3 4; do
          dd if=/dev/urandom of=/mnt/file$i bs=64k count=8 conv=fsync 2> /dev/null || exit 1
        done
        md5sum /mnt/file? > /tmp/sums
        umount /mnt && echo 3 > /proc/sys/vm/drop_caches && mount ${device} /mnt
      `);
        const { status, output } = await guest.run('md5sum -c -s /tmp/sums');
        t.equal(status, 0, output);
      },
    );

    await t.test(`${kind}: ${check.split(' ')[0] ?? ''} finds nothing`, async (t) => {
      await guest.ok('umount /mnt');
      const { status, output } = await guest.run(`${check} ${device}`);
      t.equal(status, 0, output);
    });
  }

  await t.test('nbd-client -d ends the session', async (t) => {
    await guest.ok('nbd-client -d /dev/nbd0');
    t.equal((await guest.run('nbd-client -c /dev/nbd0')).status, 1);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { type Test, test } from 'tap';
import { NbdClient, OptionRefused } from '../support/nbd-client.js';
import { REP } from '../support/nbd-wire.js';
import { eventually, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';
import { makeCertificates, makePsk, withCertificate, withKey } from '../support/tls-files.js';

/** Disks by their allow lists. */
const DISKS = {
  cidr: 'cidr=127.0.0.2/32',
  psk: 'psk=alice',
  'psk-cidr': 'psk=alice and cidr=127.0.0.2/32',
  san: 'san=DNS:vm1.example',
  subject: 'subject=CN=vm1',
} as const;

/** Who comes, from which address, and what is open to them. */
interface Visitor {
  readonly who: string;
  readonly from: '127.0.0.1' | '127.0.0.2';
  readonly tls?: ConnectionOptions;
  readonly sees: readonly (keyof typeof DISKS)[];
}

interface Rig {
  readonly stack: Stack;
  readonly tls: string;
  readonly tlsPort: number;
  readonly clearPort: number;
  readonly keys: ReadonlyMap<string, string>;
}

async function start(t: Test): Promise<Rig> {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const tls = join(stack.dir, 'tls');
  await mkdir(tls);
  await makeCertificates(tls);
  const keys = await makePsk(tls, ['alice', 'alice2']);
  const lines = [
    '[nbd]',
    'listen = ["127.0.0.1:0", { address = "127.0.0.1:0", tls = "off" }]',
    'tls = "require"',
    `certificate.cert_file = "${tls}/server-cert.pem"`,
    `certificate.key_file = "${tls}/server-key.pem"`,
    `certificate.client_ca_file = "${tls}/ca-cert.pem"`,
    `psk.file = "${tls}/keys.psk"`,
  ];
  await stack.reconfigure((text) => text.replace('[nbd]', lines.join('\n')));
  const { cidr, ...others } = DISKS;
  await stack.createDisk({ name: 'cidr', size: '1M', diskArgs: ['--allow', cidr] });
  for (const [name, rule] of Object.entries(others)) {
    await stack.admin.createDisk({ name, set: 'cidr-set', sizeBytes: 2 ** 20, allow: [rule] });
    await stack.admin.attachDisk(name);
  }
  const [tlsPort = 0, clearPort = 0] = await stack.nbdPorts();
  return { stack, tls, tlsPort, clearPort, keys };
}

async function enter(rig: Rig, { from, tls }: Visitor): Promise<NbdClient> {
  const port = tls === undefined ? rig.clearPort : rig.tlsPort;
  const client = await NbdClient.handshake({ host: '127.0.0.1', port, localAddress: from });
  if (tls !== undefined) await client.startTls(tls);
  return client;
}

/** GO, and one READ; false when the export is said not to exist. */
async function mayUse(rig: Rig, visitor: Visitor, disk: string): Promise<boolean> {
  const client = await enter(rig, visitor);
  try {
    await client.go(disk);
    const { errno } = await client.read(0, 512);
    if (errno !== 0) throw new Error(`READ of ${disk}: errno ${String(errno)}`);
    return true;
  } catch (error) {
    if (error instanceof OptionRefused && NOT_FOUND.includes(error.type)) return false;
    throw error;
  } finally {
    client.destroy();
  }
}

/** In clear a client is told that TLS may show more, whatever the name. */
const NOT_FOUND: readonly number[] = [REP.ERR_UNKNOWN, REP.ERR_TLS_REQD];

void test('a disk is open to whom its allow list names, as the handshake proved them', async (t) => {
  const rig = await start(t);
  const vm1 = await withCertificate(rig.tls, 'client');
  const twin = await withCertificate(rig.tls, 'twin');
  const [alice, alice2] = [withKey(rig.keys, 'alice'), withKey(rig.keys, 'alice2')];
  const visitors: readonly Visitor[] = [
    { who: 'nobody', from: '127.0.0.1', sees: [] },
    { who: 'nobody', from: '127.0.0.2', sees: ['cidr'] },
    { who: 'the certificate', from: '127.0.0.1', tls: vm1, sees: ['san', 'subject'] },
    { who: 'the certificate', from: '127.0.0.2', tls: vm1, sees: ['cidr', 'san', 'subject'] },
    { who: 'a certificate with longer names', from: '127.0.0.1', tls: twin, sees: [] },
    { who: 'the key', from: '127.0.0.1', tls: alice, sees: ['psk'] },
    { who: 'the key', from: '127.0.0.2', tls: alice, sees: ['cidr', 'psk', 'psk-cidr'] },
    { who: 'a key with a longer name', from: '127.0.0.1', tls: alice2, sees: [] },
    { who: 'a key with a longer name', from: '127.0.0.2', tls: alice2, sees: ['cidr'] },
  ];
  for (const visitor of visitors) {
    const { who, from, sees } = visitor;
    await t.test(`${who} from ${from}`, async (t) => {
      const client = await enter(rig, visitor);
      const listed = (await client.list()).map(({ name }) => name);
      client.destroy();
      t.strictSame(listed, sees, 'LIST');
      for (const disk of Object.keys(DISKS)) {
        t.equal(await mayUse(rig, visitor, disk), listed.includes(disk), `GO for ${disk}`);
      }
    });
  }

  await t.test('nbdinfo lists the same for the certificate and for the key', async (t) => {
    const { tls, tlsPort } = rig;
    const at = `127.0.0.1:${String(tlsPort)}`;
    for (const [uri, sees] of [
      [`nbds://${at}/?tls-certificates=${join(tls, 'client')}`, ['san', 'subject']],
      [`nbds://${at}/?tls-certificates=${join(tls, 'twin')}`, []],
      [`nbds://alice@${at}/?tls-psk-file=${join(tls, 'keys.psk')}`, ['psk']],
    ] as const) {
      const json = await runOk('nbdinfo', ['--list', '--json', uri]);
      const { exports } = JSON.parse(json) as { exports: { 'export-name': string }[] };
      t.strictSame(exports.map((one) => one['export-name']).sort(), sees);
    }
  });

  await t.test('a denial is in the audit log with who it was', async (t) => {
    const { path } = await rig.stack.json<{ path: string }>('audit', 'verify');
    const log = await readFile(path, 'utf8');
    const denied = log.split('\n').filter((line) => line.includes('"export-denied"'));
    t.ok(denied.some((line) => line.includes('O=Example')));
  });

  await t.test('a rule that goes ends the sessions of whom it named', async (t) => {
    const visitor = visitors.find(({ who }) => who === 'the key');
    if (visitor === undefined) throw new Error('no visitor has the key');
    const client = await enter(rig, visitor);
    t.teardown(() => client.destroy());
    await client.go('psk');
    const shown = (): Promise<boolean> =>
      rig.stack.disk('psk').then(({ clients }) => clients === 1);
    await eventually('the client is shown', shown);
    await rig.stack.ok('disk', 'allow', 'psk', '--clear', '--add', 'psk=alice2');
    t.equal((await client.ended()).name, 'ConnectionEnded');
    t.notOk(await mayUse(rig, visitor, 'psk'));
  });
});

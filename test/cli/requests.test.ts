// SPDX-License-Identifier: Apache-2.0
import { resolve } from 'node:path';
import { test } from 'tap';
import { diskViewSchema } from '../../src/admin/api.js';
import { setViewSchema } from '../../src/admin/api-sets.js';
import {
  CHECK,
  EVENTS,
  GRANTED_SET,
  LOCAL_CONNECTION,
  NEGOTIATING,
  NEW_DISK,
  ONLINE_DISK,
  RELOADED,
  SOUND_AUDIT,
  STATUS,
  TLS_CONNECTION,
} from './support/canned.js';
import { FakeAdmin } from './support/fake-admin.js';
import { cli } from './support/run-cli.js';

async function start(t: { teardown(fn: () => unknown): unknown }): Promise<FakeAdmin> {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  fake.answer('POST /v1/disks', NEW_DISK, diskViewSchema);
  fake.answer('POST /v1/sets', GRANTED_SET, setViewSchema);
  return fake;
}

function run(fake: FakeAdmin, ...args: string[]): ReturnType<typeof cli> {
  return cli([...args, '--socket', fake.socketPath]);
}

for (const [args, expected] of [
  [['disk', 'show', 'demo'], { ...ONLINE_DISK, connections: [LOCAL_CONNECTION, TLS_CONNECTION] }],
  [['status', '--connections'], { connections: [LOCAL_CONNECTION, TLS_CONNECTION, NEGOTIATING] }],
  [['disk', 'allow', 'demo'], { disk: 'demo', allow: [], disconnected: 0 }],
  [['disk', 'attach', 'demo'], ONLINE_DISK],
  [['disk', 'detach', 'demo'], ONLINE_DISK],
  [['disk', 'restart', 'demo'], ONLINE_DISK],
  [['disk', 'create', 'fresh', '--set', 'demo', '--size', '1G'], NEW_DISK],
  [['disk', 'delete', 'fresh'], {}],
  [['set', 'show', 'demo'], GRANTED_SET],
  [['set', 'check', 'demo'], CHECK],
  [['set', 'create', 'demo', '--key', 'https://v/keys/k'], GRANTED_SET],
  [['set', 'delete', 'demo'], {}],
  [['status'], STATUS],
  [['audit', 'verify'], SOUND_AUDIT],
  [['reload'], RELOADED],
] as const) {
  void test(`${args.slice(0, 2).join(' ')} --json prints what the API answers`, async (t) => {
    const fake = await start(t);
    const { status, stdout, stderr } = await run(fake, ...args, '--json');
    t.equal(status, 0, stderr);
    t.strictSame(JSON.parse(stdout), expected);
  });
}

void test('list --json keeps the form of the API', async (t) => {
  const fake = await start(t);
  const disks = JSON.parse((await run(fake, 'disk', 'list', '--json')).stdout) as object;
  const sets = JSON.parse((await run(fake, 'set', 'list', '--json')).stdout) as object;
  t.match(disks, { disks: [{ name: 'demo' }, { name: 'db01' }, { name: 'fresh' }] });
  t.match(sets, { sets: [{ name: 'demo' }, { name: 'ultra' }] });
});

void test('events --json prints one event a line', async (t) => {
  const fake = await start(t);
  const { stdout } = await run(fake, 'events', '--json');
  t.strictSame(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown),
    EVENTS,
  );
});

void test('an attached disk that is denied prints its view with --json and exits with 5', async (t) => {
  const fake = await start(t);
  const { status, stdout, stderr } = await run(fake, 'disk', 'attach', 'db01', '--json');
  t.equal(status, 5);
  t.match(JSON.parse(stdout), { name: 'db01', state: 'offline', reason: 'key-disabled' });
  t.equal(stderr, '');
});

void test('disk create sends every option', async (t) => {
  const fake = await start(t);
  const options = ['--sector-size', '4096', '--dm-crypt', '--read-only', '--store', 'x.img'];
  const more = ['--rotational', '--direct', '--description', 'orders – 2019'];
  const rules = ['--allow', 'uid=1000', '--allow', 'san=DNS:a  and cidr=10.0.0.1'];
  await run(
    fake,
    ...['disk', 'create', 'fresh', '--set', 'demo', '--size', '10G'],
    ...[...options, ...more, ...rules],
  );
  t.strictSame(fake.seen[0]?.body, {
    name: 'fresh',
    set: 'demo',
    sizeBytes: 10 * 2 ** 30,
    store: resolve('x.img'),
    sectorSizeBytes: 4096,
    dmCrypt: true,
    readOnly: true,
    rotational: true,
    direct: true,
    description: 'orders – 2019',
    allow: ['uid=1000', 'san=DNS:a and cidr=10.0.0.1/32'],
  });
});

void test('disk create leaves out what was not given', async (t) => {
  const fake = await start(t);
  await run(fake, 'disk', 'create', 'fresh', '--set', 'demo', '--size', '512');
  t.strictSame(fake.seen[0]?.body, { name: 'fresh', set: 'demo', sizeBytes: 512 });
});

void test('disk export-key sends an absolute path, and the layer if one was named', async (t) => {
  const fake = await start(t);
  const args = ['--file', 'x.key', '--confirm', 'demo'];
  await run(fake, 'disk', 'export-key', 'demo', ...args);
  await run(fake, 'disk', 'export-key', 'demo', ...args, '--layer', 'outer');
  const body = { confirm: 'demo', file: resolve('x.key') };
  const requests = fake.seen.filter(({ method }) => method === 'POST');
  t.strictSame(requests, [
    { method: 'POST', path: '/v1/disks/demo/export-key', body },
    { method: 'POST', path: '/v1/disks/demo/export-key', body: { ...body, layer: 'outer' } },
  ]);
});

void test('disk allow sends what is to change, and nothing when nothing is', async (t) => {
  const fake = await start(t);
  const rules = ['--add', 'uid=1', '--add', 'psk="a b"', '--remove', 'cidr=10.0.0.0/8'];
  await run(fake, 'disk', 'allow', 'demo', ...rules);
  await run(fake, 'disk', 'allow', 'demo', '--clear', '--add', 'uid=2');
  await run(fake, 'disk', 'allow', 'demo');
  t.strictSame(fake.seen, [
    {
      method: 'PATCH',
      path: '/v1/disks/demo/allow',
      body: { remove: ['cidr=10.0.0.0/8'], add: ['uid=1', 'psk="a b"'] },
    },
    {
      method: 'PATCH',
      path: '/v1/disks/demo/allow',
      body: { clear: true, add: ['uid=2'] },
    },
    { method: 'GET', path: '/v1/disks/demo', body: undefined },
  ]);
});

void test('set create sends every option, durations in milliseconds', async (t) => {
  const fake = await start(t);
  const times = ['--probe-interval', '5s', '--lease', '1m', '--suspend-timeout', '1.5h'];
  const rest = [
    '--identity',
    'dev',
    '--on-revoke',
    'restart',
    '--allow-purgeable',
    '--hold-on-heal',
  ];
  await run(fake, 'set', 'create', 's', '--key', 'https://v/keys/k', ...times, ...rest);
  t.strictSame(fake.seen[0]?.body, {
    name: 's',
    keyUrl: 'https://v/keys/k',
    mode: 'restart',
    identity: 'dev',
    probeIntervalMs: 5000,
    leaseMs: 60_000,
    suspendTimeoutMs: 5_400_000,
    allowPurgeable: true,
    holdOnHeal: true,
  });
});

void test('set create leaves the identity to the daemon when none is named', async (t) => {
  const fake = await start(t);
  await run(fake, 'set', 'create', 's', '--key', 'https://v/keys/k');
  t.strictSame(fake.seen[0]?.body, { name: 's', keyUrl: 'https://v/keys/k', mode: 'immediate' });
});

void test('disk delete keeps the store unless it is told not to', async (t) => {
  const fake = await start(t);
  await run(fake, 'disk', 'delete', 'fresh');
  await run(fake, 'disk', 'delete', 'fresh', '--delete-store');
  t.strictSame(
    fake.seen.filter(({ method }) => method === 'DELETE').map(({ path }) => path),
    ['/v1/disks/fresh?deleteStore=false', '/v1/disks/fresh?deleteStore=true'],
  );
});

void test('a name cannot leave its place in the path', async (t) => {
  const fake = await start(t);
  const { status } = await run(fake, 'disk', 'show', '../sets/demo?x');
  t.equal(status, 3);
  t.equal(fake.seen[0]?.path, '/v1/disks/..%2Fsets%2Fdemo%3Fx');
});

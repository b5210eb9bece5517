// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import {
  allowResultSchema,
  type ConnectionView,
  diskListSchema,
  diskViewSchema,
  exportedKeySchema,
} from '../../src/admin/api.js';
import { auditVerifyResultSchema } from '../../src/admin/api-audit.js';
import { checkResultSchema, setListSchema, setViewSchema } from '../../src/admin/api-sets.js';
import {
  CHECK,
  DENIED_DISK,
  DENIED_SET,
  GRANTED_SET,
  LOCAL_CONNECTION,
  NEGOTIATING,
  NEW_DISK,
  ONLINE_DISK,
  SOUND_AUDIT,
  TLS_CONNECTION,
} from './support/canned.js';
import { FakeAdmin } from './support/fake-admin.js';
import { Transcript } from './support/golden.js';

interface Setting {
  readonly fake: FakeAdmin;
  readonly transcript: Transcript;
}

async function set(t: { teardown(fn: () => unknown): unknown }): Promise<Setting> {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const options = { env: { KEYHOLD_SOCKET: fake.socketPath } };
  return { fake, transcript: new Transcript(options, { [fake.dir]: 'DIR' }) };
}

void test('transcript: disks, as a person sees them', async (t) => {
  const { fake, transcript } = await set(t);
  await transcript.run('disk', 'list');
  await transcript.run('disk', 'show', 'demo');
  await transcript.run('disk', 'show', 'db01');
  fake.answer('POST /v1/disks', NEW_DISK, diskViewSchema);
  await transcript.run('disk', 'create', 'fresh', '--set', 'demo', '--size', '1G');
  fake.disk(NEW_DISK, { actions: { ...ONLINE_DISK, name: 'fresh' } });
  await transcript.run('disk', 'attach', 'fresh');
  await transcript.run('disk', 'create', 'fresh', '--set', 'demo', '--size', '1G', '--attach');
  await transcript.run('disk', 'attach', 'db01');
  fake.disk(ONLINE_DISK, { actions: { ...ONLINE_DISK, state: 'offline', reason: 'detached' } });
  await transcript.run('disk', 'detach', 'demo');
  await transcript.run('disk', 'restart', 'db01');
  await transcript.run('disk', 'delete', 'fresh');
  await transcript.run('disk', 'delete', 'fresh', '--delete-store');
  fake.answer('GET /v1/disks', { disks: [] }, diskListSchema);
  await transcript.run('disk', 'list');
  const { expected, actual } = await transcript.compare('disk');
  t.equal(actual, expected);
});

void test('transcript: who may use a disk', async (t) => {
  const { fake, transcript } = await set(t);
  const path = '/v1/disks/demo/allow';
  const changed = { disk: 'demo', allow: ['uid=1000', 'psk="a b"'], disconnected: 2 };
  await transcript.run('disk', 'allow', 'demo');
  await transcript.run('disk', 'allow', 'db01');
  fake.answer(`PATCH ${path}`, changed, allowResultSchema);
  await transcript.run('disk', 'allow', 'demo', '--add', 'uid=1000', '--add', 'psk="a b"');
  await transcript.run('disk', 'allow', 'demo', '--add', 'uid=1000', '--json');
  fake.answer(`PATCH ${path}`, { ...changed, allow: [], disconnected: 0 }, allowResultSchema);
  await transcript.run('disk', 'allow', 'demo', '--clear');
  fake.fail(`PATCH ${path}`, {
    kind: 'not-found',
    code: 'ERR_ACCESS_RULE_UNKNOWN',
    message: 'removing a rule of disk demo: the list has no rule "uid=9"',
    fields: { disk: 'demo', rule: 'uid=9' },
  });
  await transcript.run('disk', 'allow', 'demo', '--remove', 'uid=9');
  const { expected, actual } = await transcript.compare('allow');
  t.equal(actual, expected);
});

void test('transcript: the key of a disk for dm-crypt', async (t) => {
  const { fake, transcript } = await set(t);
  const path = 'POST /v1/disks/demo/export-key';
  const exporting = ['disk', 'export-key', 'demo', '--file', '/root/k', '--confirm', 'demo'];
  const exported = { disk: 'demo', layer: null, file: '/root/k' };
  fake.answer(path, exported, exportedKeySchema);
  await transcript.run(...exporting);
  await transcript.run(...exporting, '--json');
  fake.disk({ ...ONLINE_DISK, dmCrypt: true });
  fake.answer(path, exported, exportedKeySchema);
  await transcript.run(...exporting);
  for (const layer of ['outer', 'inner'] as const) {
    fake.answer(path, { ...exported, layer }, exportedKeySchema);
    await transcript.run(...exporting, '--layer', layer);
  }
  fake.fail(path, {
    kind: 'invalid',
    code: 'ERR_KEY_EXPORT_FILE',
    message: 'exporting a DEK: write /root/k: File exists',
    fields: { errno: 'EEXIST' },
  });
  await transcript.run(...exporting);
  const { expected, actual } = await transcript.compare('export-key');
  t.equal(actual, expected);
});

void test('transcript: connections, in a pipe and on terminals', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const second = (connection: ConnectionView): ConnectionView => ({
    ...connection,
    ageSeconds: connection.ageSeconds + 1,
    bytesIn: connection.bytesIn + 3 * 2 ** 20,
    bytesOut: connection.bytesOut + 4096,
    requests: connection.requests + 7,
  });
  const first = [LOCAL_CONNECTION, TLS_CONNECTION];
  const texts: string[] = [];
  for (const columns of [undefined, 80, 120]) {
    fake.connections(first);
    const transcript = new Transcript({
      env: { KEYHOLD_SOCKET: fake.socketPath },
      ...(columns === undefined ? {} : { columns }),
      onWait: () => fake.connections([...first.map(second), NEGOTIATING]),
    });
    const { stdout } = await transcript.run('status', '--connections');
    texts.push(transcript.text);
    for (const line of stdout.split('\n')) t.ok(line.length <= (columns ?? 200), line);
  }
  const transcript = new Transcript({ env: { KEYHOLD_SOCKET: fake.socketPath } });
  fake.connections([]);
  await transcript.run('status', '--connections');
  const { expected, actual } = await transcript.compare('connections', texts.join(''));
  t.equal(actual, expected);
});

void test('transcript: sets, as a person sees them', async (t) => {
  const { fake, transcript } = await set(t);
  await transcript.run('set', 'list');
  await transcript.run('set', 'show', 'demo');
  await transcript.run('set', 'show', 'ultra');
  await transcript.run('set', 'check', 'demo');
  const denied = { ...CHECK, verdict: 'DENIED', access: 'denied', keys: DENIED_SET.keys };
  fake.answer('POST /v1/sets/demo/check', denied, checkResultSchema);
  await transcript.run('set', 'check', 'demo');
  fake.answer('POST /v1/sets', GRANTED_SET, setViewSchema);
  await transcript.run('set', 'create', 'demo', '--key', 'https://127.0.0.1:8443/keys/demo-key');
  await transcript.run('set', 'delete', 'demo');
  fake.answer('GET /v1/sets', { sets: [] }, setListSchema);
  await transcript.run('set', 'list');
  const { expected, actual } = await transcript.compare('set');
  t.equal(actual, expected);
});

void test('transcript: status, events and audit, as a person sees them', async (t) => {
  const { fake, transcript } = await set(t);
  await transcript.run('status');
  await transcript.run('events', '--count', '1');
  await transcript.run('events', '--json');
  await transcript.run('audit', 'verify');
  const firstBad = { line: 3, expected: 'aa', actual: 'bb' };
  const broken = { ...SOUND_AUDIT, ok: false, records: 2, firstBad };
  fake.answer('POST /v1/audit/verify', broken, auditVerifyResultSchema);
  await transcript.run('audit', 'verify');
  const { expected, actual } = await transcript.compare('daemon');
  t.equal(actual, expected);
});

void test('transcript: every usage error names what is wrong and exits with 2', async (t) => {
  const { fake, transcript } = await set(t);
  const create = ['disk', 'create', 'x'];
  const wrong = [
    ['explode'],
    ['dsik'],
    ['disk', 'explode'],
    ['disk', 'shwo', 'demo'],
    ['disk', 'show'],
    ['disk', 'show', 'a', 'b'],
    ['disk', 'list', '--jsno'],
    ['disk', 'list', '--socket'],
    ['disk', 'list', '--socket', ''],
    ['disk', 'allow', 'demo', '--add', 'uid=root'],
    ['disk', 'allow', 'demo', '--remove', 'user=1'],
    ['disk', 'allow', 'demo', '--clear', '--remove', 'uid=1'],
    ['disk', 'export-key', 'demo', '--file', '/k'],
    ['disk', 'export-key', 'demo', '--confirm', 'demo'],
    ['disk', 'export-key', 'demo', '--file', '/k', '--confirm', 'demo', '--layer', 'middle'],
    create,
    [...create, '--set', 's'],
    [...create, '--set', 's', '--size', 'lots'],
    [...create, '--set', 's', '--size', '1.5G'],
    [...create, '--set', 's', '--size', '9000000T'],
    [...create, '--set', 's', '--size', '1G', '--sector-size', '1024'],
    [...create, '--set', '', '--size', '1G'],
    [...create, '--set', 's', '--size', '1G', '--allow', 'subject=CN=a b'],
    ['set', 'create', 's'],
    ['set', 'create', 's', '--key', 'u', '--on-revoke', 'never'],
    ['set', 'create', 's', '--key', 'u', '--lease', '5'],
    ['set', 'create', 's', '--key', 'u', '--probe-interval', '5 days'],
    ['events', '--count', '0'],
    ['events', '--count', '1', '--follow'],
    ['events', '--disk', ''],
    ['top', '--interval', '1ms'],
    ['completion', 'tcsh'],
    ['vault', 'key', 'create', 'k', '--kty', 'DSA'],
    ['vault', 'key', 'create', 'k', '--size', '512'],
    ['vault', 'serve', '--listen', 'nowhere'],
    ['vault', 'trouble', 'everything'],
    ['vault', 'disable'],
    ['help', 'explode'],
  ];
  for (const args of wrong) {
    const { status, stdout } = await transcript.run(...args);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '', args.join(' '));
  }
  t.strictSame(fake.seen, [], 'nothing reached the daemon');
  const { expected, actual } = await transcript.compare('usage');
  t.equal(actual, expected);
});

void test('transcript: help of every command', async (t) => {
  const { transcript } = await set(t);
  const commands = [
    ...['', 'disk', 'disk create', 'disk list', 'disk show', 'disk attach', 'disk detach'],
    ...[
      'disk restart',
      'disk allow',
      'disk delete',
      'set',
      'set create',
      'set check',
      'set delete',
    ],
    ...[
      'status',
      'top',
      'events',
      'completion',
      'doctor',
      'audit verify',
      'audit export',
      'reload',
      'dev',
      'daemon',
      'vault',
      'vault serve',
      'vault key',
    ],
    ...['vault key create', 'vault disable', 'vault trouble', 'vault log', 'exit-codes'],
  ];
  for (const command of commands) {
    const { status } = await transcript.run('help', ...command.split(' ').filter(Boolean));
    t.equal(status, 0, command);
  }
  const { expected, actual } = await transcript.compare('help');
  t.equal(actual, expected);
});

void test('transcript: a disk that the daemon calls offline is shown with its reason', async (t) => {
  const { fake, transcript } = await set(t);
  for (const [state, reason, revoked] of [
    ['offline', 'integrity', false],
    ['offline', 'store-error', false],
    ['offline', 'fenced', false],
    ['suspended', null, false],
    ['online', null, true],
  ] as const) {
    const view = { ...DENIED_DISK, name: 'demo', state, reason, revoked };
    fake.disk(view);
    await transcript.run('disk', 'attach', 'demo');
  }
  const { expected, actual } = await transcript.compare('attach');
  t.equal(actual, expected);
});

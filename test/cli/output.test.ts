// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { test } from 'tap';
import type { TextSink } from '../../src/cli/io.js';
import { findAdminSocket, findVaultSocket, nbdUnixUri, nbdUri } from '../../src/cli/paths.js';
import { formatTable } from '../../src/cli/table.js';
import { plain } from '../../src/cli/text.js';
import { formatLease, formatSpan } from '../../src/cli/views/time.js';
import { doctorReportSchema } from '../../src/admin/api-doctor.js';
import { SICK } from './support/doctor-report.js';
import { FakeAdmin } from './support/fake-admin.js';
import { cli } from './support/run-cli.js';

const SERVICE = '/run/keyhold/admin.sock';

function sink(columns?: number, color = false): TextSink {
  return {
    write: () => undefined,
    columns,
    color,
    closed: new AbortController().signal,
    drained: () => Promise.resolve(),
  };
}

interface Row {
  readonly a: string;
  readonly b: string;
}

const COLUMNS = [
  { title: 'A', value: (row: Row) => row.a, widthMin: 5 },
  { title: 'B', value: (row: Row) => row.b, align: 'right' as const },
];

void test('a table in a pipe is never cut', (t) => {
  const a = 'x'.repeat(500);
  t.ok(formatTable(sink(), COLUMNS, [{ a, b: '1' }]).includes(a));
  t.end();
});

void test('a table on a terminal fits its width, down to the least width of its columns', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ a: fc.string(), b: fc.string({ maxLength: 6 }) })),
      fc.integer({ min: 40, max: 200 }),
      (rows, columns) => {
        const lines = formatTable(sink(columns), COLUMNS, rows).trimEnd().split('\n');
        return lines.every((line) => Array.from(line).length <= columns);
      },
    ),
  );
  t.end();
});

void test('a cut cell ends with an ellipsis', (t) => {
  const table = formatTable(sink(12), COLUMNS, [{ a: 'abcdefghijklmnop', b: '123' }]);
  t.equal(table, 'A          B\nabcdef…  123\n');
  t.end();
});

void test('an optional column goes where shrinking is not enough, and only there', (t) => {
  const columns = [...COLUMNS, { title: 'EXTRA', value: () => '12345', optional: true as const }];
  const row = { a: 'abcdefghijkl', b: '123' };
  t.match(formatTable(sink(17), columns, [row]), /EXTRA/);
  t.notMatch(formatTable(sink(16), columns, [row]), /EXTRA/);
  t.match(formatTable(sink(), columns, [row]), /abcdefghijkl {2}123 {2}12345/);
  t.end();
});

void test('a path is cut at its beginning, since its end tells what it is', (t) => {
  const columns = [
    { ...COLUMNS[0], title: 'A', value: (row: Row) => row.a, cut: 'start' as const },
  ];
  t.equal(formatTable(sink(6), columns, [{ a: '/a/b/demo', b: '' }]), 'A\n…/demo\n');
  t.end();
});

void test('a column that may not shrink is cut only where the others have given all', (t) => {
  const row = [{ a: 'abcdefgh', b: '1234567890' }];
  t.match(formatTable(sink(17), COLUMNS, row), 'abcd…  1234567890');
  t.match(formatTable(sink(16), COLUMNS, row), 'abcd…  12345678…');
  t.match(formatTable(sink(4), COLUMNS, row), '…  …');
  t.end();
});

void test('a column that is a picture is cut without an ellipsis', (t) => {
  const picture = { title: 'P', value: () => '▁▂▃▄▅', widthMin: 2, quiet: true as const };
  t.match(formatTable(sink(3), [picture], [{}]), /^▁▂▃$/m);
  const end = { ...picture, cut: 'start' as const };
  t.match(formatTable(sink(3), [end], [{}]), /^▃▄▅$/m);
  t.end();
});

for (const columns of [40, 60, 80, 120]) {
  void test(`every table fits a terminal of ${columns} columns`, async (t) => {
    const fake = await FakeAdmin.start();
    t.teardown(() => fake.stop());
    fake.answer('POST /v1/doctor', SICK, doctorReportSchema);
    for (const command of [
      'disk list',
      'set list',
      'status --connections',
      'set impact demo',
      'doctor',
    ]) {
      const args = [...command.split(' '), '--socket', fake.socketPath];
      const { status, stdout } = await cli(args, { columns });
      t.equal(status, command === 'doctor' ? 5 : 0, command);
      const rows = stdout
        .split('\n')
        .filter((line) => /\S {2}\S/.test(line) && !line.startsWith('  '));
      for (const row of rows) t.ok(Array.from(row).length <= columns, `${command}: ${row}`);
    }
  });
}

void test('--no-color keeps a terminal plain, wherever it stands, and NO_COLOR too', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const socket = ['--socket', fake.socketPath];
  const terminal = { color: true, columns: 120 };
  t.notMatch((await cli(['disk', 'list', '--no-color', ...socket], terminal)).stdout, '\u001b');
  t.notMatch((await cli(['--no-color', 'disk', 'list', ...socket], terminal)).stdout, '\u001b');
  const failed = await cli(['disk', 'list', '--no-color', '--socket', '/none/x'], terminal);
  t.notMatch(failed.stderr, '\u001b');
  t.match((await cli(['disk', 'list', ...socket], terminal)).stdout, '\u001b');
});

void test('--json is never coloured and tells no next command', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const socket = ['--json', '--socket', fake.socketPath];
  const commands = ['disk attach demo', 'disk detach demo', 'set rotate demo', 'set check demo'];
  for (const command of commands) {
    const args = [...command.split(' '), ...socket];
    const { stdout, stderr } = await cli(args, { color: true, columns: 120 });
    t.notMatch(stdout, /\u001b|next:/);
    t.ok(JSON.parse(stdout), command);
    t.equal(stderr, '');
  }
});

for (const [command, next] of [
  ['disk attach demo', 'nbd-client -unix /run/keyhold/nbd.sock -N demo /dev/nbd0'],
  ['disk detach demo', 'keyhold disk attach demo'],
  ['disk move demo --set demo', 'keyhold set show demo'],
  ['disk erase demo --confirm demo', 'keyhold disk delete demo'],
  [
    'set rotate demo',
    `keyhold set impact demo --key-version 0123456789abcdef0123456789abcdef-older`,
  ],
  ['set assign-key demo --platform', 'keyhold set impact demo --key-version '],
  ['set update demo --on-revoke restart', 'keyhold set impact demo'],
  ['set purge demo --confirm demo', 'keyhold disk delete demo'],
] as const) {
  void test(`${command} says what comes next`, async (t) => {
    const fake = await FakeAdmin.start();
    t.teardown(() => fake.stop());
    const { stdout } = await cli([...command.split(' '), '--socket', fake.socketPath]);
    t.ok(stdout.includes(`\nnext: ${next}`) || stdout.startsWith(`next: ${next}`), stdout);
  });
}

void test('nothing that is printed through plain() is a control character', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      return !/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/.test(plain(text));
    }),
  );
  t.end();
});

void test('colour only where the sink wants it', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const args = ['disk', 'list', '--socket', fake.socketPath];
  t.notMatch((await cli(args)).stdout, '\u001b');
  t.match((await cli(args, { color: true, columns: 120 })).stdout, '\u001b[32monline\u001b[0m');
});

void test('a narrow terminal cuts the store, not the state', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const { stdout } = await cli(['disk', 'list', '--socket', fake.socketPath], { columns: 80 });
  for (const line of stdout.trimEnd().split('\n')) t.ok(Array.from(line).length <= 80, line);
  t.match(stdout, 'offline (key-disabled)');
  t.match(stdout, '…');
});

void test('an age is short', (t) => {
  t.equal(formatSpan(0), '0ms');
  t.equal(formatSpan(90_000), '1m30s');
  t.equal(formatSpan(24 * 3_600_000), '1d');
  t.equal(formatSpan(123 * 3_600_000), '5d3h');
  t.end();
});

void test('a lease is none, running or ended', (t) => {
  t.equal(formatLease(null), 'none');
  t.equal(formatLease(0), 'ended');
  t.equal(formatLease(59.9), '59s');
  t.end();
});

void test('the admin socket is the named one before any default', (t) => {
  const env = { HOME: '/h', KEYHOLD_SOCKET: '/env/a.sock' };
  t.equal(findAdminSocket({ env, socket: '/named/a.sock' }), '/named/a.sock');
  t.equal(findAdminSocket({ env }), '/env/a.sock');
  t.equal(findAdminSocket({ env: { ...env, KEYHOLD_SOCKET: '' }, exists: () => false }), SERVICE);
  t.end();
});

void test('the default admin socket is the service, else the one of dev, if it exists', (t) => {
  const env = { HOME: '/h' };
  const only = (path: string) => (asked: string) => asked === path;
  t.equal(findAdminSocket({ env, exists: () => true }), SERVICE);
  t.equal(findAdminSocket({ env, exists: () => false }), SERVICE);
  const dev = '/h/.cache/keyhold/admin.sock';
  t.equal(findAdminSocket({ env, exists: only(dev) }), dev);
  const xdg = { HOME: '/h', XDG_CACHE_HOME: '/c' };
  t.equal(findAdminSocket({ env: xdg, exists: only('/c/keyhold/admin.sock') }).slice(0, 3), '/c/');
  const relative = { HOME: '/h', XDG_CACHE_HOME: 'c' };
  t.equal(findAdminSocket({ env: relative, exists: only(dev) }), dev);
  t.end();
});

void test('the vault socket is found beside the admin socket', (t) => {
  const env = { HOME: '/h' };
  const beside = '/d/vault/control.sock';
  t.equal(findVaultSocket({ env, socket: '/d/admin.sock', exists: (p) => p === beside }), beside);
  const dev = '/h/.cache/keyhold/vault/control.sock';
  t.equal(findVaultSocket({ env, socket: '/d/admin.sock', exists: () => false }), dev);
  t.equal(findVaultSocket({ env, vaultSocket: '/v.sock' }), '/v.sock');
  t.equal(findVaultSocket({ env: { ...env, KEYHOLD_VAULT_SOCKET: '/e.sock' } }), '/e.sock');
  t.end();
});

void test('an NBD URI escapes what would end its parts', (t) => {
  t.equal(
    nbdUnixUri('a b?', '/run/x y/n&.sock'),
    'nbd+unix:///a%20b%3F?socket=/run/x%20y/n%26.sock',
  );
  t.end();
});

void test('a wildcard address is no URI', (t) => {
  t.equal(nbdUri('d', '0.0.0.0:10809'), undefined);
  t.equal(nbdUri('d', '[::]:10809'), undefined);
  t.equal(nbdUri('d', '[::1]:10809'), 'nbd://[::1]:10809/d');
  t.end();
});

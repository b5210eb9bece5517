// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { ERROR_KINDS } from '../../src/admin/api.js';
import type { ErrorKind } from '../../src/base/errors.js';
import { describeExitCodes, EXIT_CODES, exitCodeOf } from '../../src/cli/exit-codes.js';
import { FakeAdmin } from './support/fake-admin.js';
import { cli } from './support/run-cli.js';

const STATUS_BY_KIND: Readonly<Record<ErrorKind, number>> = {
  usage: 2,
  invalid: 2,
  'not-found': 3,
  conflict: 4,
  forbidden: 7,
  'key-inaccessible': 5,
  unavailable: 6,
  integrity: 8,
  'no-space': 9,
  internal: 1,
};

for (const kind of ERROR_KINDS) {
  void test(`an answer of kind ${kind} exits with ${STATUS_BY_KIND[kind]}`, async (t) => {
    const fake = await FakeAdmin.start();
    t.teardown(() => fake.stop());
    fake.fail('GET /v1/disks', { kind, code: 'ERR_TEST', message: 'listing failed' });
    const { status, stdout, stderr } = await cli(['disk', 'list', '--socket', fake.socketPath]);
    t.equal(status, STATUS_BY_KIND[kind]);
    t.equal(stdout, '');
    t.equal(stderr, 'keyhold: error: listing failed [ERR_TEST]\n');
  });
}

void test('every exit code is described', (t) => {
  const text = describeExitCodes();
  for (const code of Object.values(EXIT_CODES)) t.match(text, new RegExp(`^ +${code}  \\w`, 'm'));
  for (const kind of ERROR_KINDS) t.ok(Object.values(EXIT_CODES).includes(exitCodeOf(kind)));
  t.end();
});

void test('an answered code of another area gets its hint', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const error = { kind: 'usage', code: 'ERR_CONFIG_READ', message: 'reading failed' } as const;
  fake.fail('GET /v1/disks', error);
  const { stderr } = await cli(['disk', 'list', '--socket', fake.socketPath]);
  t.match(stderr, /^hint: name the file with --config FILE/m);
});

void test('with --json an error is one JSON line with code, kind, message and hint', async (t) => {
  const { status, stdout, stderr } = await cli(['disk', 'list', '--json', '--socket', '/none/x']);
  t.equal(status, EXIT_CODES.unavailable);
  t.equal(stdout, '');
  const { error } = JSON.parse(stderr) as { error: Record<string, unknown> };
  t.equal(error['code'], 'ERR_ADMIN_UNREACHABLE');
  t.equal(error['kind'], 'unavailable');
  t.match(error['message'], /\/none\/x/);
  t.match(error['hint'], /--socket PATH/);
});

void test('with --json a usage error is JSON too', async (t) => {
  const { status, stderr } = await cli(['disk', 'create', 'x', '--json']);
  t.equal(status, EXIT_CODES.usage);
  t.match(JSON.parse(stderr), { error: { code: 'ERR_CLI_USAGE', message: /--set/ } });
});

void test('--json before the command works as after it', async (t) => {
  const { stderr } = await cli(['--json', 'disk', 'list', '--socket', '/none/x']);
  t.match(JSON.parse(stderr), { error: { code: 'ERR_ADMIN_UNREACHABLE' } });
});

void test('a socket path that is a plain file is unreachable, not a crash', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const path = join(fake.dir, 'file');
  await writeFile(path, '');
  const { status, stderr } = await cli(['status', '--socket', path]);
  t.equal(status, EXIT_CODES.unavailable);
  t.match(stderr, /ECONNREFUSED/);
});

void test('an errno is said once', async (t) => {
  const { stderr } = await cli(['status', '--socket', '/none/x']);
  t.equal(stderr.match(/ENOENT/g)?.length, 1);
});

void test('a hint names the disk of the error, so that it can be pasted', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  fake.fail('POST /v1/disks/db01/restart', {
    kind: 'conflict',
    code: 'ERR_DISK_NOT_ATTACHED',
    message: 'restarting disk db01: detached',
    fields: { disk: 'db01' },
  });
  const { stderr } = await cli(['disk', 'restart', 'db01', '--socket', fake.socketPath]);
  t.match(stderr, /^hint: keyhold disk attach db01$/m);
});

void test('a hint takes no name that could be anything else in a shell', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  fake.fail('POST /v1/disks/db01/restart', {
    kind: 'conflict',
    code: 'ERR_DISK_NOT_ATTACHED',
    message: 'restarting failed',
    fields: { disk: 'x; reboot' },
  });
  const { stderr } = await cli(['disk', 'restart', 'db01', '--socket', fake.socketPath]);
  t.match(stderr, /^hint: keyhold disk attach DISK$/m);
});

void test('a bad name gets its hint', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  fake.fail('GET /v1/disks', { kind: 'invalid', code: 'ERR_NAME', message: 'cannot name' });
  const { stderr } = await cli(['disk', 'list', '--socket', fake.socketPath]);
  t.match(stderr, /^hint: use a letter or digit/m);
});

void test('a size of nothing is refused in terms of the command line', async (t) => {
  const { status, stderr } = await cli(['disk', 'create', 'x', '--set', 's', '--size', '0']);
  t.equal(status, EXIT_CODES.usage);
  t.match(stderr, "'--size <size>' argument '0' is invalid: expected more than 0 bytes, got 0");
});

void test('a wrong choice of an argument names the argument and the choices', async (t) => {
  const { status, stderr } = await cli(['vault', 'trouble', 'bogus']);
  t.equal(status, EXIT_CODES.usage);
  t.match(stderr, /error: argument 'kind' cannot be 'bogus': allowed choices are none, latency/);
});

void test('an unreachable vault exits with 6 and says how to start one', async (t) => {
  const { status, stderr } = await cli(['vault', 'list', '--vault-socket', '/none/x']);
  t.equal(status, EXIT_CODES.unavailable);
  t.match(stderr, /\/none\/x.*\[ERR_DEVVAULT_UNREACHABLE\]\nhint: /);
});

void test('control characters of a message do not reach the terminal', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  const message = 'bad \u001b[31mred\u001b[0m\r\n\u009b\u202ename';
  fake.fail('GET /v1/disks', { kind: 'internal', code: 'ERR_TEST', message });
  const { stderr } = await cli(['disk', 'list', '--socket', fake.socketPath]);
  t.match(stderr, 'bad \\u001b[31mred\\u001b[0m\\u000d\n  \\u009b\\u202ename');
  t.notMatch(stderr, '\u001b');
});

void test('an answer that is not in the form of the API is an internal error', async (t) => {
  const fake = await FakeAdmin.start();
  t.teardown(() => fake.stop());
  fake.answer('GET /v1/disks', { disks: 'none' }, { parse: () => undefined });
  const { status, stderr } = await cli(['disk', 'list', '--socket', fake.socketPath]);
  t.equal(status, EXIT_CODES.internal);
  t.match(stderr, /ERR_ADMIN_RESPONSE/);
});

void test('a group without a subcommand shows its help and exits with 2', async (t) => {
  const { status, stdout, stderr } = await cli(['disk']);
  t.equal(status, EXIT_CODES.usage);
  t.equal(stdout, '');
  t.match(stderr, /^Usage: keyhold disk/);
});

void test('the version is the one of package.json', async (t) => {
  const { status, stdout } = await cli(['--version']);
  t.equal(status, EXIT_CODES.ok);
  t.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { eventually, run, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

const WITHOUT_IO_URING = [
  'python3',
  new URL('../support/no-io-uring.py', import.meta.url).pathname,
];
const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

interface StatusJson {
  readonly engine: { readonly name: string; readonly why: string };
}

void test('a host that forbids io_uring', async (t) => {
  const stack = await Stack.start({ through: WITHOUT_IO_URING });
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'disk', setArgs: ['--probe-interval', '1s', '--lease', '60s'] });

  await t.test('status and log say that epoll serves, and why', async (t) => {
    const why = /set up io_uring: Operation not permitted \(a seccomp filter/;
    t.match((await stack.json<StatusJson>('status')).engine, { name: 'epoll', why });
    t.match(
      await stack.ok('status'),
      /^ *engine +epoll: set up io_uring: Operation not permitted/m,
    );
    const log = await readFile(join(stack.dir, 'daemon.log'), 'utf8');
    t.match(log, /"engine":"epoll".*io_uring cannot be used/);
  });

  await t.test('qemu-io writes, flushes, trims and verifies at odd offsets', async (t) => {
    const output = await runOk('qemu-io', [
      ...['-f', 'raw', stack.uri('disk')],
      ...['-c', 'write -P 0xa5 1536 100352', '-c', 'write -f -P 0x3c 512 512', '-c', 'flush'],
      ...['-c', 'write -z -u 65536 4096', '-c', 'discard 131072 65536'],
      ...['-c', 'read -P 0xa5 1536 64000', '-c', 'read -P 0x3c 512 512'],
      ...['-c', 'read -P 0 65536 4096', '-c', 'read -P 0 131072 65536'],
    ]);
    t.notMatch(output, /verification failed|error/i);
  });

  await t.test('nbdcopy brings back what it wrote', async (t) => {
    const source = join(stack.dir, 'in');
    const back = join(stack.dir, 'out');
    await writeFile(source, randomBytes(16 * 1024 * 1024));
    await runOk('nbdcopy', ['--flush', source, stack.uri('disk')]);
    await runOk('nbdcopy', [stack.uri('disk'), back]);
    t.equal((await run('cmp', ['-n', '16777216', source, back])).status, 0);
  });

  await t.test('a revocation ends reads and writes with ESHUTDOWN, not with data', async (t) => {
    const script = [
      'import time, nbd',
      'h = nbd.NBD()',
      `h.connect_uri("${stack.uri('disk')}")`,
      'h.pread(4096, 0)',
      'print("connected", flush=True)',
      'for _ in range(600):',
      '    try:',
      '        h.pread(4096, 0)',
      '        h.pwrite(b"x" * 512, 1 << 20)',
      '    except nbd.Error as error:',
      '        print("refused:", error.errno)',
      '        break',
      '    time.sleep(0.05)',
    ].join('\n');
    const client = run('/usr/bin/python3', ['-c', script]);
    await eventually('the client is there', async () => (await stack.disk('disk')).clients === 1);
    await stack.ok('vault', 'disable', 'disk-key');
    const { stdout, stderr } = await client;
    t.match(stdout, /^connected\nrefused: ESHUTDOWN$/m, stderr);
    t.equal((await stack.disk('disk')).reason, 'key-disabled');
  });

  await t.test('and a proof heals it', async (t) => {
    await stack.ok('vault', 'enable', 'disk-key');
    await eventually('online', async () => (await stack.disk('disk')).state === 'online');
    t.match(
      await runOk('qemu-io', ['-f', 'raw', '-r', '-c', 'read 0 4096', stack.uri('disk')]),
      /4 KiB/,
    );
  });
});

void test('a daemon that is told to use io_uring does not start without it', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-engine-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const config = join(dir, 'keyhold.toml');
  await writeFile(
    config,
    `state_dir = "${dir}/state"\n[nbd]\nsocket = "${dir}/nbd.sock"\n[admin]\n` +
      `socket = "${dir}/admin.sock"\n[metrics]\nlisten = ""\n[data_plane]\nengine = "io_uring"\n`,
  );
  const [command, ...rest] = [...WITHOUT_IO_URING, process.execPath, main];
  const { status, stderr } = await run(command, [...rest, 'daemon', '--config', config]);
  t.not(status, 0);
  t.match(stderr, /the engine "io_uring": set up io_uring: Operation not permitted/);
});

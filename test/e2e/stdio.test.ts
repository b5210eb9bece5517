// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'tap';
import { endProcess, eventually, run } from '../support/process.js';
import { Stack } from '../support/stack.js';

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

void test('a disk is served over standard input and output', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'demo', size: '64M' });
  await stack.createDisk({ name: 'other', size: '8M' });
  // nbdsh runs under the distribution's Python.
  const env = { PATH: '/usr/bin:/bin', KEYHOLD_SOCKET: stack.adminSocket, NO_COLOR: '1' };
  const serve = (disk: string): string[] => [process.execPath, main, 'serve', '--stdio', disk];

  await t.test('nbdinfo starts it captively and finds the disk as the default', async (t) => {
    const { status, stdout, stderr } = await run(
      'nbdinfo',
      ['--size', '--', '[', ...serve('demo'), ']'],
      { env },
    );
    t.equal(stderr, '');
    t.equal(status, 0);
    t.equal(stdout, `${64 * 1024 * 1024}\n`);
  });

  await t.test('nbdsh writes and reads through it', async (t) => {
    const script = [
      `h.connect_command(${JSON.stringify(serve('demo'))})`,
      'data = bytes(range(256)) * 32768',
      'h.pwrite(data, 512)',
      'h.flush()',
      'assert h.pread(len(data), 512) == data',
      'h.shutdown()',
      'print("same")',
    ];
    const { stdout, stderr } = await run('nbdsh', ['-c', script.join('\n')], { env });
    t.equal(stderr, '');
    t.equal(stdout, 'same\n');
  });

  await t.test('nbdcopy opens several connections over it', async (t) => {
    const { status, stderr } = await run('nbdcopy', ['--', '[', ...serve('demo'), ']', 'null:'], {
      env,
    });
    t.equal(stderr, '');
    t.equal(status, 0);
    await eventually('nothing is left', async () => {
      const { connections } = await stack.json<{ connections: number }>('status');
      return connections === 0;
    });
  });

  await t.test('another disk cannot be reached over it', async (t) => {
    const script = `
h.set_export_name("other")
h.connect_command(${JSON.stringify(serve('demo'))})`;
    const { status, stderr } = await run('nbdsh', ['-c', script], {
      env,
    });
    t.not(status, 0);
    t.match(stderr, /no export named 'other'/);
  });

  await t.test('a client that ends its input is answered, and the exit status is 0', async (t) => {
    const [command = '', ...args] = serve('demo');
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: 'pipe' });
    const exited = once(child, 'exit');
    child.stdin.end();
    t.equal((await text(child.stdout)).slice(0, 16), 'NBDMAGICIHAVEOPT');
    t.same(await exited, [0, null]);
  });

  for (const [what, disk, status, says] of [
    ['a disk that does not exist', 'nobody', 3, /\[ERR_DISK_NOT_FOUND\]/],
    ['a disk that is offline', 'other', 4, /offline: detached.*\[ERR_SERVE_OFFLINE\]/],
  ] as const) {
    await t.test(`${what} is an error before a byte of NBD`, async (t) => {
      if (disk === 'other') await stack.ok('disk', 'detach', 'other');
      const result = await stack.cli('serve', '--stdio', disk);
      t.equal(result.status, status);
      t.equal(result.stdout, '');
      t.match(result.stderr, says);
    });
  }

  await t.test('without --stdio it says what it needs', async (t) => {
    const { status, stderr } = await stack.cli('serve', 'demo');
    t.equal(status, 2);
    t.match(stderr, /--stdio/);
  });

  await t.test('no daemon is an error before a byte of NBD', async (t) => {
    const { status, stdout } = await stack.cli('serve', '--stdio', 'demo', '--socket', '/none');
    t.equal(status, 6);
    t.equal(stdout, '');
  });

  await t.test('who served whom is on record', async (t) => {
    const log = await readFile(join(stack.dir, 'state', 'audit', 'audit.jsonl'), 'utf8');
    const uid = process.getuid?.();
    t.match(
      log,
      new RegExp(`"command":"disk-serve".*"outcome":"ok".*"target":"demo","uid":${uid}`),
    );
  });

  await t.test('the end of the daemon ends it', async (t) => {
    const [command = '', ...args] = serve('demo');
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: 'pipe' });
    t.teardown(() => endProcess(child, 'SIGKILL'));
    const exited = once(child, 'exit');
    await once(child.stdout, 'data');
    await eventually('the daemon counts it', async () => {
      const { connections } = await stack.json<{ connections: number }>('status');
      return connections === 1;
    });
    await stack.stopDev();
    await exited;
    t.pass('it ended');
  });
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { run, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';
import { allowedCalls, readUnit } from './unit-files.js';

const script = new URL('../support/only-syscalls.py', import.meta.url).pathname;

const calls = await allowedCalls(await readUnit('keyhold.service'));

/** A command's beginning: what follows has the unit's system calls, and no capabilities. */
function confined({ without = '' } = {}): [string, ...string[]] {
  const list = [...calls].filter((name) => name !== without).join(',');
  return ['setpriv', '--bounding-set=-all', '--inh-caps=-all', 'python3', script, list];
}

/** What `keyhold doctor` says that keys stand in. */
async function secretMemory(stack: Stack): Promise<unknown> {
  const { host } = await stack.admin.doctor({});
  return host.find(({ id }) => id === 'secret-memory')?.facts['kind'];
}

async function confinedPython(code: string): Promise<string> {
  const [command, ...rest] = confined();
  const { stdout, stderr } = await run(command, [...rest, 'python3', '-c', code]);
  return stdout + stderr;
}

for (const [what, code] of [
  [
    'mount',
    'import ctypes; l=ctypes.CDLL(None,use_errno=True); l.umount(b"/"); print(ctypes.get_errno())',
  ],
  ['chroot', 'import os\ntry: os.chroot("/")\nexcept OSError as e: print(e.errno)'],
  ['setuid', 'import os\ntry: os.setuid(1)\nexcept OSError as e: print(e.errno)'],
  [
    'ptrace',
    'import ctypes; l=ctypes.CDLL(None,use_errno=True); l.ptrace(0,0,0,0); print(ctypes.get_errno())',
  ],
] as const) {
  void test(`under the filter of the unit ${what} is refused`, async (t) => {
    t.equal(await confinedPython(code), '1\n');
  });
}

for (const name of ['ptrace', 'mount', 'bpf', 'init_module', 'kexec_load', 'setuid', 'chown']) {
  void test(`the unit does not allow ${name}`, (t) => {
    t.notOk(calls.has(name));
    t.end();
  });
}

void test('under the filter of the unit, without capabilities', async (t) => {
  const stack = await Stack.start({ through: confined() });
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'disk' });

  await t.test('the data plane has io_uring', async (t) => {
    t.equal((await stack.admin.status()).engine.name, 'io_uring');
  });

  await t.test('keys stand in memory that the kernel cannot reach', async (t) => {
    t.equal(await secretMemory(stack), 'memfd_secret');
  });

  await t.test('a client reads what it wrote, flushed, zeroed and trimmed', async (t) => {
    const output = await runOk('qemu-io', [
      ...['-f', 'raw', stack.uri('disk')],
      ...['-c', 'write -P 0xa5 1536 100352', '-c', 'write -f -P 0x3c 512 512', '-c', 'flush'],
      ...['-c', 'write -z -u 65536 4096', '-c', 'discard 131072 65536'],
      ...['-c', 'read -P 0xa5 1536 64000', '-c', 'read -P 0 65536 4096'],
    ]);
    t.notMatch(output, /verification failed|error/i);
  });

  await t.test('a disk goes offline and comes back', async (t) => {
    await stack.ok('disk', 'detach', 'disk');
    await stack.ok('disk', 'attach', 'disk');
    t.equal((await stack.disk('disk')).state, 'online');
  });

  await t.test('the daemon stops in order', async (t) => {
    await stack.stopDev();
    t.notMatch(stack.output, /took too long/);
  });
});

void test('without memfd_secret in the filter keys would stand in ordinary memory', async (t) => {
  const stack = await Stack.start({ through: confined({ without: 'memfd_secret' }) });
  t.teardown(() => stack.stop());
  t.equal(await secretMemory(stack), 'mlock');
});

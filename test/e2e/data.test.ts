// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { test } from 'tap';
import { openStore } from '../support/dek-oracle.js';
import { run, type RunResult, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

const MIB = 1024 * 1024;

/** Under the distribution's own Python, which has libnbd's module, whatever else is on the PATH. */
function nbdsh(...args: string[]): Promise<RunResult> {
  return run('nbdsh', args, { env: { PATH: '/usr/bin:/bin' } });
}

void test('an encrypted disk under the real clients', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'plain512', diskArgs: ['--description', 'für Tests'] });
  await stack.createDisk({ name: 'large4096', diskArgs: ['--sector-size', '4096'] });
  await stack.createDisk({ name: 'dmcrypt', diskArgs: ['--dm-crypt'] });

  await t.test(
    'dev puts sockets, configuration and the CA of the vault where scripts look',
    async (t) => {
      const file = (name: string): string => join(stack.dir, name);
      for (const name of ['nbd.sock', 'admin.sock'])
        t.ok((await stat(file(name))).isSocket(), name);
      t.match(await readFile(file('keyhold.toml'), 'utf8'), file('vault/ca.pem'));
      const { hostname, port } = new URL(await stack.keyUrl('plain512-key'));
      const ca = await readFile(file('vault/ca.pem'));
      const socket = connect({ host: hostname, port: Number(port), ca });
      t.teardown(() => socket.destroy());
      await once(socket, 'secureConnect'); // fails for any other authority
      t.ok(socket.authorized);
    },
  );

  await t.test('nbdinfo reads description, size, block sizes and flags', async (t) => {
    const info = JSON.parse(await runOk('nbdinfo', ['--json', stack.uri('plain512')])) as {
      exports: Array<Record<string, unknown>>;
    };
    t.match(info.exports[0], {
      'export-name': 'plain512',
      description: 'für Tests',
      'export-size': 64 * MIB,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_trim: true,
      can_zero: true,
      can_multi_conn: true,
      block_size_minimum: 512,
      block_size_preferred: 4096,
      block_size_maximum: 32 * MIB,
    });
  });

  await t.test('nbdinfo --list shows every online disk', async (t) => {
    const list = await runOk('nbdinfo', ['--list', `nbd+unix:///?socket=${stack.nbdSocket}`]);
    for (const name of ['plain512', 'large4096', 'dmcrypt']) t.match(list, `"${name}"`);
    t.match(list, 'description: für Tests');
    t.match(await stack.ok('disk', 'show', 'plain512'), /description +für Tests/);
  });

  await t.test('a fresh disk reads as zeros', async (t) => {
    const path = join(stack.dir, 'fresh.raw');
    await runOk('nbdcopy', [stack.uri('plain512'), path]);
    t.ok((await readFile(path)).every((byte) => byte === 0));
  });

  for (const name of ['plain512', 'large4096', 'dmcrypt']) {
    await t.test(`${name}: nbdcopy brings back what it wrote`, async (t) => {
      const data = randomBytes(64 * MIB);
      const source = join(stack.dir, `${name}.in`);
      const back = join(stack.dir, `${name}.out`);
      await writeFile(source, data);
      await runOk('nbdcopy', ['--flush', source, stack.uri(name)]);
      await runOk('nbdcopy', [stack.uri(name), back]);
      t.ok(data.equals(await readFile(back)));
    });

    await t.test(`${name}: the store holds AES-256-XTS ciphertext of it`, async (t) => {
      const plaintext = await readFile(join(stack.dir, `${name}.in`));
      const oracle = await openStore(stack, (await stack.disk(name)).store);
      for (const offset of [0, 4096, 33 * MIB + 8192, 64 * MIB - 4096]) {
        const ciphertext = await oracle.ciphertext(offset, 4096);
        t.notOk(ciphertext.equals(plaintext.subarray(offset, offset + 4096)));
        t.ok(
          (await oracle.decrypt(offset, 4096)).equals(plaintext.subarray(offset, offset + 4096)),
        );
      }
    });

    await t.test(`${name}: qemu-io writes and verifies patterns at odd offsets`, async (t) => {
      const output = await runOk('qemu-io', [
        ...['-f', 'raw', stack.uri(name)],
        ...['-c', 'write -P 0xa5 1536 100352', '-c', 'write -f -P 0x3c 512 512'],
        ...['-c', 'read -P 0xa5 1536 100352', '-c', 'read -P 0x3c 512 512'],
        ...['-c', 'write -z 65536 65536', '-c', 'read -P 0 65536 65536'],
        ...['-c', 'discard 0 1M', '-c', 'flush'],
      ]);
      t.notMatch(output, /verification failed|error/i);
    });

    await t.test(`${name}: nbdsh reads and writes single bytes across sectors`, async (t) => {
      const script = [
        'h.set_strict_mode(0)',
        'h.pwrite(b"x" * 9000, 8192)',
        'h.pwrite(b"Keyhold", 8192 + 509)',
        'h.pwrite(b"!", 12287)',
        'assert h.pread(7, 8192 + 509) == b"Keyhold"',
        'assert h.pread(3, 12286) == b"x!x"',
        'h.zero(100, 8292)',
        'assert h.pread(102, 8291) == b"x" + bytes(100) + b"x"',
      ].join('\n');
      const result = await nbdsh('-u', stack.uri(name), '-c', script);
      t.equal(result.status, 0, result.stderr);
    });

    await t.test(`${name}: fio verifies random writes on four connections`, async (t) => {
      const result = await run('fio', [
        '--name=verify',
        '--ioengine=nbd',
        `--uri=${stack.uri(name)}`,
        // libnbd itself refuses what is smaller than the advertised minimum.
        ...[
          '--rw=randwrite',
          `--bsrange=${name === 'large4096' ? '4k' : '512'}-64k`,
          '--bs_unaligned=0',
          '--iodepth=16',
        ],
        ...[
          '--numjobs=4',
          '--size=16M',
          '--offset_increment=16M',
          '--verify=crc32c',
          '--do_verify=1',
          '--verify_state_save=0',
        ],
        ...['--randseed=7', '--group_reporting'],
      ]);
      t.equal(result.status, 0, result.stdout + result.stderr);
    });
  }

  await t.test('trimmed space is given back to the file system', async (t) => {
    const { store } = await stack.disk('plain512');
    const blocks = async (): Promise<number> => Number(await runOk('stat', ['-c', '%b', store]));
    const before = await blocks();
    await runOk('qemu-io', ['-f', 'raw', stack.uri('plain512'), '-c', 'discard 0 64M']);
    t.ok((await blocks()) * 4 < before, `${String(before)} blocks before`);
    await runOk('qemu-io', ['-f', 'raw', stack.uri('plain512'), '-c', 'read -P 0 0 64M']);
  });

  await t.test('cryptsetup and blkid recognise the header', async (t) => {
    const { store, uuid } = await stack.disk('large4096');
    const dump = await runOk('cryptsetup', ['luksDump', store]);
    t.match(dump, /aes-xts-plain64/);
    t.match(dump, /sector: 4096 \[bytes\]/);
    t.match(dump, new RegExp(`UUID:\\s+${uuid}`));
    t.match(dump, /keyhold/);
    t.match(await runOk('blkid', ['-p', store]), /TYPE="crypto_LUKS"/);
  });

  await t.test('a read-only disk says so', async (t) => {
    await stack.ok('disk', 'create', 'ro', '--set', 'plain512-set', '--size', '8M', '--read-only');
    await stack.ok('disk', 'attach', 'ro');
    t.equal((await run('nbdinfo', ['--is', 'readonly', stack.uri('ro')])).status, 0);
  });

  await t.test('a read-only disk answers a write with EPERM', async (t) => {
    const script = [
      'import errno',
      'h.set_strict_mode(0)',
      `h.connect_uri("${stack.uri('ro')}")`,
      'try:',
      '  h.pwrite(bytes(512), 0)',
      'except nbd.Error as error:',
      '  assert error.errno == "EPERM", error',
      'else:',
      '  raise SystemExit("the write was accepted")',
      'assert h.pread(512, 0) == bytes(512)',
    ].join('\n');
    const result = await nbdsh('-c', script);
    t.equal(result.status, 0, result.stderr);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { createAdminClient } from '../../src/admin/client.js';
import { run } from '../support/process.js';
import { Stack } from '../support/stack.js';

interface Refusal {
  readonly claim: string;
  readonly args: readonly string[];
  readonly status: number;
  /** What the message must hold: both sides of the failed comparison. */
  readonly says: readonly RegExp[];
}

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;

void test('bad input is refused and changes nothing', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({ name: 'fine', size: '8M' });
  await stack.ok('vault', 'key', 'create', 'ec', '--kty', 'EC');
  await stack.ok('vault', 'key', 'create', 'small', '--size', '1024');
  await stack.ok('vault', 'key', 'create', 'signs', '--ops', 'sign,verify');
  const url = (key: string): Promise<string> => stack.keyUrl(key);
  const set = ['set', 'create', 'x', '--key'];
  const disk = ['disk', 'create'];
  const of = ['--set', 'fine-set', '--size'];

  const admin = createAdminClient({ socketPath: stack.adminSocket });
  const names = async (): Promise<string[]> =>
    [...(await admin.listSets()), ...(await admin.listDisks())].map(({ name }) => name);

  const refusals: Refusal[] = [
    {
      claim: 'an EC key',
      args: [...set, await url('ec')],
      status: 1,
      says: [/EC/, /RSA/],
    },
    {
      claim: 'an RSA key of 1024 bits',
      args: [...set, await url('small')],
      status: 1,
      says: [/1024/, /2048/],
    },
    {
      claim: 'a key without wrapKey and unwrapKey',
      args: [...set, await url('signs')],
      status: 1,
      says: [/sign/, /unwrapKey/],
    },
    {
      claim: 'a key that does not exist',
      args: [...set, `${await url('fine-key')}x`],
      status: 1,
      says: [/fine-keyx/],
    },
    { claim: 'a key URL that is none', args: [...set, 'nonsense'], status: 1, says: [/nonsense/] },
    {
      claim: 'a set name that exists',
      args: ['set', 'create', 'fine-set', '--key', await url('fine-key')],
      status: 1,
      says: [/fine-set/, /exists/],
    },
    {
      claim: 'a lease shorter than the probe interval',
      args: [...set, await url('fine-key'), '--probe-interval', '60s', '--lease', '10s'],
      status: 1,
      says: [/10s/, /1m5s/],
    },
    {
      claim: 'a disk name with a slash',
      args: [...disk, 'a/b', ...of, '8M'],
      status: 1,
      says: [/a\/b/],
    },
    {
      claim: 'a disk name with control characters',
      args: [...disk, 'a\u0007b', ...of, '8M'],
      status: 1,
      says: [/a\\u0007b/],
    },
    {
      claim: 'a size that is no multiple of the sector size',
      args: [...disk, 'odd', ...of, '1000'],
      status: 1,
      says: [/1000/, /512/],
    },
    {
      claim: 'a size that is no multiple of 4096',
      args: [...disk, 'odd', ...of, '4608', '--sector-size', '4096'],
      status: 1,
      says: [/4608/, /4096/],
    },
    {
      claim: 'a sector size of 1024',
      args: [...disk, 'odd', ...of, '8M', '--sector-size', '1024'],
      status: 2,
      says: [/1024/, /4096/],
    },
    {
      claim: 'a description of two lines',
      args: [...disk, 'odd', ...of, '8M', '--description', 'a\nb'],
      status: 1,
      says: [/"a\\nb"/, /U\+000a/, /one line/],
    },
    {
      claim: 'a set that does not exist',
      args: [...disk, 'lost', '--set', 'nowhere', '--size', '8M'],
      status: 3,
      says: [/nowhere/],
    },
    {
      claim: 'a disk name that exists',
      args: [...disk, 'fine', ...of, '8M'],
      status: 4,
      says: [/fine/, /exists/],
    },
    {
      claim: 'a store that exists',
      args: [...disk, 'twin', ...of, '8M', '--store', (await stack.disk('fine')).store],
      status: 4,
      says: [/is that of disk fine/],
    },
    {
      claim: 'a size beyond the file system',
      args: [...disk, 'huge', ...of, '8000T'],
      status: 9,
      says: [/huge/, /EFBIG|ENOSPC|space/],
    },
    {
      claim: 'a size that is none',
      args: [...disk, 'odd', ...of, 'lots'],
      status: 2,
      says: [/lots/],
    },
    { claim: 'an unknown command', args: ['disk', 'explode'], status: 2, says: [/explode/] },
    { claim: 'an unknown disk', args: ['disk', 'show', 'nobody'], status: 3, says: [/nobody/] },
    {
      claim: 'deleting a set that has disks',
      args: ['set', 'delete', 'fine-set'],
      status: 4,
      says: [/fine/],
    },
  ];

  for (const { claim, args, status, says } of refusals) {
    await t.test(claim, async (t) => {
      const before = await names();
      const result = await stack.cli(...args);
      if (status === 1) t.not(result.status, 0);
      else t.equal(result.status, status, result.stderr);
      for (const pattern of says) t.match(result.stderr, pattern);
      t.strictSame(await names(), before);
    });
  }

  await t.test('a vault without purge protection, unless --allow-purgeable', async (t) => {
    await stack.ok('vault', 'recovery-level', 'Recoverable+Purgeable');
    const refused = await stack.cli(...set, await url('fine-key'));
    t.not(refused.status, 0);
    t.match(refused.stderr, /Recoverable\+Purgeable/);
    await stack.ok(...set, await url('fine-key'), '--allow-purgeable');
    await stack.ok('set', 'delete', 'x');
    await stack.ok('vault', 'recovery-level', 'CustomizedRecoverable');
  });

  await t.test('a full file system: an error that names it, and no disk', async (t) => {
    const dir = join(stack.dir, 'full');
    const mounted = await run('sh', [
      '-c',
      `mkdir ${dir} && mount -t tmpfs -o size=16k tmpfs ${dir}`,
    ]);
    t.equal(mounted.status, 0, mounted.stderr);
    t.teardown(() => run('umount', [dir]));
    const store = join(dir, 'x.img');
    const result = await stack.cli(...disk, 'cramped', ...of, '8M', '--store', store);
    t.equal(result.status, 9, result.stderr);
    t.match(result.stderr, /ENOSPC|no space/i);
    t.notOk(existsSync(store));
  });

  await t.test('a config with an unknown key names the nearest one', async (t) => {
    const path = join(stack.dir, 'bad.toml');
    await writeFile(path, `state_dir = "${stack.dir}/s"\n[nbd]\nsockett = "/x"\n`);
    const result = await run(process.execPath, [main, 'daemon', '--config', path]);
    t.equal(result.status, 2);
    t.match(result.stderr, /sockett/);
    t.match(result.stderr, /socket/);
  });

  await t.test('a config that is not there', async (t) => {
    const result = await run(process.execPath, [main, 'daemon', '--config', '/nonexistent.toml']);
    t.not(result.status, 0);
    t.match(result.stderr, /\/nonexistent\.toml/);
  });
});

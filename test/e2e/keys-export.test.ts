// SPDX-License-Identifier: Apache-2.0
import { chmod, lstat, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import tap, { type Test, test } from 'tap';
import type { ExportKeyRequest } from '../../src/admin/api.js';
import { openDoubleStore, openStore } from '../support/dek-oracle.js';
import { createDisk, createDiskAndSet, untilDisk, usePlatformKey } from '../support/keys.js';
import { eventually, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

const NOBODY = '65534';
/** Sends a request over a unix socket and prints the first piece of the answer. */
const ASK = `
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode())
print(s.recv(65536).decode())
`;

const stack = await Stack.start();
tap.teardown(() => stack.stop());
const platformKey = await readFile(await usePlatformKey(stack));
const dir = join(stack.dir, 'exported');
await mkdir(dir, { mode: 0o700 });

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

interface AuditRecord {
  readonly seq: number;
  readonly kind: string;
  readonly [field: string]: unknown;
}

/** Records of one kind about a disk, as they stand in the log. */
async function records(kind: string, disk: string): Promise<AuditRecord[]> {
  const text = await readFile(join(stack.dir, 'state', 'audit', 'audit.jsonl'), 'utf8');
  const all = text.trimEnd().split('\n');
  return all
    .map((line) => JSON.parse(line) as AuditRecord)
    .filter((record) => record.kind === kind && [record['disk'], record['target']].includes(disk));
}

interface Attempt extends Partial<ExportKeyRequest> {
  readonly disk: string;
}

/** The request is refused, makes no file, and is recorded as a command that failed so. */
async function assertRefused(t: Test, { disk, ...changes }: Attempt, code: string): Promise<void> {
  const file = join(dir, `refused-${disk}`);
  const before = (await records('dek-export', disk)).length;
  const exporting = stack.admin.exportKey(disk, { confirm: disk, file, ...changes });
  await t.rejects(exporting, { code });
  t.notOk(await isThere(file), 'no file');
  t.equal((await records('dek-export', disk)).length, before, 'no record of a key that left');
  t.match((await records('command', disk)).at(-1), { command: 'disk-export-key', outcome: code });
}

void test('disk export-key of a disk made for dm-crypt', async (t) => {
  await createDiskAndSet(stack, 'plain');
  await createDisk(stack, 'crypt', { set: 'plain', dmCrypt: true });
  const { store } = await stack.disk('crypt');
  const { dek } = await openStore(stack, store);
  const file = join(dir, 'crypt.key');
  const printed = await stack.ok(
    'disk',
    'export-key',
    'crypt',
    '--file',
    file,
    ...confirm('crypt'),
  );

  await t.test('writes the DEK that another implementation finds, raw', async (t) => {
    t.strictSame(await readFile(file), dek);
    t.equal(dek.length, 64);
  });

  await t.test('for the owner of the daemon alone', async (t) => {
    const { mode, uid } = await stat(file);
    t.strictSame([mode & 0o7777, uid], [0o600, process.getuid?.()]);
  });

  await t.test('tells the command that opens the store', (t) => {
    const command = `cryptsetup open --type luks2 -s 512 --volume-key-file ${file} ${store} crypt`;
    t.match(printed, `next: ${command}\n`);
    t.end();
  });

  await t.test('is recorded before the command is, with who, what and where to', async (t) => {
    const [exported] = await records('dek-export', 'crypt');
    const [command] = (await records('command', 'crypt')).filter(
      (record) => record['command'] === 'disk-export-key',
    );
    t.match(exported, { set: 'plain', file, layer: null, uid: process.getuid?.(), pid: Number });
    t.match(command, { outcome: 'ok' });
    t.ok((exported?.seq ?? Infinity) < (command?.seq ?? 0));
    t.equal((await stack.cli('audit', 'verify')).status, 0);
  });

  await t.test('is no key of a neighbour', async (t) => {
    const other = await openStore(stack, (await stack.disk('plain')).store);
    t.notSame(await readFile(file), other.dek);
  });

  await t.test('works offline too, as long as the set has access', async (t) => {
    await stack.admin.detachDisk('crypt');
    const again = join(dir, 'again.key');
    await stack.admin.exportKey('crypt', { confirm: 'crypt', file: again });
    t.strictSame(await readFile(again), dek);
  });

  await t.test('takes a relative path from where the command is given', async (t) => {
    const cwd = process.cwd();
    process.chdir(dir);
    t.teardown(() => process.chdir(cwd));
    await stack.ok('disk', 'export-key', 'crypt', '--file', 'here.key', ...confirm('crypt'));
    t.strictSame(await readFile(join(dir, 'here.key')), dek);
  });

  await t.test('says of another disk that cryptsetup refuses it', async (t) => {
    const args = ['--file', join(dir, 'plain.key'), ...confirm('plain')];
    const text = await stack.ok('disk', 'export-key', 'plain', ...args);
    t.match(text, /cryptsetup refuses this disk: it was not made with --dm-crypt/);
    t.notMatch(text, /next:/);
  });
});

function confirm(disk: string): string[] {
  return ['--confirm', disk];
}

void test('what is asked wrongly exports nothing', async (t) => {
  await createDiskAndSet(stack, 'd');
  const target = join(dir, 'd.key');

  await t.test('without a confirmation', async (t) => {
    const { status } = await stack.cli('disk', 'export-key', 'd', '--file', target);
    t.equal(status, 2);
    t.notOk(await isThere(target));
  });

  await t.test('with the name of another disk', async (t) => {
    const args = ['--file', target, ...confirm('plain')];
    const refused = await stack.cli('disk', 'export-key', 'd', ...args);
    t.match(refused, { status: 2, stderr: /ERR_DISK_CONFIRMATION/ });
    t.notOk(await isThere(target));
  });

  await t.test('with a name that only begins like that of the disk', (t) =>
    assertRefused(t, { disk: 'd', confirm: 'd ' }, 'ERR_DISK_CONFIRMATION'),
  );

  await t.test('of a disk that does not exist', async (t) => {
    const request = { confirm: 'none', file: target };
    await t.rejects(stack.admin.exportKey('none', request), { code: 'ERR_DISK_NOT_FOUND' });
    t.notOk(await isThere(target));
  });

  await t.test('to a relative path', async (t) => {
    const request = { confirm: 'd', file: 'd.key' };
    await t.rejects(stack.admin.exportKey('d', request), {
      code: 'ERR_ADMIN_REQUEST',
      message: /absolute path/,
    });
  });

  await t.test('to a path that a zero byte cuts short', async (t) => {
    await assertRefused(t, { disk: 'd', file: `${target}\0.txt` }, 'ERR_DISK_OPTION');
    t.notOk(await isThere(target));
  });

  await t.test('with a layer, of a disk that has one', (t) =>
    assertRefused(t, { disk: 'd', layer: 'inner' }, 'ERR_DISK_KEY_LAYER'),
  );

  await t.test('by a user who is neither root nor the daemon', async (t) => {
    await chmod(stack.dir, 0o711);
    await chmod(stack.adminSocket, 0o666);
    const body = JSON.stringify({ confirm: 'd', file: target });
    const head = `POST /v1/disks/d/export-key HTTP/1.1\r\nhost: x\r\n`;
    const type = `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`;
    const python = ['/usr/bin/python3', '-c', ASK, stack.adminSocket, head + type + body];
    const as = ['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];
    t.match(await runOk('setpriv', [...as, ...python]), /HTTP\/1.1 403[^]*ERR_ADMIN_FORBIDDEN/);
    t.notOk(await isThere(target));
  });
});

void test('a place where something is, or nothing can be, gets no key', async (t) => {
  await createDiskAndSet(stack, 'e');
  const to = (file: string): Promise<unknown> => stack.admin.exportKey('e', { confirm: 'e', file });
  const refusal = (errno: string) => ({ code: 'ERR_KEY_EXPORT_FILE', fields: { errno } });

  await t.test('a file, which stays as it is', async (t) => {
    const file = join(dir, 'mine');
    await writeFile(file, 'mine');
    await t.rejects(to(file), refusal('EEXIST'));
    t.equal(await readFile(file, 'utf8'), 'mine');
  });

  await t.test('a symbolic link to nowhere, which is not followed', async (t) => {
    const [link, target] = [join(dir, 'link'), join(dir, 'target')];
    await symlink(target, link);
    await t.rejects(to(link), refusal('EEXIST'));
    t.notOk(await isThere(target));
  });

  await t.test('a directory', async (t) => {
    await t.rejects(to(`${dir}/`), refusal('EISDIR'));
  });

  await t.test('a directory that is not there', async (t) => {
    await t.rejects(to(join(dir, 'none', 'key')), refusal('ENOENT'));
    t.notOk(await isThere(join(dir, 'none')));
  });

  await t.test('the error names the file, and the daemon goes on', async (t) => {
    await t.rejects(to('/dev/null'), { message: /\/dev\/null/ });
    t.equal((await stack.disk('e')).state, 'online');
  });
});

void test('without access to the key of the set nothing is exported', async (t) => {
  await t.test('after the key was disabled', async (t) => {
    await createDiskAndSet(stack, 'revoked');
    await stack.vault.disableKey('revoked-key');
    await untilDisk(stack, 'revoked', 'offline(key-disabled)');
    await assertRefused(t, { disk: 'revoked' }, 'ERR_SET_DENIED');
  });

  await t.test('nor before a probe has seen that', async (t) => {
    const hour = { probeIntervalMs: 3_600_000, leaseMs: 7_200_000 };
    await createDiskAndSet(stack, 'unseen', hour);
    await stack.vault.disableKey('unseen-key');
    await assertRefused(t, { disk: 'unseen' }, 'ERR_SET_DENIED');
  });

  await t.test('nor of a disk in restart mode that serves on', async (t) => {
    await createDiskAndSet(stack, 'serving', { mode: 'restart' });
    await stack.vault.disableKey('serving-key');
    await eventually('revoked', async () => (await stack.disk('serving')).revoked);
    t.equal((await stack.disk('serving')).state, 'online');
    await assertRefused(t, { disk: 'serving' }, 'ERR_SET_DENIED');
  });

  await t.test('after the lease has ended', async (t) => {
    await createDiskAndSet(stack, 'lapsed', { probeIntervalMs: 500, leaseMs: 4000 });
    await stack.vault.trouble({ kind: 'drop', key: 'lapsed-key' });
    await untilDisk(stack, 'lapsed', 'suspended');
    await assertRefused(t, { disk: 'lapsed' }, 'ERR_SET_LAPSED');
  });

  await t.test('of a disk that was erased', async (t) => {
    await createDiskAndSet(stack, 'erased');
    await stack.admin.detachDisk('erased');
    await stack.admin.eraseDisk('erased', { confirm: 'erased' });
    await assertRefused(t, { disk: 'erased' }, 'ERR_DISK_UNUSABLE');
  });
});

void test('a disk that is encrypted twice', async (t) => {
  await createDiskAndSet(stack, 'twice', { double: true });
  const { store } = await stack.disk('twice');
  const keys = await openDoubleStore(stack, store, { platformKey, dir: stack.dir });

  await t.test('has no key without a layer', (t) =>
    assertRefused(t, { disk: 'twice' }, 'ERR_DISK_KEY_LAYER'),
  );

  for (const [layer, dek] of [
    ['inner', keys.innerDek],
    ['outer', keys.outerDek],
  ] as const) {
    await t.test(`gives its ${layer} key, as another implementation finds it`, async (t) => {
      const file = join(dir, `${layer}.key`);
      const args = ['--file', file, '--layer', layer, ...confirm('twice')];
      t.strictSame(await stack.json('disk', 'export-key', 'twice', ...args), {
        disk: 'twice',
        layer,
        file,
      });
      t.strictSame(await readFile(file), dek);
      t.match((await records('dek-export', 'twice')).at(-1), { layer, file });
    });
  }

  await t.test('gives neither after a revocation', async (t) => {
    await stack.vault.disableKey('twice-key');
    await untilDisk(stack, 'twice', 'offline(key-disabled)');
    for (const layer of ['inner', 'outer'] as const) {
      await assertRefused(t, { disk: 'twice', layer }, 'ERR_SET_DENIED');
    }
  });
});

/** Moves the audit log to a file system of its own, which is full; resolves with what fills it. */
async function fillAuditLog(t: Test): Promise<string> {
  const audit = join(stack.dir, 'state', 'audit');
  await stack.stopDev();
  await runOk('sh', [
    '-ec',
    `cp "$1/audit.jsonl" "$2"; mount -t tmpfs -o size=256k,mode=700 tmpfs "$1"; mv "$2" "$1/"`,
    ...['sh', audit, join(stack.dir, 'audit.jsonl')],
  ]);
  t.teardown(async () => {
    await stack.stopDev();
    await runOk('umount', [audit]);
  });
  await stack.startDev();
  const filler = join(audit, 'filler');
  await t.rejects(writeFile(filler, Buffer.alloc(2 ** 20)), { code: 'ENOSPC' });
  // What is left of the last page of the log takes a few records more.
  await eventually('the log takes no record', async () => {
    await stack.admin.checkSet('quiet');
    return (await stack.admin.status()).alarms.some(({ name }) => name === 'audit');
  });
  return filler;
}

void test('while the audit log cannot be written no key leaves', async (t) => {
  await createDiskAndSet(stack, 'quiet');
  const filler = await fillAuditLog(t);
  const file = join(dir, 'quiet.key');
  const command = ['disk', 'export-key', 'quiet', '--file', file, ...confirm('quiet')];

  await t.test('the command fails with the error of the log', async (t) => {
    const refused = await stack.cli(...command);
    t.match(refused, { status: 9, stderr: /ERR_AUDIT_NO_SPACE/ });
    t.notOk(await isThere(file));
  });

  await t.test('what needs no record before it works', async (t) => {
    await stack.admin.restartDisk('quiet');
    t.equal((await stack.disk('quiet')).state, 'online');
  });

  await t.test('it leaves when there is space again', async (t) => {
    await rm(filler);
    await stack.ok(...command);
    t.equal((await stat(file)).size, 64);
    t.equal((await records('dek-export', 'quiet')).length, 1);
  });
});

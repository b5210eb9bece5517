// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import { eventually, run, runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

const PROBE_INTERVAL_MS = 2000;

/** One fio run on a region that revocation must not harm. */
function verifiedRegion(uri: string, phase: 'write' | 'verify'): string[] {
  const common = [
    '--name=region',
    '--ioengine=nbd',
    `--uri=${uri}`,
    '--rw=write',
    '--bs=64k',
    '--iodepth=8',
    '--size=16M',
    '--verify=crc32c',
    '--verify_state_save=0',
    '--randseed=11',
  ];
  return phase === 'write'
    ? [...common, '--do_verify=0', '--end_fsync=1']
    : [...common, '--verify_only'];
}

/** fio with four connections on the rest of the disk, until it is refused. */
function startLoad(uri: string): { done: Promise<{ status: number | null; output: string }> } {
  const child = spawn('fio', [
    '--name=load',
    '--ioengine=nbd',
    `--uri=${uri}`,
    '--rw=randrw',
    '--bs=4k',
    '--iodepth=16',
    '--numjobs=4',
    '--offset=16M',
    '--size=32M',
    '--time_based',
    '--runtime=60',
  ]);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const done = once(child, 'close').then(([status]) => ({
    status: status as number | null,
    output,
  }));
  return { done };
}

/** nbdsh on a connection of its own: when, in ms of CLOCK_BOOTTIME, it first read ESHUTDOWN. */
async function firstRefusalBootMs(uri: string): Promise<number> {
  const script = [
    'import errno, time',
    `h.connect_uri(${JSON.stringify(uri)})`,
    'try:',
    '    while True: h.pread(512, 0)',
    'except nbd.Error as error:',
    '    print(error.errno, time.clock_gettime(time.CLOCK_BOOTTIME) * 1000)',
  ];
  // The distribution's Python: libnbd's module belongs to it.
  const env = { PATH: '/usr/bin:/bin' };
  const { stdout } = await run('nbdsh', ['-c', script.join('\n')], { env });
  const [errno, bootMs] = stdout.split(' ');
  if (errno !== 'ESHUTDOWN') throw new Error(`nbdsh: expected ESHUTDOWN, got ${stdout}`);
  return Number(bootMs);
}

interface AuditRecord {
  seq: number;
  kind: string;
  [field: string]: unknown;
}

async function auditRecords(stack: Stack): Promise<AuditRecord[]> {
  const text = await readFile(join(stack.dir, 'audit', 'audit.jsonl'), 'utf8').catch(async () =>
    readFile(join(stack.dir, 'state', 'audit', 'audit.jsonl'), 'utf8'),
  );
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditRecord);
}

void test('revocation under load, immediate mode', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.createDisk({
    name: 'db',
    setArgs: ['--probe-interval', `${String(PROBE_INTERVAL_MS)}ms`, '--lease', '60s'],
  });
  await runOk('fio', verifiedRegion(stack.uri('db'), 'write'));
  const load = startLoad(stack.uri('db'));
  const refusal = firstRefusalBootMs(stack.uri('db'));
  await eventually('all are connected', async () => (await stack.disk('db')).clients >= 5);

  await stack.ok('vault', 'disable', 'db-key');
  const disabledAtMs = Date.now();
  await eventually('offline', async () => (await stack.disk('db')).state === 'offline');

  await t.test('the disk is offline within one probe interval plus one second', async (t) => {
    const elapsedMs = Date.parse((await stack.disk('db')).since) - disabledAtMs;
    t.ok(elapsedMs < PROBE_INTERVAL_MS + 1000, `${String(elapsedMs)} ms`);
  });

  await t.test('disk show gives reason, key version and request id of the refusal', async (t) => {
    t.match(await stack.disk('db'), {
      state: 'offline',
      reason: 'key-disabled',
      keyVersion: /^[0-9a-f]{32}$/,
      vaultRequestId: /^\S+$/,
      since: /^\d{4}-\d\d-\d\dT/,
    });
  });

  await t.test('every client was told: fio ends with ESHUTDOWN', async (t) => {
    const { status, output } = await load.done;
    t.not(status, 0);
    // ESHUTDOWN is 108; each of the four jobs reports how it ended.
    t.equal(output.match(/\(groupid=\d+, jobs=1\): err=108 /g)?.length, 4, output);
  });

  await t.test('the export is hidden', async (t) => {
    const listed = await run('nbdinfo', ['--list', `nbd+unix:///?socket=${stack.nbdSocket}`]);
    t.notMatch(listed.stdout, '"db"');
  });

  await t.test('a new client is refused with the reason', async (t) => {
    const refused = await run('nbdinfo', [stack.uri('db')], {
      env: { LIBNBD_DEBUG: '1' }, // only then does it print what the server said
    });
    t.not(refused.status, 0);
    t.match(refused.stderr, /key-disabled/);
  });

  await t.test('the receipt in the audit log has the key wiped before anything else', async (t) => {
    const receipt = (await auditRecords(stack)).find((record) => /receipt/.test(record.kind));
    t.ok(receipt, 'there is a receipt');
    const text = JSON.stringify(receipt);
    t.match(text, /key-disabled/);
    const ms = (field: string): number => Number(receipt?.[field]);
    const keyWipedMs = ms('keyWipedBootMs');
    t.ok(ms('verdictStartedBootMs') <= keyWipedMs, text);
    const refusedMs = await refusal;
    t.ok(keyWipedMs <= refusedMs, `wiped at ${keyWipedMs}, first refusal at ${refusedMs}`);
    t.ok(keyWipedMs <= ms('drainedBootMs'), text);
    t.ok(ms('connections') >= 5, text);
  });

  await t.test('the audit chain verifies', async (t) => {
    const result = await stack.cli('audit', 'verify');
    t.equal(result.status, 0, result.stderr);
  });

  await t.test('the metrics count the revocation', async (t) => {
    const { metrics } = await stack.json<{ metrics: string }>('status');
    const text = await (await fetch(metrics)).text();
    t.match(text, /keyhold_revocations_total\{[^}]*reason="key-disabled"[^}]*\} 1/);
  });

  await t.test('enabled again, the disk heals within one interval', async (t) => {
    await stack.ok('vault', 'enable', 'db-key');
    const from = Date.now();
    await eventually('online', async () => (await stack.disk('db')).state === 'online');
    // A helper process unwraps the key and has to start first.
    const elapsedMs = Date.parse((await stack.disk('db')).since) - from;
    t.ok(elapsedMs < PROBE_INTERVAL_MS + 2500, `${String(elapsedMs)} ms`);
  });

  await t.test('the data is intact', async (t) => {
    const result = await run('fio', verifiedRegion(stack.uri('db'), 'verify'));
    t.equal(result.status, 0, result.stdout + result.stderr);
  });

  await t.test('set check finds a denial at once', async (t) => {
    await stack.ok('vault', 'disable', 'db-key');
    await stack.cli('set', 'check', 'db-set');
    t.match(await stack.disk('db'), { state: 'offline', reason: 'key-disabled' });
    await stack.ok('vault', 'enable', 'db-key');
    await stack.cli('set', 'check', 'db-set');
    await eventually('online', async () => (await stack.disk('db')).state === 'online');
  });

  await t.test('a deleted key gives key-deleted, a recovered one heals', async (t) => {
    await stack.ok('vault', 'delete', 'db-key');
    await stack.cli('set', 'check', 'db-set');
    t.match(await stack.disk('db'), { state: 'offline', reason: 'key-deleted' });
    await stack.ok('vault', 'recover', 'db-key');
    await eventually('online', async () => (await stack.disk('db')).state === 'online');
  });

  await t.test('permission taken away gives access-denied after its confirmation', async (t) => {
    await stack.ok('vault', 'deny');
    await eventually('offline', async () => (await stack.disk('db')).state === 'offline', 30_000);
    t.match(await stack.disk('db'), { reason: 'access-denied' });
    await stack.ok('vault', 'allow');
    await eventually('online', async () => (await stack.disk('db')).state === 'online', 30_000);
  });
});

void test('revocation in restart mode', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const setArgs = ['--probe-interval', '1s', '--lease', '60s', '--on-revoke', 'restart'];
  await stack.createDisk({ name: 'ultra', setArgs });
  await runOk('qemu-io', [
    '-f',
    'raw',
    stack.uri('ultra'),
    '-c',
    'write -P 0x77 0 1M',
    '-c',
    'flush',
  ]);
  await stack.ok('vault', 'disable', 'ultra-key');
  await eventually('revoked', async () => (await stack.disk('ultra')).revoked);

  await t.test('the disk serves on', async (t) => {
    t.equal((await stack.disk('ultra')).state, 'online');
    const read = await run('qemu-io', ['-f', 'raw', stack.uri('ultra'), '-c', 'read -P 0x77 0 1M']);
    t.notMatch(read.stdout + read.stderr, /failed|error/i);
  });

  await t.test('after disk restart it is refused', async (t) => {
    const restarted = await stack.cli('disk', 'restart', 'ultra');
    t.not(restarted.status, 0);
    t.match(await stack.disk('ultra'), { state: 'offline', reason: 'key-disabled' });
  });

  await t.test('enabled again it comes back', async (t) => {
    await stack.ok('vault', 'enable', 'ultra-key');
    await eventually('online', async () => (await stack.disk('ultra')).state === 'online');
    t.equal((await stack.disk('ultra')).revoked, false);
  });

  await t.test(
    'after a restart of the daemon it is refused while the key is disabled',
    async () => {
      await stack.ok('vault', 'disable', 'ultra-key');
      await eventually('revoked', async () => (await stack.disk('ultra')).revoked);
      await stack.stopDev();
      await stack.startDev();
      await eventually(
        'refused',
        async () => (await stack.disk('ultra')).reason === 'key-disabled',
      );
      await stack.ok('vault', 'enable', 'ultra-key');
      await eventually('online', async () => (await stack.disk('ultra')).state === 'online');
      await runOk('qemu-io', ['-f', 'raw', stack.uri('ultra'), '-c', 'read -P 0x77 0 1M']);
    },
  );
});

void test('a vault that falls silent', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  const setArgs = ['--probe-interval', '1s', '--lease', '8s', '--suspend-timeout', '60s'];
  await stack.createDisk({ name: 'quiet', setArgs });

  await t.test('the disk serves on while the lease runs, then is suspended', async (t) => {
    await stack.ok('vault', 'trouble', 'hang');
    await new Promise((resolve) => setTimeout(resolve, 2500));
    t.equal((await stack.disk('quiet')).state, 'online');
    await eventually('suspended', async () => (await stack.disk('quiet')).state === 'suspended');
  });

  await t.test('a request waits and is then served without an error', async (t) => {
    const request = run('qemu-io', [
      ...['-f', 'raw', stack.uri('quiet')],
      ...['-c', 'write -P 0x11 0 64k', '-c', 'read -P 0x11 0 64k'],
    ]);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await stack.ok('vault', 'trouble', 'none');
    const { status, stdout, stderr } = await request;
    t.equal(status, 0, stderr);
    t.notMatch(stdout + stderr, /failed|error/i);
  });

  await t.test('it is online again', async (t) => {
    t.equal((await stack.disk('quiet')).state, 'online');
  });
});

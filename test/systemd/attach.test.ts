// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { run, type RunResult } from '../support/process.js';
import { readUnit, valuesOf } from './unit-files.js';

/** Fails until it was called this often, and writes down what it was called with. */
const CLIENT = `#!/bin/sh
for word; do printf '[%s]' "$word"; done >> "$CALLS"; echo >> "$CALLS"
[ "$(wc -l < "$CALLS")" -ge "$SUCCEEDS_AT" ]
`;

/** Runs the shell of ExecStart= as systemd does for `disk`, with another nbd-client. */
async function attach(
  t: { teardown(fn: () => unknown): unknown },
  disk: string,
  env: Record<string, string>,
  timeoutMs = 20_000,
): Promise<RunResult & { calls: string[] }> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-attach-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const client = join(dir, 'nbd-client');
  await writeFile(client, CLIENT, { mode: 0o755 });
  const [start = ''] = valuesOf(await readUnit('keyhold-attach@.service'), 'ExecStart');
  const [, script = '', name = ''] = /^\/bin\/sh -c '([^']+)' (\w+) %I$/.exec(start) ?? [];
  const text = script.replaceAll('$$', '$').replace('/usr/sbin/nbd-client', client);
  const calls = join(dir, 'calls');
  const result = await run('/bin/sh', ['-c', text.replace('sleep 2', 'sleep 0.1'), name, disk], {
    env: { CALLS: calls, SUCCEEDS_AT: '1', NBD_DEVICE: '/dev/nbd7', NBD_OPTIONS: '', ...env },
    timeoutMs,
  });
  const lines = (await readFile(calls, 'utf8')).trimEnd().split('\n');
  return { ...result, calls: lines };
}

const CALL = '[-unix][/run/keyhold/nbd.sock][-N][db01][/dev/nbd7]';

void test('a disk is connected to the device that its file names', async (t) => {
  t.match(await attach(t, 'db01', {}), { status: 0, calls: [CALL] });
});

void test('options are words of their own', async (t) => {
  const { calls } = await attach(t, 'db01', { NBD_OPTIONS: '-b 4096 -C 4' });
  t.same(calls, [`${CALL}[-b][4096][-C][4]`]);
});

void test('a disk that is not online yet is waited for', async (t) => {
  const { status, calls } = await attach(t, 'db01', { SUCCEEDS_AT: '3' });
  t.equal(status, 0);
  t.same(calls, [CALL, CALL, CALL]);
});

void test('a disk that never comes is no success', async (t) => {
  const { status } = await attach(t, 'db01', { SUCCEEDS_AT: '1000000' }, 1000);
  t.not(status, 0);
});

void test('nothing in the name of a disk is run', async (t) => {
  const { calls } = await attach(t, 'a"; echo $(id) #', {});
  t.same(calls, ['[-unix][/run/keyhold/nbd.sock][-N][a"; echo $(id) #][/dev/nbd7]']);
});

void test('the device is disconnected at the end', async (t) => {
  const stop = valuesOf(await readUnit('keyhold-attach@.service'), 'ExecStop');
  t.same(stop, ['/usr/sbin/nbd-client -d ${NBD_DEVICE}']);
});

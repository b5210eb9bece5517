// SPDX-License-Identifier: Apache-2.0
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { Check } from '../../src/base/check.js';
import { checkHost, type HostFacts } from '../../src/daemon/host-checks.js';

interface Host {
  readonly lockedMemory?: string;
  readonly core?: string;
  readonly capabilities?: string;
  readonly swaps?: readonly string[];
  readonly facts?: Partial<HostFacts>;
  readonly stateMode?: number;
}

/** The checks of a machine that is as it should be, but for what `host` says. */
async function check(t: Test, host: Host = {}): Promise<Record<string, Check>> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-host-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const self = join(directory, 'proc', 'self');
  await mkdir(self, { recursive: true });
  const stateDir = join(directory, 'state');
  await mkdir(stateDir);
  await chmod(stateDir, host.stateMode ?? 0o700);
  const { lockedMemory = 'unlimited', core = '0', capabilities = '0', swaps = [] } = host;
  const limits = [
    'Limit                     Soft Limit           Hard Limit           Units     ',
    `Max core file size        ${core}                    ${core}                    bytes     `,
    `Max locked memory         ${lockedMemory}           unlimited            bytes     `,
  ];
  await writeFile(join(self, 'limits'), `${limits.join('\n')}\n`);
  await writeFile(join(self, 'status'), `Name:\tnode\nCapEff:\t${capabilities}\n`);
  const rows = swaps.map((name) => `${name}  partition  1000  0  -2\n`);
  await writeFile(join(directory, 'proc', 'swaps'), `Filename Type Size\n${rows.join('')}`);
  const dm = join(directory, 'sys', 'class', 'block', 'dm-0', 'dm');
  await mkdir(dm, { recursive: true });
  await writeFile(join(dm, 'uuid'), 'CRYPT-PLAIN-swap\n');
  const checks = checkHost({
    procDirectory: join(directory, 'proc'),
    sysDirectory: join(directory, 'sys'),
    stateDir,
    daemonUid: process.getuid?.() ?? 0,
    memfdSecret: true,
    engine: { name: 'io_uring', why: 'this host permits it', fallback: false },
    shards: { total: 2, alive: 2 },
    ...host.facts,
  });
  return Object.fromEntries(checks.map((each) => [each.id, each]));
}

void test('a machine as it should be passes', async (t) => {
  const found = await check(t);
  t.same(new Set(Object.values(found).map(({ verdict }) => verdict)), new Set(['ok']));
  t.same(Object.keys(found), [
    'locked-memory',
    'core-dumps',
    'secret-memory',
    'swap',
    'engine',
    'state-directory',
  ]);
});

void test('too little locked memory for one disk fails with both figures', async (t) => {
  const found = await check(t, { lockedMemory: '65536' });
  t.match(found['locked-memory'], {
    verdict: 'fail',
    code: 'LockedMemoryLimit',
    message: 'RLIMIT_MEMLOCK is 65536 bytes, expected at least 262144',
  });
});

void test('locked memory for some disks only is a warning', async (t) => {
  t.match(await check(t, { lockedMemory: '1048576' }), { 'locked-memory': { verdict: 'warn' } });
});

void test('CAP_IPC_LOCK makes the limit mean nothing', async (t) => {
  const host = { lockedMemory: '65536', capabilities: '0000000000004000' };
  t.match(await check(t, host), { 'locked-memory': { verdict: 'ok' } });
});

void test('other capabilities do not', async (t) => {
  const host = { lockedMemory: '65536', capabilities: '000001ffffffbfff' };
  t.match(await check(t, host), { 'locked-memory': { verdict: 'fail' } });
});

void test('core dumps that are on fail', async (t) => {
  t.match(await check(t, { core: 'unlimited' }), { 'core-dumps': { verdict: 'fail' } });
});

void test('keys in mlock memory are a warning', async (t) => {
  const found = await check(t, { facts: { memfdSecret: false } });
  t.match(found['secret-memory'], { verdict: 'warn', code: 'NoMemfdSecret' });
});

void test('swap in clear is a warning that names the device', async (t) => {
  const found = await check(t, { swaps: ['/dev/sda2'] });
  t.match(found['swap'], { verdict: 'warn', facts: { devices: ['/dev/sda2'] } });
});

void test('swap in compressed memory is fine', async (t) => {
  t.match(await check(t, { swaps: ['/dev/zram0'] }), { swap: { verdict: 'ok' } });
});

void test('the other engine is a warning only where it was not asked for', async (t) => {
  const engine = { name: 'epoll', why: 'io_uring_setup: EPERM' };
  const fallen = await check(t, { facts: { engine: { ...engine, fallback: true } } });
  t.match(fallen['engine'], { verdict: 'warn', code: 'NoIoUring' });
  const chosen = await check(t, { facts: { engine: { ...engine, fallback: false } } });
  t.match(chosen['engine'], { verdict: 'ok' });
});

void test('a dead shard fails with both figures', async (t) => {
  const found = await check(t, { facts: { shards: { total: 2, alive: 1 } } });
  t.match(found['engine'], { verdict: 'fail', message: /^1 of 2 shards/ });
});

void test('a state directory that others can enter fails', async (t) => {
  for (const stateMode of [0o710, 0o701, 0o777]) {
    const found = await check(t, { stateMode });
    t.match(found['state-directory'], { verdict: 'fail', code: 'StateDirectoryMode' });
  }
});

void test('a state directory of another user fails', async (t) => {
  const found = await check(t, { facts: { daemonUid: 4711 } });
  t.match(found['state-directory'], { verdict: 'fail', code: 'StateDirectoryOwner' });
});

void test('what cannot be looked at is a warning and ends nothing', async (t) => {
  const found = await check(t, { facts: { procDirectory: '/nonexistent', stateDir: '/nowhere' } });
  t.match(found['locked-memory'], { verdict: 'warn', code: 'Unreadable' });
  t.match(found['state-directory'], { verdict: 'warn', code: 'Unreadable' });
  t.match(found['engine'], { verdict: 'ok' });
});

void test('a limit that is not listed is not taken for none', async (t) => {
  const found = await check(t, { lockedMemory: 'much' });
  t.match(found['locked-memory'], { verdict: 'warn', code: 'Unreadable' });
});

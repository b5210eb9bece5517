// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { readUnit, UnitFiles, valuesOf } from './unit-files.js';

/** The daemon ends by itself within this time (STOP_MS_MAX of daemon/main.ts). */
const STOP_SECONDS_MAX = 8;

const UNITS = [
  'keyhold.service',
  'keyhold-nbd.socket',
  'keyhold-admin.socket',
  'keyhold-attach@db01.service',
  'srv-db01.mount',
];

for (const unit of UNITS) {
  void test(`systemd has nothing to say against ${unit}`, async (t) => {
    const units = await UnitFiles.copy(t);
    t.equal(await units.verify(unit), '');
  });
}

for (const unit of ['keyhold.service', 'keyhold-nbd.socket', 'srv-db01.mount']) {
  void test(`an option of ${unit} that does not exist would be noticed`, async (t) => {
    const units = await UnitFiles.copy(t);
    await units.edit(unit, (text) => text.replace(/^\[(Service|Socket|Mount)\]$/m, '$&\nNoSuch=1'));
    t.match(await units.verify(unit), 'NoSuch');
  });
}

void test('a drop-in with a mistake would be noticed', async (t) => {
  const units = await UnitFiles.copy(t);
  await units.edit('keyhold.service.d/stores.conf', (text) => `${text}NoSuch=1\n`);
  t.match(await units.verify('keyhold.service'), 'NoSuch');
});

void test('the exposure is 2.0 at most', async (t) => {
  const { stdout, stderr, status } = await (await UnitFiles.copy(t)).security();
  t.equal(status, 0, stdout + stderr);
});

for (const [option, weak] of [
  ['CapabilityBoundingSet', 'CapabilityBoundingSet=~'],
  ['SystemCallFilter', ''],
] as const) {
  void test(`without ${option} the exposure would be too high`, async (t) => {
    const units = await UnitFiles.copy(t);
    const line = new RegExp(`^${option}=.*$`, 'gm');
    await units.edit('keyhold.service', (text) => text.replaceAll(line, weak));
    t.not((await units.security()).status, 0);
  });
}

void test('V8 may write what it executes', async (t) => {
  t.same(valuesOf(await readUnit('keyhold.service'), 'MemoryDenyWriteExecute'), []);
});

for (const option of ['PrivateUsers', 'ProtectProc', 'ProcSubset']) {
  void test(`${option} does not hide who calls the admin API`, async (t) => {
    t.same(valuesOf(await readUnit('keyhold.service'), option), []);
  });
}

void test('no core file is written, whatever the limits outside say', async (t) => {
  t.same(valuesOf(await readUnit('keyhold.service'), 'LimitCORE'), ['0']);
});

void test('systemd waits longer for the end than the daemon allows itself', async (t) => {
  const [limit = ''] = valuesOf(await readUnit('keyhold.service'), 'TimeoutStopSec');
  t.ok(Number.parseInt(limit, 10) > STOP_SECONDS_MAX, limit);
});

void test('the directory of the sockets outlives the service', async (t) => {
  const unit = await readUnit('keyhold.service');
  t.same(valuesOf(unit, 'RuntimeDirectoryPreserve'), ['yes']);
});

for (const name of ['nbd', 'admin']) {
  void test(`the ${name} socket is passed under the name that the daemon looks for`, async (t) => {
    const unit = await readUnit(`keyhold-${name}.socket`);
    t.same(valuesOf(unit, 'FileDescriptorName'), [name]);
    t.same(valuesOf(unit, 'Service'), ['keyhold.service']);
  });

  void test(`the service takes the ${name} socket, however it is started`, async (t) => {
    const sockets = valuesOf(await readUnit('keyhold.service'), 'Sockets').join(' ');
    t.ok(sockets.split(' ').includes(`keyhold-${name}.socket`));
  });

  void test(`others than the group may not connect to the ${name} socket`, async (t) => {
    t.same(valuesOf(await readUnit(`keyhold-${name}.socket`), 'SocketMode'), ['0660']);
  });
}

for (const [unit, first] of [
  ['keyhold-attach@.service', 'keyhold.service'],
  ['examples/srv-db01.mount', 'keyhold-attach@db01.service'],
] as const) {
  void test(`${unit} starts after ${first}, and stops before it`, async (t) => {
    const text = await readUnit(unit);
    t.ok(valuesOf(text, 'After').includes(first));
    t.ok(valuesOf(text, 'Requires').includes(first));
  });
}

void test('the mount does not stand before local-fs.target, which the daemon needs', async (t) => {
  const [options = ''] = valuesOf(await readUnit('examples/srv-db01.mount'), 'Options');
  t.ok(options.split(',').includes('_netdev'));
});

void test('nothing the daemon follows follows the daemon', async (t) => {
  const after = valuesOf(await readUnit('keyhold.service'), 'After')
    .join(' ')
    .split(' ');
  t.notOk(after.includes('remote-fs.target'));
});

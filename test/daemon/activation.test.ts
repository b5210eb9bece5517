// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { parseConfig } from '../../src/config/config.js';
import { claimSockets, socketText, takeInheritedFds } from '../../src/daemon/activation.js';
import type { ListeningAddress } from '../../src/dataplane/addon.js';

const PID = 4711;
const CONFIG = parseConfig('[admin]\nsocket = "/run/a.sock"', 'test.toml');

function take(env: Record<string, string>): ReturnType<typeof takeInheritedFds> {
  return takeInheritedFds(env, PID);
}

/** Claims sockets from fd 3 on, given as name and address. */
function claim(
  ...sockets: ReadonlyArray<readonly [string, ListeningAddress]>
): ReturnType<typeof claimSockets> {
  const inherited = sockets.map(([name], index) => ({ fd: 3 + index, name }));
  const addressOf = (fd: number): ListeningAddress => {
    const [, address] = sockets[fd - 3] ?? [];
    if (address === undefined) throw new Error(`nobody asked for fd ${fd}`);
    return address;
  };
  return claimSockets(inherited, { config: CONFIG, claim: addressOf });
}

const unix = (path: string): ListeningAddress => ({ kind: 'unix', path });
const tcp = (host: string): ListeningAddress => ({ kind: 'tcp', host, port: 10809 });
const fds = (sockets: readonly { fd: number }[]): number[] => sockets.map(({ fd }) => fd);

void test('without variables nothing is inherited', (t) => {
  t.same(take({}), []);
  t.end();
});

void test('descriptors begin at 3 and carry their names', (t) => {
  const env = { LISTEN_PID: `${PID}`, LISTEN_FDS: '2', LISTEN_FDNAMES: 'nbd:admin' };
  t.same(take(env), [
    { fd: 3, name: 'nbd' },
    { fd: 4, name: 'admin' },
  ]);
  t.end();
});

void test('names may be missing', (t) => {
  t.same(take({ LISTEN_PID: `${PID}`, LISTEN_FDS: '1' }), [{ fd: 3, name: '' }]);
  t.end();
});

for (const pid of ['4712', '', '04711', ' 4711']) {
  void test(`sockets for process ${JSON.stringify(pid)} are not ours`, (t) => {
    t.same(take({ LISTEN_PID: pid, LISTEN_FDS: '1' }), []);
    t.end();
  });
}

void test('a process id alone passes nothing', (t) => {
  t.same(take({ LISTEN_PID: `${PID}` }), []);
  t.end();
});

for (const count of ['-1', '33', '1e3', '0x3', '', ' 1', '1 ', '4294967297', 'many']) {
  void test(`LISTEN_FDS=${JSON.stringify(count)} is refused with its range`, (t) => {
    t.throws(() => take({ LISTEN_PID: `${PID}`, LISTEN_FDS: count }), {
      code: 'ERR_ACTIVATION',
      message: `from 0 to 32, got ${JSON.stringify(count)}`,
    });
    t.end();
  });
}

for (const names of ['nbd', 'nbd:admin:more', '']) {
  void test(`two sockets with LISTEN_FDNAMES=${JSON.stringify(names)} are refused`, (t) => {
    t.throws(() => take({ LISTEN_PID: `${PID}`, LISTEN_FDS: '2', LISTEN_FDNAMES: names }), {
      code: 'ERR_ACTIVATION',
      message: /expected 2 names, as LISTEN_FDS says, got [13]$/,
    });
    t.end();
  });
}

for (const [what, env] of [
  ['that were used', { LISTEN_PID: `${PID}`, LISTEN_FDS: '1', LISTEN_FDNAMES: 'nbd' }],
  ['of another process', { LISTEN_PID: '1', LISTEN_FDS: '1', LISTEN_FDNAMES: 'nbd' }],
] as const) {
  void test(`variables ${what} are gone before a child could see them`, (t) => {
    const mine: Record<string, string> = { ...env, PATH: '/bin' };
    take(mine);
    t.same(mine, { PATH: '/bin' });
    t.end();
  });
}

void test('a name decides, whatever the path', (t) => {
  const found = claim(['admin', unix('/x')], ['nbd', unix('/run/a.sock')]);
  t.equal(found.admin?.fd, 3);
  t.same(fds(found.nbd), [4]);
  t.end();
});

void test("the names of keyhold's own socket units decide too", (t) => {
  const found = claim(['keyhold-nbd.socket', unix('/x')], ['keyhold-admin.socket', unix('/y')]);
  t.equal(found.admin?.fd, 4);
  t.same(fds(found.nbd), [3]);
  t.end();
});

void test("without a name the config's admin path is the admin API, all else is NBD", (t) => {
  const found = claim(
    ['', unix('/run/a.sock')],
    ['unknown', unix('/run/n.sock')],
    ['', unix('@abstract')],
    ['', unix('')],
    ['', tcp('127.0.0.1')],
    ['', tcp('::1')],
  );
  t.equal(found.admin?.fd, 3);
  t.same(fds(found.nbd), [4, 5, 6, 7, 8]);
  t.end();
});

void test('a TCP socket is no admin socket', (t) => {
  t.throws(() => claim(['admin', tcp('127.0.0.1')]), {
    code: 'ERR_ACTIVATION',
    message: /fd 3, admin: expected a unix socket, got TCP 127\.0\.0\.1:10809/,
  });
  t.end();
});

void test('two admin sockets are refused', (t) => {
  t.throws(() => claim(['admin', unix('/x')], ['admin', unix('/y')]), {
    code: 'ERR_ACTIVATION',
    message: /fd 4 is a second admin socket: fd 3 is one already/,
  });
  t.end();
});

for (const host of ['0.0.0.0', '::', '192.0.2.1', '2001:db8::1', '::ffff:192.0.2.1']) {
  void test(`TCP on ${host} needs TLS, also when somebody else bound it`, (t) => {
    t.throws(() => claim(['nbd', tcp(host)]), {
      code: 'ERR_ACTIVATION',
      message: /fd 3, nbd: expected .* loopback .* tls = "require", and nbd\.tls is off/,
      fields: { fd: 3 },
    });
    t.end();
  });
}

void test('addresses are shown as the config writes them', (t) => {
  t.equal(socketText(unix('/run/n.sock')), 'unix:/run/n.sock');
  t.equal(socketText(tcp('127.0.0.1')), '127.0.0.1:10809');
  t.equal(socketText(tcp('::1')), '[::1]:10809');
  t.end();
});

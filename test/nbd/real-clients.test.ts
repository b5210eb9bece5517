// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { test } from 'tap';
import { createNegotiation } from '../../src/nbd/negotiation.js';
import type { ExportDirectory } from '../../src/nbd/exports.js';
import { NbdClient } from '../support/nbd-client.js';
import { run } from '../support/process.js';
import { BOTH, DEMO, directoryOf } from './fixture.js';

/* libnbd, qemu and nbd-client negotiate with the state machine; transmission only closes again. */

async function serve(t: Test, exports: ExportDirectory, listen: string | number): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    const negotiation = createNegotiation({ exports, tls: 'off' });
    for (const action of negotiation.start())
      if (action.kind === 'send') socket.write(action.bytes);
    let negotiating = true;
    socket.on('data', (bytes: Buffer) => {
      if (!negotiating) {
        socket.end();
        return;
      }
      for (const action of negotiation.receive(bytes)) {
        if (action.kind === 'send') socket.write(action.bytes);
        else negotiating = false;
        if (action.kind === 'close') socket.end();
      }
    });
  });
  const where = typeof listen === 'string' ? { path: listen } : { port: listen, host: '127.0.0.1' };
  await new Promise<void>((resolve) => server.listen(where, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return typeof listen === 'string' ? 0 : (server.address() as AddressInfo).port;
}

async function serveUnix(t: Test, exports: ExportDirectory): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-nbd-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'nbd.sock');
  await serve(t, exports, path);
  return path;
}

void test('nbdinfo lists every export with its facts', async (t) => {
  const path = await serveUnix(t, BOTH);
  const args = ['--list', '--json', '--no-content', `nbd+unix://?socket=${path}`];
  const { stdout, stderr, status } = await run('nbdinfo', args);
  t.equal(status, 0, stderr);
  t.match(JSON.parse(stdout), {
    protocol: 'newstyle-fixed',
    TLS: false,
    exports: [
      {
        'export-name': 'demo',
        description: 'a disk for tests',
        'export-size': 2 ** 30,
        is_read_only: false,
        can_flush: true,
        can_fua: true,
        can_trim: true,
        can_zero: true,
        can_multi_conn: true,
        can_df: true,
        is_rotational: false,
        can_cache: true,
        can_fast_zero: true,
        contexts: ['base:allocation'],
        block_size_minimum: 512,
        block_size_preferred: 4096,
        block_size_maximum: 33_554_432,
      },
      {
        'export-name': 'archive',
        is_read_only: true,
        is_rotational: true,
        can_trim: false,
        can_fast_zero: false,
        block_size_minimum: 4096,
      },
    ],
  });
});

void test('nbdinfo opens the default export of a single disk', async (t) => {
  const path = await serveUnix(t, directoryOf(DEMO));
  const { stdout } = await run('nbdinfo', ['--size', `nbd+unix:///?socket=${path}`]);
  t.equal(stdout.trim(), String(2 ** 30));
});

void test('nbdinfo shows why an offline disk is refused', async (t) => {
  const path = await serveUnix(t, BOTH);
  const env = { LIBNBD_DEBUG: '1' };
  const result = await run('nbdinfo', [`nbd+unix:///gone?socket=${path}`], { env });
  t.not(result.status, 0);
  t.match(result.stderr, /server error message: disk gone is offline: key-disabled/);
});

void test('nbdinfo that requires TLS is told that there is none', async (t) => {
  const path = await serveUnix(t, BOTH);
  const env = { LIBNBD_DEBUG: '1' };
  const uri = `nbds+unix:///demo?socket=${path}`;
  const { status, stderr } = await run('nbdinfo', [uri], { env });
  t.not(status, 0);
  t.match(stderr, /TLS/);
});

void test('qemu-nbd lists the exports', async (t) => {
  const path = await serveUnix(t, BOTH);
  const { status, stdout, stderr } = await run('qemu-nbd', ['--list', '--socket', path]);
  t.equal(status, 0, stderr);
  t.match(stdout, /exports available: 2/);
  t.match(stdout, /export: 'demo'[^]*size: +1073741824[^]*export: 'archive'/);
  t.match(stdout, /min block: 4096/);
  t.match(stdout, /available meta contexts: 1\s+base:allocation/);
});

void test('qemu-nbd lists a hundred exports, and asks each for its facts', async (t) => {
  const disks = Array.from({ length: 100 }, (_, index) => ({ ...DEMO, name: `disk-${index}` }));
  const path = await serveUnix(t, directoryOf(...disks));
  const { status, stdout, stderr } = await run('qemu-nbd', ['--list', '--socket', path]);
  t.equal(status, 0, stderr);
  t.equal(stdout.match(/base:allocation/g)?.length, 100);
});

void test('nbd-client lists the exports', async (t) => {
  const port = await serve(t, BOTH, 0);
  const { stdout, stderr } = await run('nbd-client', ['-l', '127.0.0.1', '-p', String(port)]);
  t.match(`${stdout}${stderr}`, /demo[^]*archive/);
});

void test('nbdkit, as a client, opens an export', async (t) => {
  const path = await serveUnix(t, BOTH);
  const options = ['-U', '-', 'nbd', `socket=${path}`, 'export=archive'];
  const { stdout, stderr } = await run('nbdkit', [...options, '--run', 'nbdinfo --size "$uri"']);
  t.equal(stdout.trim(), String(2 ** 40), stderr);
});

void test('the raw test client negotiates, too', async (t) => {
  const client = await NbdClient.handshake({ path: await serveUnix(t, BOTH) });
  t.teardown(() => client.destroy());
  t.same(await client.list(), [
    { name: 'demo', description: 'a disk for tests' },
    { name: 'archive', description: '' },
  ]);
  t.match(await client.info('archive'), { name: 'archive', blockSize: { min: 4096 } });
  await t.rejects(client.go('gone'), { message: /0x80000002: disk gone is offline/ });
  t.match(await client.go('demo'), { sizeBytes: 2n ** 30n });
});

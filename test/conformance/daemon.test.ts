// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { t as file, test } from 'tap';
import { NbdClient } from '../support/nbd-client.js';
import { runOk } from '../support/process.js';
import { Stack } from '../support/stack.js';

/* Rows of the attack list that need the whole daemon and a vault. */

const stack = await Stack.start();
file.teardown(() => stack.stop());
await stack.createDisk({ name: 'data', size: '32M' });
const where = { path: stack.nbdSocket };

async function vaultRequests(): Promise<number> {
  const { requests } = await stack.json<{ requests: unknown[] }>('vault', 'log', '--limit', '1000');
  return requests.length;
}

void test('CVE-2019-14850: clients that never say GO cost no vault call', async (t) => {
  const before = await vaultRequests();
  for (let client = 0; client < 100; client += 1) {
    const socket = connect(where);
    await new Promise((resolve) => socket.once('connect', resolve));
    socket.destroy();
    const asking = await NbdClient.handshake(where);
    await asking.list();
    await asking.info('data');
    asking.destroy();
  }
  const calls = (await vaultRequests()) - before;
  // Probes of the lease go on meanwhile; they do not depend on the number of clients.
  t.ok(calls < 20, `${calls} calls for 200 connections`);
});

void test('CVE-2015-0847: a storm of signals harms neither data nor daemon', async (t) => {
  const pid = await stack.daemonPid();
  const [source, back] = [join(stack.dir, 'storm.in'), join(stack.dir, 'storm.out')];
  const data = randomBytes(32 * 2 ** 20);
  await writeFile(source, data);
  const storm = { over: false };
  const signals = ['SIGHUP', 'SIGPIPE', 'SIGCHLD', 'SIGWINCH', 'SIGURG', 'SIGCONT'] as const;
  const raging = (async () => {
    while (!storm.over) {
      for (const signal of signals) process.kill(pid, signal);
      await sleep(1);
    }
  })();
  await runOk('nbdcopy', ['--flush', source, stack.uri('data')]);
  await runOk('nbdcopy', [stack.uri('data'), back]);
  storm.over = true;
  await raging;
  t.ok(data.equals(await readFile(back)));
  t.equal(await stack.daemonPid(), pid);
});

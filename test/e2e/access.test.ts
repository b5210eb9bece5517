// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { test } from 'tap';
import type { AllowResult, ConnectionView } from '../../src/admin/api.js';
import { NbdClient } from '../support/nbd-client.js';
import {
  encodeClientFlags,
  encodeInfoData,
  encodeMetaContextData,
  encodeOption,
  OPT,
} from '../support/nbd-wire.js';
import { endProcess, run, type RunResult } from '../support/process.js';
import { Stack } from '../support/stack.js';

/** `nobody`: a user without any right of its own. */
const NOBODY = 65534;
const AS_NOBODY = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];
const ENV = { PATH: '/usr/bin:/bin', LC_ALL: 'C' };

function asNobody(...command: string[]): Promise<RunResult> {
  return run('setpriv', [...AS_NOBODY, ...command], { env: ENV });
}

/** A client of another user that reads again and again, and says when it no longer can. */
class Reader {
  readonly process: ChildProcess;
  readonly ended: Promise<unknown>;
  readonly #lines: AsyncIterator<string>;

  constructor(uri: string) {
    const script = [
      'import time',
      `h.connect_uri(${JSON.stringify(uri)})`,
      'h.pread(512, 0)',
      'print("reading", flush=True)',
      'try:',
      '    while True:',
      '        h.pread(512, 0)',
      '        time.sleep(0.02)',
      'except nbd.Error:',
      '    print("lost", flush=True)',
    ].join('\n');
    this.process = spawn('setpriv', [...AS_NOBODY, 'nbdsh', '-c', script], {
      env: ENV,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.ended = once(this.process, 'exit');
    if (this.process.stdout === null) throw new Error('no standard output');
    this.#lines = createInterface(this.process.stdout)[Symbol.asyncIterator]();
  }

  async says(): Promise<string> {
    const next = await this.#lines.next();
    return next.done === true ? 'nothing' : next.value;
  }
}

/** What nbdinfo prints of a name that is refused, with the name itself made the same. */
function answerTo({ stderr }: RunResult, name: string): string {
  return stderr.replaceAll(name, 'NAME');
}

/**
 * What the server answers, to its last byte, to every option that names an export; at the end the
 * server closes, since EXPORT_NAME is refused that way.
 */
async function everyAnswer(path: string, name: string): Promise<string> {
  const socket = connect({ path });
  const context = encodeMetaContextData(name, ['base:allocation']);
  socket.write(
    Buffer.concat([
      encodeClientFlags(3),
      encodeOption(OPT.STRUCTURED_REPLY),
      encodeOption(OPT.LIST),
      encodeOption(OPT.INFO, encodeInfoData(name, [3, 0])),
      encodeOption(OPT.LIST_META_CONTEXT, context),
      encodeOption(OPT.SET_META_CONTEXT, context),
      encodeOption(OPT.GO, encodeInfoData(name, [])),
      encodeOption(OPT.EXPORT_NAME, Buffer.from(name)),
    ]),
  );
  const chunks: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('latin1').replaceAll(name, 'NAME');
}

void test('two users share a daemon, and each uses its own disk only', async (t) => {
  t.equal(process.getuid?.(), 0, 'only root can act as two users');
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await chmod(stack.dir, 0o711);
  await chmod(stack.nbdSocket, 0o666);
  await stack.createDisk({ name: 'mine', diskArgs: ['--allow', 'uid=0'] });
  const rules = ['--allow', 'uid=0', '--allow', `uid=${String(NOBODY)}`];
  const create = ['disk', 'create', 'shared', '--set', 'mine-set', '--size', '64M', '--attach'];
  await stack.ok(...create, ...rules);
  const list = ['nbdinfo', '--list', '--json', `nbd+unix:///?socket=${stack.nbdSocket}`];
  const namesOf = ({ stdout }: RunResult): string[] =>
    (JSON.parse(stdout) as { exports: { 'export-name': string }[] }).exports
      .map((one) => one['export-name'])
      .sort();

  await t.test('LIST shows each user its own', async (t) => {
    t.strictSame(namesOf(await asNobody(...list)), ['shared']);
    t.strictSame(namesOf(await run('nbdinfo', list.slice(1), { env: ENV })), ['mine', 'shared']);
  });

  await t.test('the default export is the only one that a user may use', async (t) => {
    const size = ['nbdinfo', '--size', `nbd+unix:///?socket=${stack.nbdSocket}`];
    t.match(await asNobody(...size), { status: 0, stdout: `${64 * 2 ** 20}\n` });
    t.equal((await run('nbdinfo', size.slice(1), { env: ENV })).status, 1, 'root has two');
  });

  await t.test('a denied name is answered like one that nobody serves', async (t) => {
    t.equal((await asNobody('nbdinfo', stack.uri('shared'))).status, 0);
    const denied = await asNobody('nbdinfo', stack.uri('mine'));
    const missing = await asNobody('nbdinfo', stack.uri('none'));
    t.equal(denied.status, 1);
    t.equal(answerTo(denied, 'mine'), answerTo(missing, 'none'));
  });

  await t.test('a list that shrinks ends the sessions of those who fell out', async (t) => {
    const reader = new Reader(stack.uri('shared'));
    t.teardown(() => endProcess(reader.process, 'SIGKILL'));
    t.equal(await reader.says(), 'reading');
    const newcomer = await NbdClient.handshake({ path: stack.nbdSocket });
    t.teardown(() => newcomer.destroy());
    const { connections } = await stack.json<{ connections: ConnectionView[] }>(
      ...['status', '--connections'],
    );
    t.match(connections, [
      { phase: 'transmission', disk: 'shared', tls: null, address: { uid: NOBODY, gid: NOBODY } },
      { phase: 'negotiating', disk: null, tls: null, address: { uid: 0, pid: process.pid } },
    ]);
    newcomer.destroy();
    t.ok((connections[0]?.requests ?? 0) > 0);
    t.ok((connections[0]?.bytesOut ?? 0) > 512);
    const shown = await stack.json<{ clients: number; connections: ConnectionView[] }>(
      ...['disk', 'show', 'shared'],
    );
    t.equal(shown.clients, 1);
    t.match(shown.connections, [{ phase: 'transmission', disk: 'shared' }]);
    const result = await stack.json<AllowResult>(
      ...['disk', 'allow', 'shared', '--remove', `uid=${String(NOBODY)}`],
    );
    t.strictSame(result, { disk: 'shared', allow: ['uid=0'], disconnected: 1 });
    t.equal(await reader.says(), 'lost');
    await reader.ended;
    t.strictSame(namesOf(await asNobody(...list)), []);
    t.equal((await stack.disk('shared')).state, 'online', 'for others it goes on');
    t.equal((await run('nbdinfo', [stack.uri('shared')], { env: ENV })).status, 0);
  });

  await t.test('to the byte, a denied name gets the answers of a missing one', async (t) => {
    await stack.ok('disk', 'allow', 'mine', '--clear', '--add', `uid=${String(NOBODY)}`);
    const denied = await everyAnswer(stack.nbdSocket, 'mine');
    const missing = await everyAnswer(stack.nbdSocket, 'none');
    t.match(denied, /no export "NAME"/);
    t.equal(denied, missing);
    await stack.ok('disk', 'allow', 'mine', '--clear', '--add', 'uid=0');
  });

  await t.test('a list that cannot be read changes nothing', async (t) => {
    const result = await stack.cli('disk', 'allow', 'shared', '--add', 'uid=7', '--add', 'uid=x');
    t.equal(result.status, 2);
    t.match(result.stderr, /condition uid: expected a whole number .*, got "x"/);
    const { allow } = await stack.json<AllowResult>('disk', 'allow', 'shared');
    t.strictSame(allow, ['uid=0']);
  });

  await t.test('audit log and metrics have it all', async (t) => {
    const { path } = await stack.json<{ path: string }>('audit', 'verify');
    const text = await readFile(path, 'utf8');
    const records = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const of = (kind: string): Record<string, unknown>[] =>
      records.filter((record) => record['kind'] === kind);
    t.match(of('export-denied'), [{ disk: 'mine', peer: /uid=65534/, suppressed: 0 }]);
    t.match(of('disk-allow-changed'), [
      { disk: 'shared', added: [], removed: [`uid=${String(NOBODY)}`] },
    ]);
    t.match(of('client-expelled'), [{ disk: 'shared', peer: /uid=65534/ }]);
    t.match(
      of('command').filter(({ command }) => command === 'disk-allow'),
      [{ target: 'shared', uid: 0, outcome: 'ok' }],
    );
    const { metrics } = await stack.json<{ metrics: string }>('status');
    const page = await (await fetch(metrics)).text();
    t.match(page, /^keyhold_nbd_refused_total\{reason="denied"\} [1-9]/m);
    t.match(page, /^keyhold_nbd_refused_total\{reason="unknown"\} [1-9]/m);
  });
});

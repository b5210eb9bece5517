// SPDX-License-Identifier: Apache-2.0
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'tap';
import { pump } from '../../src/cli/stdio-pump.js';

const MIB = 1024 * 1024;

/** Two ends of a TCP connection; `far` is the daemon's. */
async function pair(t: { teardown(fn: () => unknown): unknown }): Promise<[Socket, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
  const [far] = (await once(server, 'connection')) as [Socket];
  far.on('error', () => undefined);
  t.teardown(() => {
    near.destroy();
    far.destroy();
    server.close();
  });
  return [near, far];
}

void test('bytes pass both ways, and the end of input is half a close', async (t) => {
  const [remote, far] = await pair(t);
  const [input, output] = [new PassThrough(), new PassThrough()];
  const done = pump({ input, output, remote });
  input.end('question');
  let question = '';
  far.on('data', (chunk: Buffer) => (question += chunk.toString()));
  await once(far, 'end');
  t.equal(question, 'question');
  far.end('answer after the end of input');
  t.equal(await text(output), 'answer after the end of input');
  await done;
});

void test('the end of the remote side is the end, although input stays open', async (t) => {
  const [remote, far] = await pair(t);
  const input = new PassThrough();
  const done = pump({ input, output: new PassThrough().resume(), remote });
  far.end();
  await done;
  t.equal(input.destroyed, true);
});

void test('a connection that breaks off rejects', async (t) => {
  const [remote, far] = await pair(t);
  const done = pump({ input: new PassThrough(), output: new PassThrough().resume(), remote });
  far.resetAndDestroy();
  await t.rejects(done, { code: 'ECONNRESET' });
});

void test('a reader that goes away is no failure', async (t) => {
  const [remote, far] = await pair(t);
  const output = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error('gone'), { code: 'EPIPE' })),
  });
  const done = pump({ input: new PassThrough(), output, remote });
  far.write('answer');
  await t.resolves(done);
  t.equal(remote.destroyed, true);
});

void test('who does not read the output holds up the remote side, not memory', async (t) => {
  const [remote, far] = await pair(t);
  const output = new PassThrough();
  const done = pump({ input: new PassThrough(), output, remote });
  let taken = 0;
  const piece = Buffer.alloc(MIB);
  while (taken < 256 && far.write(piece)) taken += 1;
  // From the first write that was not taken at once, nothing drains while nobody reads.
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.ok(far.writableLength > 0 || taken < 256);
  t.ok(output.readableLength <= MIB);
  output.resume();
  far.end();
  await done;
});

void test('who does not read the input is not flooded', async (t) => {
  const [remote, far] = await pair(t);
  far.pause();
  const input = new PassThrough();
  const done = pump({ input, output: new PassThrough().resume(), remote });
  for (let i = 0; i < 64; i += 1) input.write(Buffer.alloc(MIB));
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.ok(remote.writableLength <= 4 * MIB);
  far.destroy();
  await done.catch(() => undefined);
});

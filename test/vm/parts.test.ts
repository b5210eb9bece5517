// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { test } from 'tap';
import { findKernel, parseDepends } from '../support/vm/kernel.js';
import { findProgram, parseLdd } from '../support/vm/programs.js';
import { keepLog } from '../support/vm/rig.js';
import { ReplyParser } from '../support/vm/replies.js';

function readyParser(): ReplyParser {
  const parser = new ReplyParser();
  parser.push(Buffer.from('ready\n'));
  return parser;
}

void test('answers are found however the bytes are cut', (t) => {
  const bytes = Buffer.from('\u001b[2Jready\n1 0 3\na\nb2 7 0\n3 0 7\n4 0 0\n\n');
  const expected = [
    { id: 1, status: 0, output: 'a\nb' },
    { id: 2, status: 7, output: '' },
    { id: 3, status: 0, output: '4 0 0\n\n' },
  ];
  const wrong = [...bytes.keys()].filter((at) => {
    const parser = new ReplyParser();
    const replies = [...parser.push(bytes.subarray(0, at)), ...parser.push(bytes.subarray(at))];
    return !isDeepStrictEqual(replies, expected);
  });
  t.strictSame(wrong, []);
  t.end();
});

void test('before the line `ready` nothing is an answer', (t) => {
  const parser = new ReplyParser();
  t.strictSame(parser.push(Buffer.from('1 0 0\nboot messages\n')), []);
  t.notOk(parser.ready);
  t.end();
});

for (const text of ['1 0\n', 'oops\n', '1 0 -1\n', ' 1 0 0\n', 'x'.repeat(100)]) {
  void test(`${JSON.stringify(text)} is refused as an answer`, (t) => {
    t.throws(() => readyParser().push(Buffer.from(text)), { message: /expected ID STATUS BYTES/ });
    t.end();
  });
}

void test('an answer that is cut short is awaited', (t) => {
  const parser = readyParser();
  t.strictSame(parser.push(Buffer.from('1 0 5\nabc')), []);
  t.strictSame(parser.push(Buffer.from('de')), [{ id: 1, status: 0, output: 'abcde' }]);
  t.end();
});

void test('without a kernel the error names the command that fetches it', async (t) => {
  const empty = await mkdtemp(join(tmpdir(), 'keyhold-no-kernel-'));
  t.teardown(() => rm(empty, { recursive: true, force: true }));
  await t.rejects(findKernel(empty), { message: /no kernel in .*; run: bash \.ci\/setup vm/ });
});

void test('without a program the error names the command that installs it', async (t) => {
  const missing = findProgram('no-such-program');
  await t.rejects(missing, { message: /no-such-program; run: bash \.ci\/setup vm/ });
});

void test('modprobe: modules in their order, without what is built in', (t) => {
  const text = 'builtin ext4\ninsmod /m/virtio.ko \ninsmod /m/nbd.ko max_part=15\n';
  t.strictSame(parseDepends(text), [
    { path: '/m/virtio.ko', fileName: 'virtio.ko' },
    { path: '/m/nbd.ko', fileName: 'nbd.ko' },
  ]);
  t.end();
});

void test('ldd: libraries and the loader, not the kernel page', (t) => {
  const text =
    '\tlinux-vdso.so.1 (0x00007fc016d9d000)\n' +
    '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fc01681e000)\n' +
    '\t/lib64/ld-linux-x86-64.so.2 (0x00007fc016d9f000)\n';
  t.strictSame(parseLdd(text), ['/lib/x86_64-linux-gnu/libc.so.6', '/lib64/ld-linux-x86-64.so.2']);
  t.end();
});

void test('ldd: a library that is missing is an error', (t) => {
  t.throws(() => parseLdd('\tlibgone.so.1 => not found\n'), { message: /libgone/ });
  t.end();
});

void test('after a failure the logs are kept whole, and their place and end are said', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-kept-'));
  const daemonLog = join(dir, 'daemon.log');
  await writeFile(daemonLog, 'what the daemon said\n');
  const lines = Array.from({ length: 500 }, (_, index) => `line ${String(index)}`);
  const said: string[] = [];
  const say = (line: string): void => void said.push(line);
  const path = await keepLog({ log: lines.join('\n') + '\n', daemonLog, say });
  t.teardown(() => Promise.all([dir, dirname(path)].map((one) => rm(one, { recursive: true }))));
  const kept = await readFile(path, 'utf8');
  t.equal(kept, lines.join('\n') + '\n== daemon\nwhat the daemon said\n');
  t.match(said[0], path);
  t.equal(said.at(-2), 'vm| line 499');
  t.ok(said.every((line) => line.startsWith('vm| ')));
});

void test('a log of a daemon that has none is kept all the same', async (t) => {
  const path = await keepLog({ log: 'x\n', daemonLog: '/nonexistent', say: () => undefined });
  t.teardown(() => rm(dirname(path), { recursive: true }));
  t.equal(await readFile(path, 'utf8'), 'x\n== daemon\n(none)\n');
});

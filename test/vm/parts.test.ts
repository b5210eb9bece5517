// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { test } from 'tap';
import { findKernel, parseDepends } from '../support/vm/kernel.js';
import { findProgram, parseLdd } from '../support/vm/programs.js';
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

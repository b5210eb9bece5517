// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { formatAddress, isLoopback, parseAddress } from '../../src/config/address.js';

for (const [text, loopback] of [
  ['127.0.0.1:1', true],
  ['127.255.1.2:1', true],
  ['[::1]:1', true],
  ['[0:0:0:0:0:0:0:1]:1', true],
  ['0.0.0.0:1', false],
  ['[::]:1', false],
  ['[::ffff:127.0.0.1]:1', false],
  ['10.0.0.1:1', false],
] as const) {
  void test(`${text} is ${loopback ? '' : 'not '}loopback`, (t) => {
    const address = parseAddress(text);
    t.equal(address !== undefined && isLoopback(address), loopback);
    t.equal(address !== undefined && formatAddress(address), text);
    t.end();
  });
}

for (const text of [
  '',
  ':1',
  '::1:1',
  '[::1]',
  '[127.0.0.1]:1',
  '1.2.3:1',
  '127.0.0.1:',
  '127.0.0.1:1 ',
  '256.0.0.1:1',
  '[fe80::1%eth0]:1',
  '127.1:1',
]) {
  void test(`${JSON.stringify(text)} is no address`, (t) => {
    t.equal(parseAddress(text), undefined);
    t.end();
  });
}

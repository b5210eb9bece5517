// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { editDistance, nearestName } from '../../src/base/nearest.js';

for (const [a, b, distance] of [
  ['', '', 0],
  ['abc', 'abc', 0],
  ['', 'abc', 3],
  ['abc', 'abd', 1],
  ['abc', 'acb', 1],
  ['socket', 'sokcet', 1],
  ['kitten', 'sitting', 3],
] as const) {
  void test(`from ${JSON.stringify(a)} to ${JSON.stringify(b)} it is ${distance} and back`, (t) => {
    t.equal(editDistance(a, b), distance);
    t.equal(editDistance(b, a), distance);
    t.end();
  });
}

void test('the nearest name is suggested, another is not', (t) => {
  t.equal(nearestName('listn', ['socket', 'listen', 'tls']), 'listen');
  t.equal(nearestName('Socket', ['socket']), 'socket');
  t.equal(nearestName('elephant', ['socket', 'listen', 'tls']), undefined);
  t.equal(nearestName('x', []), undefined);
  t.end();
});

void test('a name of a megabyte costs nothing', (t) => {
  t.equal(nearestName('x'.repeat(2 ** 20), ['socket']), undefined);
  t.end();
});

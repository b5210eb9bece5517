// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { compareCounts, parseCounts } from '../../bench/instructions.js';

const dump = (total: number): string => `# callgrind format\nevents: Ir\n\ntotals: ${total}\n`;

void test('a count is the difference of two dumps over the requests between them', (t) => {
  t.strictSame(parseCounts('10 4k read\n4 128k write\n', [900, 1900, 50, 450].map(dump)), {
    '4k read': 100,
    '128k write': 100,
  });
  t.end();
});

void test('counts are not made of dumps that are missing, cut short or of no case', (t) => {
  t.throws(() => parseCounts('10 4k read\n', [dump(1)]), { message: /expected 2, got 1/ });
  t.throws(() => parseCounts('10 4k read\n', [dump(1), 'events: Ir\n']), { message: /total/ });
  t.throws(() => parseCounts('4k read\n', [dump(1), dump(2)]), { message: /got "4k read"/ });
  t.end();
});

void test('only what changed by more than the tolerance is worse or better', (t) => {
  const of = (perRequest: Record<string, number>) => ({ compiler: 'g++', perRequest });
  const before = of({ same: 1000, edge: 1000, worse: 1000, better: 1000, gone: 1000 });
  const now = of({ same: 1000, edge: 1030, worse: 1031, better: 969, new: 1000 });
  const verdicts = compareCounts(before, now, 3).map(({ name, verdict }) => [name, verdict]);
  t.strictSame(Object.fromEntries(verdicts), {
    same: 'same',
    edge: 'same',
    worse: 'worse',
    better: 'better',
    gone: 'missing',
    new: 'new',
  });
  t.end();
});

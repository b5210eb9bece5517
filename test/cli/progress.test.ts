// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import type { TextSink } from '../../src/cli/io.js';
import { drawProgress, lineOfStep, type Share } from '../../src/cli/progress/draw.js';
import { showProgress } from '../../src/cli/progress/progress.js';
import { eventually } from '../support/process.js';

function sink(columns?: number): { sink: TextSink; text: () => string } {
  let text = '';
  return {
    sink: {
      write: (more) => (text += more),
      columns,
      color: false,
      closed: new AbortController().signal,
      drained: () => Promise.resolve(),
    },
    text: () => text,
  };
}

/** What cli-progress ends with: to the first column, and the whole line cleared. */
const CLEARED = '\u001b[1G\u001b[2K';

const ROTATING = { doing: 'rewrapping set demo', elapsedMs: 3200, share: undefined };
const SHARE: Share = { done: 12, total: 40, unit: 'headers' };

void test('without a share there is a spinner, with one a bar that says how far', (t) => {
  t.match(drawProgress(ROTATING, 80), /^[⠋-⣿] rewrapping set demo {2}3s$/);
  t.match(
    drawProgress({ ...ROTATING, share: SHARE }, 80),
    / █{6}░{14} 30%, 12 of 40 headers {2}3s$/,
  );
  t.end();
});

void test('a picture is one line that fits, whatever the name and the numbers', (t) => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary' }),
      fc.integer({ min: 1, max: 200 }),
      fc.nat(),
      fc.integer({ min: 1 }),
      (name, columns, done, total) => {
        const state = { doing: `purging ${name}`, elapsedMs: done, share: { done, total } };
        const line = drawProgress(state, columns);
        return Array.from(line).length <= columns && !/[\u0000-\u001f]/.test(line);
      },
    ),
  );
  t.end();
});

void test('without a terminal there is a line at once, and one for every 5 %', (t) => {
  const total = 1000;
  let printed: number | undefined;
  const lines: string[] = [];
  for (let done = 0; done <= total; done += 1) {
    const next = lineOfStep({ ...ROTATING, share: { done, total, unit: 'disks' } }, printed);
    if (next === undefined) continue;
    printed = next.step;
    lines.push(next.line);
  }
  t.equal(lines.length, 21);
  t.equal(lines[0], 'keyhold: rewrapping set demo: 0%, 0 of 1000 disks\n');
  t.equal(lines[1], 'keyhold: rewrapping set demo: 5%, 50 of 1000 disks\n');
  t.equal(lineOfStep(ROTATING, 0), undefined, 'nothing new, no line');
  t.end();
});

void test('what ends soon shows nothing', async (t) => {
  const { sink: out, text } = sink(80);
  const result = await showProgress(out, { doing: 'x' }, () => Promise.resolve(7));
  t.equal(result, 7);
  t.equal(text(), '');
});

void test('what lasts is shown, and the picture is gone when it ends', async (t) => {
  const { sink: out, text } = sink(80);
  const task = { doing: 'purging set s', look: () => Promise.resolve({ done: 1, total: 2 }) };
  const work = () => eventually('the bar', () => text().includes('50%'));
  await showProgress(out, task, work, 0);
  t.match(text(), 'purging set s');
  t.ok(text().endsWith(CLEARED), JSON.stringify(text().slice(-20)));
});

void test('a picture fits a terminal that has less room than it', async (t) => {
  const { sink: out, text } = sink(12);
  const task = { doing: 'purging set s', look: () => Promise.resolve({ done: 1, total: 2 }) };
  await showProgress(out, task, () => eventually('a picture', () => text().includes('purg')), 0);
  const drawn = text()
    .replace(/\u001b(?:\[\??\d*[A-Za-z]|[78])/g, '\n')
    .split('\n');
  t.strictSame(
    drawn.filter((line) => line.length > 11),
    [],
  );
  t.match(drawn.join(''), 'purging s');
});

void test('a terminal wraps and shows its cursor throughout: Ctrl-C may come at any time', async (t) => {
  const { sink: out, text } = sink(80);
  await showProgress(out, { doing: 'x' }, () => eventually('a picture', () => text() !== ''), 0);
  t.notMatch(text(), /\u001b\[\?(?:7|25)[hl]/);
});

void test('a failure is passed on, and the picture is gone', async (t) => {
  const { sink: out, text } = sink(80);
  const fail = async (): Promise<never> => {
    await eventually('the picture', () => text() !== '');
    throw new Error('no');
  };
  await t.rejects(showProgress(out, { doing: 'x' }, fail, 0), { message: 'no' });
  t.ok(text().endsWith(CLEARED));
});

void test('not to know how far it is is no failure', async (t) => {
  const { sink: out, text } = sink();
  const task = { doing: 'x', look: () => Promise.reject(new Error('busy')) };
  const work = () => eventually('the line', () => text() !== '');
  await showProgress(out, task, work, 0);
  await delay(10);
  t.equal(text(), 'keyhold: x\n');
});

void test('a share of nothing divides by nothing', async (t) => {
  const { sink: out, text } = sink();
  const task = { doing: 'x', look: () => Promise.resolve({ done: 0, total: 0, unit: 'disks' }) };
  await showProgress(out, task, () => eventually('the line', () => text() !== ''), 0);
  t.equal(text(), 'keyhold: x\n');
});

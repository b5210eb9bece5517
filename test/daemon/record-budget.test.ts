// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { RECORDS_PER_WINDOW_MAX, RecordBudget, WINDOW_MS } from '../../src/daemon/record-budget.js';
import { FakeClock } from '../support/fake-clock.js';

void test('a budget gives a window its records and leaves out the rest', (t) => {
  const budget = new RecordBudget(new FakeClock());
  for (let record = 0; record < RECORDS_PER_WINDOW_MAX; record += 1) t.equal(budget.take(), 0);
  for (let record = 0; record < 5; record += 1) t.equal(budget.take(), undefined);
  t.end();
});

void test('the first record of the next window says how many were left out', async (t) => {
  const clock = new FakeClock();
  const budget = new RecordBudget(clock);
  for (let record = 0; record < RECORDS_PER_WINDOW_MAX + 7; record += 1) budget.take();
  await clock.advance(WINDOW_MS - 1);
  t.equal(budget.take(), undefined);
  await clock.advance(1);
  t.equal(budget.take(), 8);
  t.equal(budget.take(), 0);
});

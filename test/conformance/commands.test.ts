// SPDX-License-Identifier: Apache-2.0
import { t as file, test } from 'tap';
import { emptyRows, flagRows, flushRows, rangeRows, readOnlyRows } from './command-table.js';
import { openSession, runRows } from './run-rows.js';
import { keyhold, keyholdWithTls } from './targets.js';

/* The protocol's table of commands against a real data plane, in clear and through TLS. */

const targets = [await keyhold(file), await keyholdWithTls(file)];
const KINDS = ['simple', 'structured', 'extended'] as const;

for (const { name, writable, readOnly } of targets) {
  for (const replies of KINDS) {
    void test(`${name}, ${replies}: every command with every flag`, async (t) => {
      const session = await openSession(t, writable, replies);
      await runRows(t, session, flagRows(session.on), { texts: true });
      await session.client.disconnect();
    });

    void test(`${name}, ${replies}: every command around the end of the disk`, async (t) => {
      const session = await openSession(t, writable, replies);
      await runRows(t, session, rangeRows(session.on), { texts: true });
      await session.client.disconnect();
    });

    void test(`${name}, ${replies}: a flush that names a range`, async (t) => {
      const session = await openSession(t, writable, replies);
      await runRows(t, session, flushRows(), { texts: true });
      await session.client.disconnect();
    });

    void test(`${name}, ${replies}: every command of length 0`, async (t) => {
      const session = await openSession(t, writable, replies);
      await runRows(t, session, emptyRows(), { texts: true });
      await session.client.disconnect();
    });

    void test(`${name}, ${replies}: every command on a read-only disk`, async (t) => {
      const session = await openSession(t, readOnly, replies);
      await runRows(t, session, readOnlyRows(session.on), { texts: true });
      await session.client.disconnect();
    });
  }
}

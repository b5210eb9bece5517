// SPDX-License-Identifier: Apache-2.0
import { t as file, test } from 'tap';
import { ERRNO } from '../support/nbd-wire.js';
import { emptyRows, flagRows, flushRows, rangeRows, readOnlyRows } from './command-table.js';
import type { Row } from './command-table.js';
import { openSession, runRows } from './run-rows.js';
import { nbdkit, qemuNbd } from './targets.js';

/*
 * The table of commands against servers that others wrote: where they agree with it, it is the
 * protocol's and not our reading of it. Known differences are listed and must stay as they are.
 */

/** qemu 7.2 flattens EPERM and ENOSPC to EINVAL, and does not look at a FLUSH's range. */
function qemuDeviates({ name, allowed }: Row): readonly number[] | undefined {
  const flattened: readonly number[] = [ERRNO.EPERM, ERRNO.ENOSPC];
  if (allowed.length === 1 && flattened.includes(allowed[0] ?? 0)) return [ERRNO.EINVAL];
  return name.startsWith('FLUSH with offset') ? [0] : undefined;
}

const peers = [
  { target: await nbdkit(file), deviates: () => undefined },
  { target: await qemuNbd(file), deviates: qemuDeviates },
];

for (const { target, deviates } of peers) {
  for (const replies of ['simple', 'structured'] as const) {
    void test(`${target.name} answers the table of commands, ${replies}`, async (t) => {
      const session = await openSession(t, target.writable, replies);
      const { on } = session;
      const rows = [...flagRows(on), ...rangeRows(on), ...flushRows(), ...emptyRows()];
      await runRows(t, session, rows, { deviates });
      await session.client.disconnect();
    });

    void test(`${target.name} answers commands on a read-only export, ${replies}`, async (t) => {
      const session = await openSession(t, target.readOnly, replies);
      await runRows(t, session, readOnlyRows(session.on), { deviates });
      await session.client.disconnect();
    });
  }
}

// SPDX-License-Identifier: Apache-2.0
import { t as file, test } from 'tap';
import type { ReplyKind } from '../support/nbd-chunk-rules.js';
import { NbdClient } from '../support/nbd-client.js';
import { CMD, ERRNO, OPT } from '../support/nbd-wire.js';
import { emptyRows, flagRows, flushRows, rangeRows, readOnlyRows } from './command-table.js';
import type { Row } from './command-table.js';
import { openSession, runRows } from './run-rows.js';
import { enter, nbdkit, nbdServer, qemuNbd, SIZE_BYTES, type Target } from './targets.js';

/*
 * The table of commands, and those rows of the list of mistakes (mistakes.test.ts) that a plain
 * connection can show, against servers that others wrote: where they agree, it is the protocol's
 * and not our reading of it. Known differences are listed and must stay as they are.
 */

/** qemu 7.2 flattens EPERM and ENOSPC to EINVAL, and does not look at a FLUSH's range. */
function qemuDeviates({ name, allowed }: Row): readonly number[] | undefined {
  const flattened: readonly number[] = [ERRNO.EPERM, ERRNO.ENOSPC];
  if (allowed.length === 1 && flattened.includes(allowed[0] ?? 0)) return [ERRNO.EINVAL];
  return name.startsWith('FLUSH with offset') ? [0] : undefined;
}

/** nbd-server 3.24 takes NO_HOLE with every command, and does not look at a FLUSH's range. */
function serverDeviates({ name }: Row): readonly number[] | undefined {
  return /^(READ|WRITE|FLUSH|TRIM) with flags 0x2$|^FLUSH with offset/.test(name) ? [0] : undefined;
}

interface Peer {
  readonly target: Target;
  /** With an export of 8 GiB. */
  readonly large: Target;
  readonly kinds: readonly ReplyKind[];
  readonly deviates: (row: Row) => readonly number[] | undefined;
  /** What it makes of the rows of the list. */
  readonly acknowledgesAbort: boolean;
  readonly dropsUnknownFlags: boolean;
  readonly eperm: number;
  readonly enospc: number;
  readonly oversize: number;
}

const LARGE_BYTES = 2 ** 33;
const BOTH_KINDS = ['simple', 'structured'] as const;
const RIGHT = {
  acknowledgesAbort: true,
  dropsUnknownFlags: true,
  eperm: ERRNO.EPERM,
  enospc: ERRNO.ENOSPC,
};

const peers: readonly Peer[] = [
  {
    target: await nbdkit(file),
    large: await nbdkit(file, LARGE_BYTES),
    kinds: BOTH_KINDS,
    deviates: () => undefined,
    ...RIGHT,
    oversize: ERRNO.ENOMEM,
  },
  {
    target: await qemuNbd(file),
    large: await qemuNbd(file, LARGE_BYTES),
    kinds: BOTH_KINDS,
    deviates: qemuDeviates,
    ...RIGHT,
    eperm: ERRNO.EINVAL,
    enospc: ERRNO.EINVAL,
    oversize: ERRNO.EINVAL,
  },
  {
    target: await nbdServer(file),
    large: await nbdServer(file, LARGE_BYTES),
    kinds: ['simple'],
    deviates: serverDeviates,
    ...RIGHT,
    acknowledgesAbort: false,
    dropsUnknownFlags: false,
    oversize: 0,
  },
];

for (const { target, large, kinds, deviates, ...marked } of peers) {
  const { name, writable, readOnly } = target;

  for (const replies of kinds) {
    void test(`${name} answers the table of commands, ${replies}`, async (t) => {
      const session = await openSession(t, writable, replies);
      const { on } = session;
      const rows = [...flagRows(on), ...rangeRows(on), ...flushRows(), ...emptyRows()];
      await runRows(t, session, rows, { deviates });
      await session.client.disconnect();
    });

    void test(`${name} answers commands on a read-only export, ${replies}`, async (t) => {
      const session = await openSession(t, readOnly, replies);
      await runRows(t, session, readOnlyRows(session.on), { deviates });
      await session.client.disconnect();
    });

    void test(`${name}, 1.14 #7: EPERM and ENOSPC, ${replies}`, async (t) => {
      const fixed = await enter(t, readOnly, replies);
      t.equal((await fixed.client.write(0, Buffer.alloc(512))).errno, marked.eperm);
      const { client } = await enter(t, writable, replies);
      t.equal((await client.write(SIZE_BYTES - 1, Buffer.alloc(2))).errno, marked.enospc);
      await client.disconnect();
      await fixed.client.disconnect();
    });

    void test(`${name}, 1.14 #8: a READ beyond the longest payload, ${replies}`, async (t) => {
      const { client } = await enter(t, large.writable, replies);
      t.equal((await client.read(0, 2 ** 26 + 1)).errno, marked.oversize);
      // Behind the data of a READ that is too long, nbd-server sends garbage.
      if (marked.oversize === 0) return;
      for (const length of [2 ** 31, 2 ** 32 - 1]) {
        t.equal((await client.read(0, length)).errno, marked.oversize, `${length} bytes`);
      }
      t.equal((await client.request({ command: CMD.FLUSH })).errno, 0, 'it serves on');
      await client.disconnect();
    });
  }

  void test(`${name}, 1.14 #1: ABORT`, async (t) => {
    const client = await NbdClient.handshake(writable.where);
    t.teardown(() => client.destroy());
    const acknowledged = await client.option(OPT.ABORT).then(
      () => true,
      () => false,
    );
    t.equal(acknowledged, marked.acknowledgesAbort);
  });

  void test(`${name}, 1.14 #2: an unknown client flag`, async (t) => {
    const client = await NbdClient.handshake(writable.where, 0x80000003);
    t.teardown(() => client.destroy());
    const dropped = await client.list().then(
      () => false,
      () => true,
    );
    t.equal(dropped, marked.dropsUnknownFlags);
  });
}

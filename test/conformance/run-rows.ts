// SPDX-License-Identifier: Apache-2.0
import type { Test } from 'tap';
import type { ReplyKind } from '../support/nbd-chunk-rules.js';
import type { Circumstances, Row } from './command-table.js';
import { enter, type Entered, type Place } from './targets.js';

export interface Session extends Entered {
  readonly on: Circumstances;
}

export async function openSession(t: Test, place: Place, replies: ReplyKind): Promise<Session> {
  const entered = await enter(t, place, replies);
  const on = { replies, advertised: entered.facts.flags, hasContext: replies !== 'simple' };
  return { ...entered, on };
}

export interface Strictness {
  /** What a server is known to answer although the table has another. */
  readonly deviates?: (row: Row) => readonly number[] | undefined;
  /** Where replies can carry a text, an error must have one. */
  readonly texts?: boolean;
}

/** Sends each row and compares; the client itself checks every rule of the replies. */
export async function runRows(
  t: Test,
  { client, on }: Session,
  rows: readonly Row[],
  { deviates, texts = false }: Strictness = {},
): Promise<void> {
  for (const row of rows) {
    const reply = await client.request(row.request);
    const allowed = deviates?.(row) ?? row.allowed;
    const wantsText = texts && reply.errno !== 0 && on.replies !== 'simple';
    const saysWhy = !wantsText || (reply.message ?? '') !== '';
    const right = allowed.includes(reply.errno) && saysWhy;
    const got = `errno ${reply.errno} "${reply.message ?? ''}"`;
    t.ok(right, right ? row.name : `${row.name}: ${got}, allowed ${allowed.join(' or ')}`);
  }
  t.equal((await client.read(0, 512)).errno, 0, 'the connection serves on');
}

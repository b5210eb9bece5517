// SPDX-License-Identifier: Apache-2.0
import type { AdminClient } from '../../admin/client.js';
import type { CliIo } from '../io.js';
import type { Share } from './draw.js';
import { showProgress, type Task } from './progress.js';

type Tasks = {
  readonly [K in keyof AdminClient]?: (
    client: AdminClient,
    ...args: Parameters<AdminClient[K]>
  ) => Task;
};

const about =
  (verb: string) =>
  (_client: AdminClient, name: string): Task => ({ doing: `${verb} ${name}` });

const onNewKey =
  (verb: string) =>
  (client: AdminClient, name: string): Task => ({
    doing: `${verb} ${name}`,
    look: () => rewrapped(client, name),
  });

/** What each call is, in the words of the person who waits. Streams and live views have none. */
const TASKS: Tasks = {
  status: () => ({ doing: 'asking the daemon' }),
  listSets: () => ({ doing: 'listing sets' }),
  listDisks: () => ({ doing: 'listing disks' }),
  showSet: about('reading the headers of set'),
  createSet: (_client, { name }) => ({
    doing: `creating set ${name}: wrapping a set key, and proving it by a remote unwrap`,
  }),
  updateSet: about('changing set'),
  checkSet: about('probing the keys of set'),
  rotateSet: onNewKey('rewrapping set'),
  assignKey: onNewKey('assigning a key to set'),
  purgeSet: (client, name) => ({ doing: `purging set ${name}`, look: () => erased(client, name) }),
  createDisk: (_client, { name }) => ({ doing: `creating disk ${name}` }),
  attachDisk: about('attaching disk'),
  detachDisk: about('detaching disk'),
  restartDisk: about('restarting disk'),
  moveDisk: about('moving disk'),
  eraseDisk: about('erasing disk'),
  deleteDisk: about('deleting disk'),
  deleteSet: about('deleting set'),
  beginDrill: about('beginning a drill of set'),
  endDrill: about('ending the drill of set'),
  verifyAudit: () => ({ doing: 'verifying the audit log' }),
  exportAudit: () => ({ doing: 'checking the audit log first' }),
  doctor: (_client, { set, key }) => ({
    doing: `examining ${set === undefined ? (key ?? 'the host and every set') : `set ${set}`}`,
  }),
};

/** The same client, whose calls show that they go on when they take long. */
export function withProgress(io: CliIo, client: AdminClient): AdminClient {
  // The table's type says that arguments and method fit; TypeScript cannot follow it by a name.
  type Call = (...args: unknown[]) => Promise<unknown>;
  const calls = client as unknown as Readonly<Record<string, Call>>;
  const shown = Object.entries(TASKS).map(([name, taskOf]) => {
    const describe = taskOf as (client: AdminClient, ...args: unknown[]) => Task;
    const call: Call = (...args) => {
      const work = (): Promise<unknown> => calls[name]?.(...args) ?? Promise.resolve();
      return showProgress(io.stderr, describe(client, ...args), work);
    };
    return [name, call] as const;
  });
  return { ...client, ...(Object.fromEntries(shown) as Partial<AdminClient>) };
}

/** Headers that name the newest version of the set's keys already. */
async function rewrapped(client: AdminClient, name: string): Promise<Share | undefined> {
  const { disks, keys } = await client.showSet(name);
  const current = keys.find(({ role }) => role === 'current');
  const done = current?.dependents?.length;
  return done === undefined ? undefined : { done, total: disks.length, unit: 'headers' };
}

async function erased(client: AdminClient, name: string): Promise<Share> {
  const disks = (await client.listDisks()).filter(({ set }) => set === name);
  const done = disks.filter(({ reason }) => reason === 'erased').length;
  return { done, total: disks.length, unit: 'disks' };
}

// SPDX-License-Identifier: Apache-2.0
import { loadAddon } from '../src/dataplane/load.js';
import { NbdClient } from '../test/support/nbd-client.js';
import { CMD, OPT } from '../test/support/nbd-wire.js';
import { cpuSecondsOf } from './cpu.js';
import { median } from './statistics.js';
import {
  countsOf,
  type Fact,
  forEach,
  KEY,
  type Memory,
  memoryOf,
  ScaleHost,
  SET,
  startedMs,
  timeGet,
} from './scale-host.js';

const DISK_BYTES = 1024 * 1024;
const BLOCK_BYTES = 4096;
/** Connections at once of those that use disks, far from the limit on their number. */
const CLIENTS = 32;
/** Commands under way at once: a host's orchestration, not one operator. */
const AT_ONCE = 64;
/** Until the collector has been and buffers have been given back. */
const SETTLE_MS = 3000;
const TRIALS = 3;

/** What so many disks of one set cost. Times in ms. */
export interface ScalePoint {
  readonly disks: number;
  readonly createMs: number;
  /** First attach command to the last answer, daemon just started, set key not yet unwrapped. */
  readonly attachMs: number;
  /** Unwraps that the vault saw meanwhile. */
  readonly attachUnwraps: number;
  /** Start of the daemon's process to the last disk online. */
  readonly restartMs: number;
  /** Of these one is the probe. */
  readonly restartUnwraps: number;
  readonly idle: Memory;
  readonly maps: number;
  readonly lockedBytes: number;
  readonly scrapeMs: number;
  readonly scrapeCpuMs: number;
  readonly scrapeBytes: number;
  /** After every disk has answered every command: no page is larger. */
  readonly busyScrapeMs: number;
  readonly busyScrapeCpuMs: number;
  readonly busyScrapeBytes: number;
  readonly listMs: number;
  readonly listBytes: number;
  /** The vault's answer reached the daemon, to the last key wiped; to the last disk drained. */
  readonly revokeWipedMs: number;
  readonly revokeDrainedMs: number;
  /** The last disk's receipt in the audit log, after the same answer. */
  readonly revokeRecordedMs: number;
  /** The key enabled again, to the last disk online. */
  readonly healMs: number;
  readonly auditFailures: number;
}

export interface ConnectionCost {
  readonly disks: number;
  readonly connections: number;
  readonly before: Memory;
  /** Connected, before the first request. */
  readonly idle: Memory;
  /** After each has read and written 1 MiB and been quiet again. */
  readonly used: Memory;
  readonly scrapeMs: number;
  readonly listMs: number;
}

export type Note = (line: string) => void;

const addon = loadAddon();

const diskName = (index: number): string => `disk-${String(index).padStart(5, '0')}`;

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

/** A host of its own with `disks` disks, measured and removed again. */
export async function measurePoint(
  disks: number,
  note: Note,
  withConnections?: (host: ScaleHost) => Promise<void>,
): Promise<ScalePoint> {
  const host = await ScaleHost.start();
  try {
    note(`${disks} disks: create`);
    const createMs = await timed(() =>
      forEach(disks, AT_ONCE, (index) =>
        host.admin.createDisk({ name: diskName(index), set: SET, sizeBytes: DISK_BYTES }),
      ),
    );
    note(`${disks} disks: attach`);
    const attached = await measureAttach(host, disks);
    note(`${disks} disks: restart`);
    const restarted = await measureRestart(host, disks);
    await settle();
    const { pid } = await host.admin.status();
    const facts = { idle: await memoryOf(pid), ...(await countsOf(pid)) };
    note(`${disks} disks: scrape, list`);
    const asked = await measureQuestions(host);
    await withConnections?.(host);
    note(`${disks} disks: every command on every one, scrape`);
    const busy = await measureBusyScrape(host, disks);
    note(`${disks} disks: revoke, heal`);
    const revoked = await measureRevocation(host, disks);
    return { disks, createMs, ...attached, ...restarted, ...facts, ...asked, ...busy, ...revoked };
  } finally {
    await host.stop();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

async function measureAttach(
  host: ScaleHost,
  disks: number,
): Promise<Pick<ScalePoint, 'attachMs' | 'attachUnwraps'>> {
  await host.restart();
  await host.granted();
  const startedAt = Date.now();
  const attachMs = await timed(() =>
    forEach(disks, AT_ONCE, (index) => host.admin.attachDisk(diskName(index))),
  );
  return { attachMs, attachUnwraps: await host.unwrapsSince(startedAt) };
}

async function measureRestart(
  host: ScaleHost,
  disks: number,
): Promise<Pick<ScalePoint, 'restartMs' | 'restartUnwraps'>> {
  await host.stack.stopDev();
  const offset = await host.auditLengthBytes();
  const beganMs = Date.now();
  await host.stack.startDev();
  await host.disksAre('online', disks);
  const { pid } = await host.admin.status();
  const online = await changesTo(host, { offset, state: 'online', disks });
  return {
    restartMs: Math.max(...online) - (await startedMs(pid)),
    restartUnwraps: await host.unwrapsSince(beganMs),
  };
}

/** Wall times at which disks went into a state, when all are on record in the audit log. */
async function changesTo(
  host: ScaleHost,
  { offset, state, disks }: { offset: number; state: string; disks: number },
): Promise<number[]> {
  const facts = await allOnRecord(host, {
    offset,
    count: disks,
    wanted: (fact) => fact.kind === 'disk-state' && fact['state'] === state,
  });
  return facts.map(({ time }) => Date.parse(time));
}

/** A record may follow what it tells of. */
async function allOnRecord(
  host: ScaleHost,
  options: { offset: number; count: number; wanted: (fact: Fact) => boolean },
): Promise<Fact[]> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const facts = (await host.auditSince(options.offset)).filter(options.wanted);
    if (facts.length === options.count) return facts;
    if (Date.now() > deadline) {
      throw new Error(`${facts.length} of ${options.count} records are in the audit log`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function measureBusyScrape(
  host: ScaleHost,
  disks: number,
): Promise<Pick<ScalePoint, 'busyScrapeMs' | 'busyScrapeCpuMs' | 'busyScrapeBytes'>> {
  await forEach(disks, CLIENTS, (index) => useEveryCommand(host, diskName(index)));
  const { ms, cpuMs, bytes } = await scrape(host);
  return { busyScrapeMs: ms, busyScrapeCpuMs: cpuMs, busyScrapeBytes: bytes };
}

/** One of each, so that the disk has every series that it can have. */
async function useEveryCommand(host: ScaleHost, disk: string): Promise<void> {
  const client = await NbdClient.handshake({ path: host.stack.nbdSocket });
  try {
    await client.option(OPT.STRUCTURED_REPLY);
    await client.setMetaContext(disk);
    await client.go(disk);
    const range = { offset: 0, length: BLOCK_BYTES };
    const payload = Buffer.alloc(BLOCK_BYTES, 1);
    for (const command of [CMD.READ, CMD.TRIM, CMD.WRITE_ZEROES, CMD.CACHE, CMD.BLOCK_STATUS]) {
      await client.request({ command, ...range });
    }
    await client.request({ command: CMD.WRITE, offset: 0, payload });
    await client.request({ command: CMD.FLUSH, offset: 0, length: 0 });
  } finally {
    client.destroy();
  }
}

/** `cpuMs`: of the daemon's processor time, which other programs on the host do not change. */
async function scrape(host: ScaleHost): Promise<{ ms: number; cpuMs: number; bytes: number }> {
  const { metrics: url, pid } = await host.admin.status();
  if (url === null) throw new Error('the daemon serves no metrics');
  const beforeSeconds = await cpuSecondsOf(pid);
  const scrapes = await repeated(() => timeGet({ url }));
  const usedSeconds = (await cpuSecondsOf(pid)) - beforeSeconds;
  return {
    ms: median(scrapes.map(({ ms }) => ms)),
    cpuMs: (usedSeconds * 1000) / TRIALS,
    bytes: median(scrapes.map(({ bytes }) => bytes)),
  };
}

async function measureQuestions(
  host: ScaleHost,
): Promise<Pick<ScalePoint, 'scrapeMs' | 'scrapeCpuMs' | 'scrapeBytes' | 'listMs' | 'listBytes'>> {
  const { ms, cpuMs, bytes } = await scrape(host);
  const where = { socketPath: host.stack.adminSocket, path: '/v1/disks' };
  const lists = await repeated(() => timeGet(where));
  return {
    scrapeMs: ms,
    scrapeCpuMs: cpuMs,
    scrapeBytes: bytes,
    listMs: median(lists.map(({ ms }) => ms)),
    listBytes: median(lists.map(({ bytes }) => bytes)),
  };
}

async function repeated<T>(work: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let trial = 0; trial < TRIALS; trial += 1) results.push(await work());
  return results;
}

async function measureRevocation(
  host: ScaleHost,
  disks: number,
): Promise<
  Pick<
    ScalePoint,
    'revokeWipedMs' | 'revokeDrainedMs' | 'revokeRecordedMs' | 'healMs' | 'auditFailures'
  >
> {
  const offset = await host.auditLengthBytes();
  const clockOffsetMs = wallMinusBootMs();
  await host.vault.disableKey(KEY);
  await host.admin.checkSet(SET);
  await host.disksAre('offline', disks);
  const receipts = await allOnRecord(host, {
    offset,
    count: disks,
    wanted: ({ kind }) => kind === 'offline-receipt',
  });
  const answeredMs = Math.min(...receipts.map((fact) => Number(fact['verdictReceivedBootMs'])));
  const after = (field: string): number =>
    Math.max(...receipts.map((fact) => Number(fact[field]))) - answeredMs;
  const recordedMs = Math.max(...receipts.map(({ time }) => Date.parse(time)));
  const healOffset = await host.auditLengthBytes();
  const healedAt = Date.now();
  await host.vault.enableKey(KEY);
  await host.admin.checkSet(SET);
  await host.disksAre('online', disks);
  const online = await changesTo(host, { offset: healOffset, state: 'online', disks });
  return {
    revokeWipedMs: after('keyWipedBootMs'),
    revokeDrainedMs: after('drainedBootMs'),
    revokeRecordedMs: recordedMs - clockOffsetMs - answeredMs,
    healMs: Math.max(...online) - healedAt,
    auditFailures: (await host.admin.status()).alarms.length,
  };
}

/** The daemon's records have wall time, its receipts boot time. */
function wallMinusBootMs(): number {
  return Date.now() - addon.bootTimeMs();
}

/** What connections cost on a host whose disks are online. */
export async function measureConnections(
  host: ScaleHost,
  disks: number,
  connections: number,
): Promise<ConnectionCost> {
  const { pid } = await host.admin.status();
  const before = await memoryOf(pid);
  const clients: NbdClient[] = [];
  try {
    for (let index = 0; index < connections; index += 1) {
      const client = await NbdClient.handshake({ path: host.stack.nbdSocket });
      clients.push(client);
      await client.go(diskName(index % disks));
    }
    await settle();
    const idle = await memoryOf(pid);
    const payload = Buffer.alloc(DISK_BYTES, 1);
    for (const client of clients) {
      await client.request({ command: CMD.WRITE, offset: 0, payload });
      await client.request({ command: CMD.READ, offset: 0, length: DISK_BYTES });
    }
    await settle();
    const used = await memoryOf(pid);
    const { scrapeMs, listMs } = await measureQuestions(host);
    return { disks, connections, before, idle, used, scrapeMs, listMs };
  } finally {
    for (const client of clients) client.socket.destroy();
  }
}

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stdout } from 'node:process';
import { parseArgs } from 'node:util';
import { addon, Rig } from '../test/dataplane/rig.js';
import { endProcess } from '../test/support/process.js';
import { type Fact, KEY, ScaleHost, SET } from './scale-host.js';

const HELP = `usage: npm run bench:revocation -- [--json] [--cycles N] [--seconds S] [--wipes N]

How long a revoked key outlives the vault's answer while four connections read and write 128 KiB at
random, 16 requests each. First through the real daemon, at most N cycles (200) of disable, check,
enable, check, for at most S seconds (110); then native code alone, N (1000) times. Times are of CLOCK_BOOTTIME:

  answer    the denial that confirms has arrived: the HTTP answer's last byte, as the daemon's
            transport hands it over, before anything has looked at it
  wiped     no cipher call is running and the key has been zeroed
  drained   every request under way is answered, nothing of the disk is in the daemon's buffers
`;

const DISK_BYTES = 256 * 1024 * 1024;
const CONNECTIONS = 4;
/** The load runs at its full rate this long before each cut. */
const LOAD_MS = 150;
/** Requests that must have been answered since the last unlock before the next wipe. */
const WARM_REQUESTS = 200;

interface Distribution {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

function distribution(valuesMs: readonly number[]): Distribution {
  const sorted = [...valuesMs].sort((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  return { count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
}

function startLoad(socket: string): ChildProcess {
  const program = new URL('./revocation-load.ts', import.meta.url).pathname;
  const loader = new URL('../node_modules/@tapjs/typescript/dist/esm/import.mjs', import.meta.url);
  const args = [program, socket, 'bench', String(DISK_BYTES), String(CONNECTIONS)];
  return spawn(process.execPath, ['--import', loader.href, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks without a pause of 50 ms in between, which would be most of a cycle. */
async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within 30 s: ${what}`);
    await pause(2);
  }
}

interface Cycle {
  readonly wipedMs: number;
  readonly drainedMs: number;
  /** From the vault's own record of its answer; both clocks have milliseconds there. */
  readonly vaultToWipedMs: number;
}

/** The whole way: vault, probe, verdict, disk, receipt. */
async function measureDaemon(dir: string, cyclesMax: number, seconds: number): Promise<Cycle[]> {
  const host = await ScaleHost.start();
  const cycles: Cycle[] = [];
  let load: ChildProcess | undefined;
  try {
    const store = join(dir, 'daemon.img');
    await host.admin.createDisk({ name: 'bench', set: SET, sizeBytes: DISK_BYTES, store });
    await host.admin.attachDisk('bench');
    load = startLoad(host.stack.nbdSocket);
    await until('the load is connected', async () => {
      return (await host.admin.showDisk('bench')).clients === CONNECTIONS;
    });
    const deadline = Date.now() + seconds * 1000;
    while (cycles.length < cyclesMax && Date.now() < deadline) {
      await pause(LOAD_MS);
      cycles.push(await cut(host));
      if (cycles.length % 20 === 0) process.stderr.write(`daemon: ${cycles.length} cycles\n`);
    }
  } finally {
    if (load !== undefined) await endProcess(load, 'SIGTERM');
    await host.stop();
  }
  return cycles;
}

async function cut(host: ScaleHost): Promise<Cycle> {
  const offset = await host.auditLengthBytes();
  const wallMinusBootMs = Date.now() - addon.bootTimeMs();
  await host.vault.disableKey(KEY);
  await host.admin.checkSet(SET);
  let receipt: Fact | undefined;
  await until('the receipt is in the audit log', async () => {
    const facts = await host.auditSince(offset);
    receipt = facts.find(({ kind }) => kind === 'offline-receipt');
    return receipt !== undefined;
  });
  const answer = (await host.vault.log({ limit: 20 })).findLast(({ status }) => status === 403);
  await host.vault.enableKey(KEY);
  await host.admin.checkSet(SET);
  await until('the disk is online', async () => {
    return (await host.admin.showDisk('bench')).state === 'online';
  });
  return cycleOf(receipt, Date.parse(answer?.time ?? '') + (answer?.durationMs ?? 0), {
    wallMinusBootMs,
  });
}

function cycleOf(
  receipt: Fact | undefined,
  answeredWallMs: number,
  { wallMinusBootMs }: { wallMinusBootMs: number },
): Cycle {
  const time = (field: string): number => Number(receipt?.[field]);
  if (receipt?.['connections'] !== CONNECTIONS) {
    throw new Error(`${String(receipt?.['connections'])} connections, expected ${CONNECTIONS}`);
  }
  return {
    wipedMs: time('keyWipedBootMs') - time('verdictReceivedBootMs'),
    drainedMs: time('drainedBootMs') - time('verdictReceivedBootMs'),
    vaultToWipedMs: time('keyWipedBootMs') - (answeredWallMs - wallMinusBootMs),
  };
}

/** Native code alone: a wipe is ordered, to the end of the last cipher call and the zeroed key. */
async function measureNative(dir: string, wipes: number): Promise<number[]> {
  const rig = new Rig(dir, { shards: 2 });
  const times: number[] = [];
  let load: ChildProcess | undefined;
  try {
    const served = await rig.serve('bench', { sizeBytes: DISK_BYTES });
    const { path } = rig.listen() as { path: string };
    load = startLoad(path);
    await until('the load is connected', () => served.disk.clients().length === CONNECTIONS);
    const answered = (): number => {
      const { read, write } = served.disk.stats().commands;
      return (read?.requestsOk ?? 0) + (write?.requestsOk ?? 0);
    };
    while (times.length < wipes) {
      const before = answered();
      await until('the load runs', () => answered() > before + WARM_REQUESTS);
      const orderedMs = addon.bootTimeMs();
      served.lease.end();
      const { keyWipedBootMs } = await served.disk.goOffline();
      times.push(keyWipedBootMs - orderedMs);
      served.lease.renew(addon.bootTimeMs(), 600_000);
      served.unlock();
      if (times.length % 200 === 0) process.stderr.write(`native: ${times.length} wipes\n`);
    }
  } finally {
    if (load !== undefined) await endProcess(load, 'SIGTERM');
    await rig.plane.stop();
  }
  return times;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      cycles: { type: 'string', default: '200' },
      seconds: { type: 'string', default: '110' },
      wipes: { type: 'string', default: '1000' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    stdout.write(HELP);
    return;
  }
  const dir = await mkdtemp('/dev/shm/keyhold-bench-');
  try {
    const cycles = await measureDaemon(dir, Number(values.cycles), Number(values.seconds));
    const wipes = await measureNative(dir, Number(values.wipes));
    const rows = {
      'daemon: answer to wiped': distribution(cycles.map(({ wipedMs }) => wipedMs)),
      'daemon: answer to drained': distribution(cycles.map(({ drainedMs }) => drainedMs)),
      'daemon: vault ended its answer to wiped': distribution(
        cycles.map(({ vaultToWipedMs }) => vaultToWipedMs),
      ),
      'native: wipe ordered to wiped': distribution(wipes),
    };
    stdout.write(values.json ? `${JSON.stringify(rows, null, 2)}\n` : table(rows));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

function table(rows: Readonly<Record<string, Distribution>>): string {
  const lines = Object.entries(rows).map(([name, { count, p50Ms, p99Ms, maxMs }]) => {
    const cells = [p50Ms, p99Ms, maxMs].map((ms) => ms.toFixed(3));
    return `| ${[name, count, ...cells].join(' | ')} |`;
  });
  const head = ['| from … to | times | p50, ms | p99 | max |', '|---|---|---|---|---|'];
  return `${[...head, ...lines].join('\n')}\n`;
}

await main();

// SPDX-License-Identifier: Apache-2.0
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stdout } from 'node:process';
import { parseArgs } from 'node:util';
import { renderLogLog, type Series } from './scale-plot.js';
import {
  type ConnectionCost,
  measureConnections,
  measurePoint,
  type ScalePoint,
} from './scale-run.js';

const HELP = `usage: npm run bench:scale -- [--quick] [--json] [--disks N,N,…] [--plots DIR]

What 1, 10, 100, 1000 and 10000 disks of one encryption set cost: time to attach, to restart the
daemon, to scrape its metrics, to list its disks, to revoke the set; memory. Real daemon, embedded
vault, thin stores of 1 MiB in the temporary directory. --quick stops at 1000 disks and draws
nothing. Plots go to bench/plots.
`;

const COUNTS = [1, 10, 100, 1000, 10_000];
const QUICK_MAX = 1000;
/** Where the goal for memory is set. */
const GOAL_DISKS = 1000;
const CONNECTIONS = 100;
const MIB = 1024 * 1024;

const PLOTS: ReadonlyArray<{
  readonly file: string;
  readonly title: string;
  readonly unit: string;
  readonly series: ReadonlyArray<readonly [name: string, value: (point: ScalePoint) => number]>;
}> = [
  {
    file: 'scale-time.svg',
    title: 'Time by number of disks',
    unit: 's',
    series: [
      ['restart to all online', (point) => point.restartMs / 1000],
      ['attach', (point) => point.attachMs / 1000],
      ['metrics scrape', (point) => point.scrapeMs / 1000],
      ['disk list', (point) => point.listMs / 1000],
      ['revocation: last key wiped', (point) => point.revokeWipedMs / 1000],
    ],
  },
  {
    file: 'scale-memory.svg',
    title: 'Memory by number of disks',
    unit: 'MiB',
    series: [
      ['RSS', (point) => point.idle.rssBytes / MIB],
      ['PSS', (point) => point.idle.pssBytes / MIB],
    ],
  },
];

const ROWS: ReadonlyArray<readonly [name: string, cell: (point: ScalePoint) => string]> = [
  ['attach all, s', (point) => seconds(point.attachMs)],
  ['… vault calls', (point) => String(point.attachUnwraps)],
  ['restart to all online, s', (point) => seconds(point.restartMs)],
  ['… vault calls (one is the probe)', (point) => String(point.restartUnwraps)],
  ['RSS, MiB', (point) => mebibytes(point.idle.rssBytes)],
  ['PSS, MiB', (point) => mebibytes(point.idle.pssBytes)],
  ['memory mappings', (point) => String(point.maps)],
  ['metrics scrape, ms', (point) => point.scrapeMs.toFixed(1)],
  ['… processor time, ms', (point) => point.scrapeCpuMs.toFixed(0)],
  ['… size, MiB', (point) => (point.scrapeBytes / MIB).toFixed(2)],
  ['… once every disk has answered every command, ms', (point) => point.busyScrapeMs.toFixed(1)],
  ['… processor time then, ms', (point) => point.busyScrapeCpuMs.toFixed(0)],
  ['… size then, MiB', (point) => (point.busyScrapeBytes / MIB).toFixed(2)],
  ['disk list, ms', (point) => point.listMs.toFixed(1)],
  ['revocation: last key wiped, ms', (point) => point.revokeWipedMs.toFixed(2)],
  ['… last disk drained, ms', (point) => point.revokeDrainedMs.toFixed(1)],
  ['… last receipt durable, ms', (point) => point.revokeRecordedMs.toFixed(0)],
  ['heal: key enabled to all online, s', (point) => seconds(point.healMs)],
  ['create all, s', (point) => seconds(point.createMs)],
  ['audit records lost', (point) => String(point.auditFailures)],
];

const seconds = (ms: number): string => (ms / 1000).toFixed(2);
const mebibytes = (bytes: number): string => (bytes / MIB).toFixed(0);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      disks: { type: 'string' },
      plots: { type: 'string', default: new URL('./plots/', import.meta.url).pathname },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    stdout.write(HELP);
    return;
  }
  const counts = values.disks?.split(',').map(Number) ?? COUNTS;
  const points: ScalePoint[] = [];
  let cost: ConnectionCost | undefined;
  const note = (line: string): void => void process.stderr.write(`${line}\n`);
  for (const disks of counts.filter((count) => !values.quick || count <= QUICK_MAX)) {
    const point = await measurePoint(disks, note, async (host) => {
      if (disks !== GOAL_DISKS) return;
      note(`${disks} disks: ${CONNECTIONS} connections`);
      cost = await measureConnections(host, disks, CONNECTIONS);
    });
    points.push(point);
    note(JSON.stringify(point)); // so that a run that is cut short has not been for nothing
  }
  stdout.write(values.json ? `${JSON.stringify({ points, cost }, null, 2)}\n` : table(points));
  if (!values.json && cost !== undefined) stdout.write(connectionText(cost));
  if (!values.quick) await draw(values.plots, points);
}

function table(points: readonly ScalePoint[]): string {
  const head = `| disks | ${points.map(({ disks }) => disks).join(' | ')} |`;
  const rule = `|---|${'---|'.repeat(points.length)}`;
  const rows = ROWS.map(([name, cell]) => `| ${name} | ${points.map(cell).join(' | ')} |`);
  return `${[head, rule, ...rows].join('\n')}\n`;
}

function connectionText(cost: ConnectionCost): string {
  const { disks, connections, before, idle, used } = cost;
  const each = (after: number): string =>
    `${((after - before.rssBytes) / connections / 1024).toFixed(0)} KiB each`;
  return (
    `\n${disks} disks and ${connections} connections: RSS ${mebibytes(idle.rssBytes)} MiB idle ` +
    `(${each(idle.rssBytes)}), ${mebibytes(used.rssBytes)} MiB after 1 MiB written and read on ` +
    `every one (${each(used.rssBytes)}); scrape ${cost.scrapeMs.toFixed(1)} ms, ` +
    `list ${cost.listMs.toFixed(1)} ms\n`
  );
}

async function draw(directory: string, points: readonly ScalePoint[]): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const { file, title, unit, series } of PLOTS) {
    const lines = series.map(([name, value]): Series => ({
      name,
      points: points.map((point) => ({ x: point.disks, y: value(point) })),
    }));
    const svg = renderLogLog(lines, { title, xLabel: 'disks', yLabel: unit });
    await writeFile(join(directory, file), svg);
  }
}

await main();

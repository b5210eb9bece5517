// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stderr, stdout } from 'node:process';
import { parseArgs } from 'node:util';
import { type DashboardPanel, filledIn, readDashboard } from '../test/support/dashboard.js';
import { MONITORING, Prometheus, type Series } from '../test/support/prometheus.js';
import { Stack } from '../test/support/stack.js';
import { VaryingLoad } from './dashboard-load.js';
import { renderDashboard, type Span, type TimePanel, type TimeSeries } from './dashboard-plot.js';

const HELP = `usage: npm run bench:dashboard -- [--output FILE]

Draws the main panels of docs/monitoring/dashboard.json over a real run of three minutes: the real
daemon with three disks in two sets, a load that comes and goes, a real Prometheus, the dashboard's
own queries. In the middle the key of one set is disabled and enabled again; later the vault does
not answer for a while. Goes to docs/monitoring/dashboard.svg.
`;

const DISK_BYTES = 64 * 1024 * 1024;
const RUN_SECONDS = 180;
/** What Grafana puts for $__rate_interval at a scrape every second is 4 s; this is smoother. */
const RATE_INTERVAL = '10s';
const SHOWN = [
  ...['Throughput', 'IOPS', 'Latency', 'In flight', 'Disks by state', 'Errors'],
  ...['Lease left', 'Probe verdicts', 'Revocation receipts'],
  ...['Shard utilisation', 'Vault budget', 'Time from verdict to wiped key'],
];

/** Of each disk its set, and how its load goes up and down. */
const DISKS = [
  { name: 'db01', set: 'prod', peak: 1500, periodSeconds: 75 },
  { name: 'db02', set: 'prod', peak: 700, periodSeconds: 45 },
  { name: 'web01', set: 'staging', peak: 500, periodSeconds: 60 },
] as const;

/** Seconds since the start of the run. */
const DISABLED_AT = 60;
const ENABLED_AT = 85;
const SILENT_AT = 115;
const ANSWERS_AT = 145;

const RED = '#d55e00';
const AMBER = '#e69f00';

const note = (line: string): void => void stderr.write(`${line}\n`);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      output: { type: 'string', default: join(MONITORING, 'dashboard.svg') },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    stdout.write(HELP);
    return;
  }
  const stack = await Stack.start();
  try {
    await prepare(stack);
    const { metrics: target } = await stack.admin.status();
    if (target === null) throw new Error('the daemon serves no metrics');
    const prometheus = await Prometheus.start({ target, interval: '1s' });
    try {
      await writeFile(values.output, await measure(stack, prometheus));
      note(`wrote ${values.output}`);
    } finally {
      await prometheus.stop();
    }
  } finally {
    await stack.stop();
  }
}

async function prepare(stack: Stack): Promise<void> {
  await stack.ok('set', 'delete', 'demo'); // its lease is another one and flattens the panel
  const times = ['--probe-interval', '5s', '--lease', '60s'];
  for (const set of ['prod', 'staging']) {
    await stack.ok('vault', 'key', 'create', `${set}-key`);
    const url = await stack.keyUrl(`${set}-key`);
    await stack.ok('set', 'create', set, '--key', url, ...times);
  }
  for (const { name, set } of DISKS) {
    await stack.ok('disk', 'create', name, '--set', set, '--size', String(DISK_BYTES));
    await stack.ok('disk', 'attach', name);
  }
}

async function measure(stack: Stack, prometheus: Prometheus): Promise<string> {
  const loads = DISKS.map(
    ({ name, peak, periodSeconds }) =>
      new VaryingLoad({
        path: stack.nbdSocket,
        disk: name,
        sizeBytes: DISK_BYTES,
        lanes: 4,
        ratePerSecond: (seconds) =>
          peak * (0.55 - 0.45 * Math.cos((2 * Math.PI * seconds) / periodSeconds)),
      }),
  );
  // Rates look back: the picture begins when they have something to look at.
  await new Promise((resolve) => setTimeout(resolve, 8000));
  const startMs = Date.now();
  const at = async (seconds: number): Promise<number> => {
    await new Promise((resolve) =>
      setTimeout(resolve, Math.max(0, startMs + seconds * 1000 - Date.now())),
    );
    return (Date.now() - startMs) / 1000;
  };
  const spans: Span[] = [];
  const during = async (
    span: Omit<Span, 'from' | 'to'>,
    [from, begin]: readonly [number, () => Promise<unknown>],
    [to, end]: readonly [number, () => Promise<unknown>],
  ): Promise<void> => {
    const began = await at(from);
    await begin();
    note(`${began.toFixed(0)} s: ${span.label}`);
    const ended = await at(to);
    await end();
    spans.push({ ...span, from: began, to: ended });
  };
  await during(
    { label: 'key of set prod disabled in the vault, and enabled again', colour: RED },
    [DISABLED_AT, () => stack.vault.disableKey('prod-key')],
    [ENABLED_AT, () => stack.vault.enableKey('prod-key')],
  );
  await during(
    { label: 'vault does not answer', colour: AMBER },
    [SILENT_AT, () => stack.ok('vault', 'trouble', 'hang')],
    [ANSWERS_AT, () => stack.ok('vault', 'trouble', 'none')],
  );
  await at(RUN_SECONDS);
  const panels = await readPanels(prometheus, startMs / 1000);
  await Promise.all(loads.map((load) => load.stop()));
  const title = 'Keyhold: three disks, a revocation and an outage of the vault';
  return renderDashboard(title, panels, { seconds: RUN_SECONDS, spans });
}

async function readPanels(prometheus: Prometheus, start: number): Promise<TimePanel[]> {
  const { panels } = await readDashboard();
  const result: TimePanel[] = [];
  for (const title of SHOWN) {
    const panel = panels.find((one) => one.title === title);
    if (panel === undefined) throw new Error(`the dashboard has no panel ${title}`);
    result.push({ title, ...look(panel), series: await readSeries(prometheus, panel, start) });
  }
  return result;
}

async function readSeries(
  prometheus: Prometheus,
  { targets }: DashboardPanel,
  start: number,
): Promise<TimeSeries[]> {
  const series: TimeSeries[] = [];
  for (const { expr, legendFormat } of targets) {
    const range = { start, end: start + RUN_SECONDS, step: 1 };
    for (const one of await prometheus.queryRange(filledIn(expr, RATE_INTERVAL), range)) {
      const points = one.points
        .filter(([, value]) => Number.isFinite(value))
        .map(([seconds, value]) => [seconds - start, value] as const);
      if (points.length > 0) series.push({ name: nameOf(one, legendFormat), points });
    }
  }
  // What was zero all the time is only in the way of the legend of the others.
  const moving = series.filter(({ points }) => points.some(([, value]) => value !== 0));
  return moving.length > 0 ? moving : series;
}

function nameOf({ metric }: Series, legendFormat: string): string {
  return legendFormat
    .replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? '')
    .replaceAll(/127\.0\.0\.1:\d+ ?/g, '');
}

/** How Grafana is told to draw a panel. */
function look({ fieldConfig }: DashboardPanel): Omit<TimePanel, 'title' | 'series'> {
  const {
    unit,
    min,
    max,
    decimals,
    custom = {},
  } = fieldConfig.defaults as {
    unit: string;
    min?: number;
    max?: number;
    decimals?: number;
    custom?: {
      drawStyle?: string;
      lineInterpolation?: string;
      stacking?: { mode: string };
      scaleDistribution?: { type: string };
    };
  };
  const isSteps = custom.lineInterpolation === 'stepAfter';
  const style = custom.drawStyle === 'points' ? 'points' : isSteps ? 'steps' : 'line';
  return {
    unit,
    min,
    max,
    whole: decimals === 0,
    log: custom.scaleDistribution?.type === 'log',
    style: custom.stacking?.mode === 'normal' ? 'stacked' : style,
  };
}

await main();

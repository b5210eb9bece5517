// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { MONITORING } from './prometheus.js';

// What Grafana's own schema asks of these parts of a dashboard (kind Dashboard, 38).

const datasource = z.strictObject({
  type: z.literal('prometheus'),
  uid: z.literal('${datasource}'),
});

const target = z.strictObject({
  refId: z.string().regex(/^[A-Z]$/),
  datasource,
  expr: z.string().min(1),
  legendFormat: z.string().min(1),
  range: z.boolean(),
  instant: z.boolean(),
  editorMode: z.literal('code'),
});

const panel = z.strictObject({
  id: z.int().min(1),
  type: z.enum(['timeseries', 'stat']),
  title: z.string().min(1),
  description: z.string(),
  datasource,
  gridPos: z.strictObject({
    x: z.int().min(0).max(23),
    y: z.int().min(0),
    w: z.int().min(1).max(24),
    h: z.int().min(1),
  }),
  fieldConfig: z.strictObject({
    defaults: z.looseObject({
      unit: z.string().min(1),
      color: z.looseObject({ mode: z.string() }),
      thresholds: z.looseObject({ steps: z.array(z.looseObject({ color: z.string() })).min(1) }),
    }),
    overrides: z.array(z.unknown()),
  }),
  options: z.looseObject({}),
  targets: z.array(target).min(1),
});

const annotation = z.strictObject({
  name: z.string(),
  enable: z.boolean(),
  iconColor: z.string(),
  datasource,
  expr: z.string(),
  titleFormat: z.string(),
  step: z.string(),
});

const variable = z.looseObject({
  name: z.string().regex(/^\w+$/),
  type: z.enum(['datasource', 'query']),
  hide: z.literal(0),
});

const dashboardSchema = z.strictObject({
  uid: z.string().regex(/^[\w-]{1,40}$/),
  title: z.string().min(1),
  description: z.string(),
  tags: z.array(z.string()),
  schemaVersion: z.literal(38),
  version: z.int(),
  editable: z.boolean(),
  graphTooltip: z.int().min(0).max(2),
  timezone: z.enum(['browser', 'utc', '']),
  refresh: z.string(),
  time: z.strictObject({ from: z.string(), to: z.string() }),
  fiscalYearStartMonth: z.int(),
  links: z.array(z.unknown()),
  annotations: z.strictObject({ list: z.array(annotation) }),
  templating: z.strictObject({ list: z.array(variable) }),
  panels: z.array(panel).min(1),
});

export type Dashboard = z.infer<typeof dashboardSchema>;
export type DashboardPanel = Dashboard['panels'][number];

/** The shipped dashboard; rejects with what is wrong with it. */
export async function readDashboard(): Promise<Dashboard> {
  const text = await readFile(join(MONITORING, 'dashboard.json'), 'utf8');
  return dashboardSchema.parse(JSON.parse(text));
}

/** An expression as Grafana sends it: every instance, rates over `interval`. */
export function filledIn(expr: string, interval: string): string {
  return expr.replaceAll('$__rate_interval', interval).replaceAll('$instance', '.*');
}

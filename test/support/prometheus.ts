// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { endProcess, eventually } from './process.js';

/** What docs/monitoring ships. */
export const MONITORING = fileURLToPath(new URL('../../docs/monitoring/', import.meta.url));
const RULE_FILES = ['recording.yml', 'alerts.yml'];

export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  /** Of an instant query one point: seconds and value. */
  readonly points: ReadonlyArray<readonly [seconds: number, value: number]>;
}

export interface FiringAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly state: 'pending' | 'firing';
}

interface ApiAnswer {
  readonly status: string;
  readonly error?: string;
  readonly data?: unknown;
}

/**
 * A real Prometheus with the documented configuration and rules, except that it asks `target`, and
 * more often. Data and configuration are in a directory of its own.
 */
export class Prometheus {
  readonly #dir: string;
  #server: ChildProcess | undefined;
  #log = '';
  #url = '';

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** `target` is a URL of metrics. Resolves when the server answers; `stop` removes everything. */
  static async start(options: { target: string; interval: '1s' | '2s' }): Promise<Prometheus> {
    const prometheus = new Prometheus(await mkdtemp(join(tmpdir(), 'keyhold-prometheus-')));
    try {
      await prometheus.#configure(options);
      await prometheus.#run();
    } catch (error) {
      await prometheus.stop();
      throw error;
    }
    return prometheus;
  }

  async #configure({ target, interval }: { target: string; interval: string }): Promise<void> {
    for (const name of RULE_FILES) await copyFile(join(MONITORING, name), join(this.#dir, name));
    const documented = await readFile(join(MONITORING, 'prometheus.yml'), 'utf8');
    const config = documented
      .replace("'127.0.0.1:9754'", `'${new URL(target).host}'`)
      .replaceAll('_interval: 15s', `_interval: ${interval}`);
    if (config === documented) throw new Error('prometheus.yml: expected the documented target');
    await writeFile(join(this.#dir, 'prometheus.yml'), config);
  }

  async #run(): Promise<void> {
    const server = spawn(
      'prometheus',
      [
        `--config.file=${join(this.#dir, 'prometheus.yml')}`,
        `--storage.tsdb.path=${join(this.#dir, 'data')}`,
        '--web.listen-address=127.0.0.1:0',
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#server = server;
    server.stderr.on('data', (chunk: Buffer) => (this.#log += chunk.toString()));
    await once(server, 'spawn');
    await eventually('Prometheus is ready', async () => {
      if (server.exitCode !== null) throw new Error(`prometheus ended:\n${this.#log}`);
      const address = /Listening on" address=(127\.0\.0\.1:\d+)/.exec(this.#log)?.[1];
      if (address === undefined) return false;
      this.#url = `http://${address}`;
      return (await fetch(`${this.#url}/-/ready`).catch(() => undefined))?.status === 200;
    });
  }

  /** An instant query. A query that does not parse rejects with what Prometheus says. */
  async query(expr: string): Promise<Series[]> {
    const data = (await this.#ask('query', { query: expr })) as {
      result: Array<{ metric: Series['metric']; value: [number, string] }>;
    };
    return data.result.map(({ metric, value }) => ({ metric, points: [pointOf(value)] }));
  }

  /** The value of a query with one result; undefined without one. */
  async value(expr: string): Promise<number | undefined> {
    return (await this.query(expr))[0]?.points[0]?.[1];
  }

  /** Times in seconds. */
  async queryRange(
    expr: string,
    range: { start: number; end: number; step: number },
  ): Promise<Series[]> {
    const times = {
      start: String(range.start),
      end: String(range.end),
      step: String(range.step),
    };
    const data = (await this.#ask('query_range', { query: expr, ...times })) as {
      result: Array<{ metric: Series['metric']; values: Array<[number, string]> }>;
    };
    return data.result.map(({ metric, values }) => ({ metric, points: values.map(pointOf) }));
  }

  async alerts(): Promise<FiringAlert[]> {
    const data = (await this.#ask('alerts')) as { alerts: FiringAlert[] };
    return data.alerts;
  }

  /** Every rule's expression, by its name, as the server has read it. */
  async rules(): Promise<Map<string, string>> {
    const data = (await this.#ask('rules')) as {
      groups: Array<{ rules: Array<{ name: string; query: string }> }>;
    };
    return new Map(data.groups.flatMap(({ rules }) => rules.map((r) => [r.name, r.query])));
  }

  async #ask(path: string, form?: Record<string, string>): Promise<unknown> {
    const answer = await fetch(
      `${this.#url}/api/v1/${path}`,
      form === undefined ? {} : { method: 'POST', body: new URLSearchParams(form) },
    );
    const body = (await answer.json()) as ApiAnswer;
    if (body.status !== 'success') throw new Error(`${path}: ${String(body.error)}`);
    return body.data;
  }

  async stop(): Promise<void> {
    if (this.#server !== undefined) await endProcess(this.#server, 'SIGTERM');
    await rm(this.#dir, { recursive: true, force: true });
  }
}

function pointOf([seconds, value]: [number, string]): [number, number] {
  return [seconds, Number(value.replace('Inf', 'Infinity'))];
}

// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type AdminEvent,
  reloadResultSchema,
  changeAllowRequestSchema,
  connectionListSchema,
  type ConnectionView,
  createDiskRequestSchema,
  diskDetailSchema,
  diskListSchema,
  type DiskView,
  diskViewSchema,
  errorBodySchema,
  eventSchema,
  statusSchema,
} from '../../../src/admin/api.js';
import { type Counters, countersSchema } from '../../../src/admin/api-counters.js';
import { auditVerifyResultSchema } from '../../../src/admin/api-audit.js';
import {
  checkResultSchema,
  createSetRequestSchema,
  setListSchema,
  type SetView,
  setViewSchema,
  impactSchema,
  purgeReceiptSchema,
  updateSetRequestSchema,
} from '../../../src/admin/api-sets.js';
import type { ErrorKind } from '../../../src/base/errors.js';
import {
  ONLINE_DISK,
  DENIED_DISK,
  LOCAL_CONNECTION,
  TLS_CONNECTION,
  NEGOTIATING,
  NEW_DISK,
  GRANTED_SET,
  DENIED_SET,
  IMPACT,
  PURGED,
  CHECK,
  countersAt,
  STATUS,
  SOUND_AUDIT,
  RELOADED,
  EVENTS,
} from './canned.js';

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

type Answer =
  { status: number; body?: unknown } | { events: readonly AdminEvent[] } | { sequence: unknown[] };

/**
 * An admin server that gives canned answers over a real unix socket. Every answer is checked
 * against the API's schemas, and every request too, so that tests cannot drift from the contract.
 */
export class FakeAdmin {
  readonly dir: string;
  readonly socketPath: string;
  readonly seen: Seen[] = [];
  readonly #answers = new Map<string, Answer>();
  readonly #server = createServer((request, response) => void this.#serve(request, response));

  private constructor(dir: string) {
    this.dir = dir;
    this.socketPath = join(dir, 'admin.sock');
    this.answer('GET /v1/status', STATUS, statusSchema);
    this.answer('GET /v1/disks', { disks: [ONLINE_DISK, DENIED_DISK, NEW_DISK] }, diskListSchema);
    this.answer('GET /v1/sets', { sets: [GRANTED_SET, DENIED_SET] }, setListSchema);
    this.disk(ONLINE_DISK, { connections: [LOCAL_CONNECTION, TLS_CONNECTION] });
    for (const disk of [DENIED_DISK, NEW_DISK]) this.disk(disk);
    this.counters(countersAt(0), countersAt(1), countersAt(2));
    this.connections([LOCAL_CONNECTION, TLS_CONNECTION, NEGOTIATING]);
    for (const set of [GRANTED_SET, DENIED_SET]) this.set(set);
    this.answer('POST /v1/sets/demo/check', CHECK, checkResultSchema);
    this.answer('POST /v1/sets/demo/rotate', GRANTED_SET, setViewSchema);
    this.answer('POST /v1/sets/demo/assign-key', GRANTED_SET, setViewSchema);
    this.answer('PATCH /v1/sets/demo', GRANTED_SET, setViewSchema);
    this.answer('GET /v1/sets/demo/impact', IMPACT, impactSchema);
    this.answer('POST /v1/sets/demo/purge', PURGED, purgeReceiptSchema);
    this.answer('POST /v1/audit/verify', SOUND_AUDIT, auditVerifyResultSchema);
    this.answer('POST /v1/reload', RELOADED, reloadResultSchema);
    this.events(EVENTS);
  }

  static async start(): Promise<FakeAdmin> {
    const fake = new FakeAdmin(await mkdtemp(join(tmpdir(), 'keyhold-cli-')));
    await new Promise<void>((resolve) => {
      fake.#server.listen(fake.socketPath, resolve);
    });
    return fake;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.dir, { recursive: true, force: true });
  }

  /** Canned answers of everything about one disk. */
  disk(
    view: DiskView,
    options: { actions?: DiskView; connections?: readonly ConnectionView[] } = {},
  ): void {
    const path = `/v1/disks/${encodeURIComponent(view.name)}`;
    const { connections = [] } = options;
    this.answer(`GET ${path}`, { ...view, connections }, diskDetailSchema);
    for (const action of ['attach', 'detach', 'restart', 'move', 'erase']) {
      this.answer(`POST ${path}/${action}`, options.actions ?? view, diskViewSchema);
    }
    this.#answers.set(`DELETE ${path}`, { status: 204 });
  }

  connections(connections: readonly ConnectionView[]): void {
    this.answer('GET /v1/connections', { connections }, connectionListSchema);
  }

  /** Answers one after the other; the last one stays. */
  counters(...looks: readonly Counters[]): void {
    for (const look of looks) countersSchema.parse(look);
    this.#answers.set('GET /v1/counters', { sequence: [...looks] });
  }

  set(view: SetView): void {
    this.answer(`GET /v1/sets/${view.name}`, view, setViewSchema);
    this.#answers.set(`DELETE /v1/sets/${view.name}`, { status: 204 });
  }

  answer(route: string, body: unknown, schema: { parse(value: unknown): unknown }): void {
    schema.parse(body);
    this.#answers.set(route, { status: 200, body });
  }

  fail(
    route: string,
    error: {
      kind: ErrorKind;
      code: string;
      message: string;
      fields?: Record<string, unknown>;
    },
  ): void {
    const body = { error };
    errorBodySchema.parse(body);
    this.#answers.set(route, { status: 500, body });
  }

  events(events: readonly AdminEvent[]): void {
    for (const event of events) eventSchema.parse(event);
    this.#answers.set('GET /v1/events', { events });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString('utf8');
    const { method = '', url = '' } = request;
    const path = url.split('?')[0] ?? '';
    const body: unknown = text === '' ? undefined : JSON.parse(text);
    this.seen.push({ method, path: url, body });
    if (method === 'POST' && path === '/v1/sets') createSetRequestSchema.parse(body);
    if (method === 'POST' && path === '/v1/disks') createDiskRequestSchema.parse(body);
    if (method === 'PATCH' && path.startsWith('/v1/sets/')) updateSetRequestSchema.parse(body);
    if (method === 'PATCH' && path.endsWith('/allow')) changeAllowRequestSchema.parse(body);
    const missing = {
      code: 'ERR_DISK_NOT_FOUND',
      kind: 'not-found',
      message: `no canned answer for ${method} ${path}`,
    };
    const answer = this.#answers.get(`${method} ${path}`) ?? {
      status: 404,
      body: { error: missing },
    };
    if ('events' in answer) {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      for (const event of answer.events) response.write(`${JSON.stringify(event)}\n`);
      response.end();
      return;
    }
    if ('sequence' in answer) {
      const { sequence } = answer;
      const next = sequence.length > 1 ? sequence.shift() : sequence[0];
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(next));
      return;
    }
    response.writeHead(answer.status, { 'content-type': 'application/json' });
    response.end(answer.body === undefined ? undefined : JSON.stringify(answer.body));
  }
}

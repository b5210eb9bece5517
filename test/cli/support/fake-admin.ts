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
  type ReloadResult,
  diskViewSchema,
  errorBodySchema,
  eventSchema,
  type Status,
  statusSchema,
} from '../../../src/admin/api.js';
import { type AuditVerifyResult, auditVerifyResultSchema } from '../../../src/admin/api-audit.js';
import {
  type CheckResult,
  checkResultSchema,
  createSetRequestSchema,
  setListSchema,
  type SetView,
  setViewSchema,
  impactSchema,
  purgeReceiptSchema,
  updateSetRequestSchema,
  type Impact,
  type PurgeReceipt,
} from '../../../src/admin/api-sets.js';
import type { ErrorKind } from '../../../src/base/errors.js';

export const NOW_MS = Date.UTC(2026, 0, 1, 12, 0, 0);

const KID = 'https://127.0.0.1:8443/keys/demo-key/0123456789abcdef0123456789abcdef';

export const ONLINE_DISK: DiskView = {
  name: 'demo',
  uuid: '5b0f4b6e-3a0b-4c53-8c43-9b4e7c9f2a10',
  state: 'online',
  reason: null,
  revoked: false,
  since: '2026-01-01T11:56:48.000Z',
  sizeBytes: 2 ** 30,
  sectorSizeBytes: 512,
  store: '/var/lib/keyhold/stores/demo.img',
  set: 'demo',
  keyVersion: '0123456789abcdef0123456789abcdef',
  vaultRequestId: null,
  clients: 2,
  leaseSecondsLeft: 853.4,
  readOnly: false,
  dmCrypt: false,
  double: false,
  rotational: false,
  direct: false,
  description: '',
  allow: [],
  attached: true,
  message: null,
};

export const DENIED_DISK: DiskView = {
  ...ONLINE_DISK,
  name: 'db01',
  uuid: '7e3c2b62-51a9-4b0f-9d52-2f0b6f1f7a11',
  state: 'offline',
  reason: 'key-disabled',
  since: '2025-12-27T09:00:00.000Z',
  sizeBytes: 10 * 2 ** 40,
  sectorSizeBytes: 4096,
  store: '/dev/disk/by-id/nvme-a-rather-long-name-of-a-block-device-part1',
  vaultRequestId: '2f1c6a4e-0d7e-4a67-9a50-1d8a5e9f0c77',
  clients: 0,
  leaseSecondsLeft: 0,
  readOnly: true,
  dmCrypt: true,
  double: true,
  rotational: true,
  direct: true,
  description: 'orders, since 2019',
  allow: ['uid=0', 'san=DNS:vm1.example and cidr=10.0.0.0/8'],
  message: 'Operation unwrapKey is not allowed on a disabled key.',
};

const CONNECTION = {
  phase: 'transmission',
  disk: 'demo',
  connectedAt: '2026-01-01T11:00:00.000Z',
  ageSeconds: 3600,
  inFlight: 3,
  bytesIn: 5 * 2 ** 30,
  bytesOut: 1_234_567,
  requests: 81_920,
} as const;

export const LOCAL_CONNECTION: ConnectionView = {
  ...CONNECTION,
  id: 4,
  address: { kind: 'unix', pid: 4242, uid: 1000, gid: 100 },
  tls: null,
};

export const TLS_CONNECTION: ConnectionView = {
  ...CONNECTION,
  id: 7,
  address: { kind: 'tcp', address: '10.0.0.17', port: 49_152 },
  tls: {
    version: 'TLSv1.3',
    cipher: 'TLS_AES_256_GCM_SHA384',
    certificate: {
      subject: 'CN=vm1,O=Example',
      subjectAltNames: ['DNS:vm1.example'],
      fingerprintSha256: '5e'.repeat(32),
    },
    pskIdentity: null,
  },
};

export const NEGOTIATING: ConnectionView = {
  ...CONNECTION,
  id: 9,
  address: { kind: 'tcp', address: '2001:db8::17', port: 50_000 },
  tls: {
    version: 'TLSv1.2',
    cipher: 'PSK-AES256-GCM-SHA384',
    certificate: null,
    pskIdentity: 'backup',
  },
  phase: 'negotiating',
  disk: null,
  connectedAt: '2026-01-01T11:59:59.500Z',
  ageSeconds: 0.5,
  inFlight: 0,
  bytesIn: 300,
  bytesOut: 600,
  requests: 0,
};

export const NEW_DISK: DiskView = {
  ...ONLINE_DISK,
  name: 'fresh',
  state: 'offline',
  reason: 'never-attached',
  clients: 0,
  leaseSecondsLeft: null,
  attached: false,
  keyVersion: null,
};

export const GRANTED_SET: SetView = {
  name: 'demo',
  id: '0b54a2a6-1f10-4a3e-b2ac-3f2a6de1a201',
  mode: 'immediate',
  keys: [
    {
      id: KID,
      version: '0123456789abcdef0123456789abcdef',
      slot: 1,
      role: 'current',
      expiresAt: null,
      dependents: ['demo', 'fresh'],
      safeToDisable: false,
      verdict: 'PROOF',
      since: '2026-01-01T11:00:00.000Z',
      error: null,
    },
  ],
  leaseSecondsLeft: 853.4,
  disks: ['demo', 'fresh'],
  access: 'granted',
  alarm: false,
  identity: 'dev',
  probeIntervalSeconds: 10,
  leaseSeconds: 900,
  suspendTimeoutSeconds: 300,
  holdOnHeal: false,
  grantedBy: 'vault',
  warnings: ['key k version 0 expires at 2026-01-20T00:00:00.000Z'],
  rotationIntervalSeconds: 300,
  revokeWhen: 'any',
  onExpiry: 'warn',
  identityDenied: 'lease',
  networkDenied: 'lease',
  double: false,
  platformKey: null,
  availabilityKey: null,
  retired: [
    {
      id: `${KID}-older`,
      slot: 1,
      retiredAt: '2026-01-01T10:00:00.000Z',
      dependents: [],
      safeToDisable: true,
    },
  ],
  unreadable: [],
  rotationTrouble: null,
  revocation: { deadlineSeconds: 11, lastSeconds: 0.0125, maxSeconds: 2.5 },
  purge: null,
  drill: null,
};

export const DENIED_SET: SetView = {
  ...GRANTED_SET,
  name: 'ultra',
  mode: 'restart',
  keys: [
    {
      id: KID,
      version: '0123456789abcdef0123456789abcdef',
      slot: 1,
      role: 'current',
      expiresAt: null,
      dependents: ['demo', 'fresh'],
      safeToDisable: false,
      verdict: 'DENIED',
      since: '2026-01-01T11:59:00.000Z',
      error: {
        code: 'KeyDisabled',
        message: 'Operation unwrapKey is not allowed on a disabled key.',
        requestId: '2f1c6a4e-0d7e-4a67-9a50-1d8a5e9f0c77',
      },
    },
  ],
  leaseSecondsLeft: 0,
  disks: [],
  access: 'denied',
  grantedBy: null,
  warnings: [],
  retired: [],
  alarm: true,
};

export const IMPACT: Impact = {
  set: 'demo',
  scenario: 'disable',
  kids: [KID],
  why: 'the next probe is denied',
  disks: [
    {
      disk: 'demo',
      state: 'online',
      outcome: 'goes-offline',
      withinSeconds: 11,
      clients: ['unix uid 1000'],
    },
    {
      disk: 'fresh',
      state: 'offline',
      outcome: 'stays-offline',
      withinSeconds: null,
      clients: [],
    },
  ],
};

export const PURGED: PurgeReceipt = {
  startedAt: '2026-01-01T12:00:00.000Z',
  finishedAt: '2026-01-01T12:00:01.000Z',
  kids: [KID],
  availabilityKey: true,
  erased: ['demo'],
  failed: [],
};

export const CHECK: CheckResult = {
  set: 'demo',
  verdict: 'PROOF',
  access: 'granted',
  alarm: false,
  keys: GRANTED_SET.keys,
  leaseSecondsLeft: 900,
};

export const STATUS: Status = {
  version: '0.1.0',
  pid: 4242,
  startedAt: '2026-01-01T00:00:00.000Z',
  uptimeSeconds: 43_200,
  shards: [
    { index: 0, alive: true, restarts: 0 },
    { index: 1, alive: false, restarts: 2 },
  ],
  xtsKernel: 'evp',
  engine: { name: 'io_uring', why: 'this host permits it' },
  nbd: ['unix:/run/keyhold/nbd.sock', '0.0.0.0:10809', '127.0.0.1:10810'],
  metrics: 'http://127.0.0.1:9754/metrics',
  adminSocket: '/run/keyhold/admin.sock',
  platformKey: 'ab'.repeat(16),
  sets: { total: 2, unknown: 0, granted: 1, denied: 1, lapsed: 0 },
  disks: { total: 3, online: 1, offline: 2, suspended: 0, revoked: 0 },
  connections: 2,
  alarms: [{ name: 'shard-dead', message: 'shard 1 died', since: '2026-01-01T11:00:00.000Z' }],
};

export const SOUND_AUDIT: AuditVerifyResult = {
  path: '/var/lib/keyhold/audit/audit.jsonl',
  records: 17,
  ok: true,
  lastHash: 'ab'.repeat(32),
  firstBad: null,
};

export const RELOADED: ReloadResult = {
  files: [
    { part: 'certificate', path: '/etc/keyhold/tls/cert.pem' },
    { part: 'key', path: '/etc/keyhold/tls/key.pem' },
  ],
};

export const EVENTS: AdminEvent[] = [
  { seq: 7, time: '2026-01-01T12:00:00.000Z', kind: 'disk-online', disk: 'demo', clients: 0 },
  { seq: 8, time: '2026-01-01T12:00:01.000Z', kind: 'probe', set: 'demo', message: 'two words' },
];

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

type Answer = { status: number; body?: unknown } | { events: readonly AdminEvent[] };

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
    response.writeHead(answer.status, { 'content-type': 'application/json' });
    response.end(answer.body === undefined ? undefined : JSON.stringify(answer.body));
  }
}

// SPDX-License-Identifier: Apache-2.0
import { writeSync } from 'node:fs';
import { Readable } from 'node:stream';
import type {
  AdminEvent,
  AdminServices,
  AllowResult,
  ConnectionView,
  DiskDetail,
  DiskView,
  Status,
} from '../../src/admin/api.js';
import type { Counters } from '../../src/admin/api-counters.js';
import type { CheckResult, SetView, Impact, PurgeReceipt } from '../../src/admin/api-sets.js';

export const DISK: DiskView = {
  name: 'd1',
  uuid: '6f1d3a52-5a3c-4d5e-9a55-0c6a7f8e9b01',
  state: 'offline',
  reason: 'key-disabled',
  revoked: false,
  since: '2026-01-01T00:00:00.000Z',
  sizeBytes: 2 ** 30,
  sectorSizeBytes: 512,
  store: '/var/lib/keyhold/stores/d1',
  set: 's1',
  keyVersion: 'abc',
  vaultRequestId: 'r-1',
  clients: 0,
  leaseSecondsLeft: null,
  readOnly: false,
  dmCrypt: false,
  double: false,
  rotational: false,
  direct: false,
  description: '',
  allow: ['uid=1000'],
  attached: true,
  message: 'KeyDisabled',
};

export const CONNECTION: ConnectionView = {
  id: 3,
  address: { kind: 'tcp', address: '10.0.0.1', port: 4711 },
  tls: {
    version: 'TLSv1.3',
    cipher: 'TLS_AES_256_GCM_SHA384',
    certificate: {
      subject: 'CN=vm1',
      subjectAltNames: ['DNS:vm1.example'],
      fingerprintSha256: 'ab'.repeat(32),
    },
    pskIdentity: null,
  },
  phase: 'transmission',
  disk: 'd1',
  connectedAt: '2026-01-01T00:00:00.000Z',
  ageSeconds: 1.5,
  inFlight: 1,
  bytesIn: 10,
  bytesOut: 20,
  requests: 3,
};

export const DISK_DETAIL: DiskDetail = { ...DISK, connections: [CONNECTION] };

export const ALLOW_RESULT: AllowResult = { disk: 'd1', allow: ['uid=1000'], disconnected: 1 };

export const SET: SetView = {
  name: 's1',
  id: '0d7d6a2e-0000-4000-8000-000000000001',
  mode: 'immediate',
  keys: [
    {
      id: 'https://v.vault.azure.net/keys/k/abc',
      version: 'abc',
      slot: 1,
      role: 'current',
      expiresAt: null,
      dependents: ['d1'],
      safeToDisable: false,
      verdict: 'DENIED',
      since: '2026-01-01T00:00:00.000Z',
      error: { code: 'KeyDisabled', message: 'disabled', requestId: 'r-1' },
    },
  ],
  leaseSecondsLeft: 12.5,
  disks: ['d1'],
  access: 'denied',
  alarm: false,
  identity: 'prod',
  probeIntervalSeconds: 10,
  leaseSeconds: 900,
  suspendTimeoutSeconds: 300,
  holdOnHeal: false,
  grantedBy: null,
  warnings: [],
  rotationIntervalSeconds: 300,
  revokeWhen: 'any',
  onExpiry: 'warn',
  identityDenied: 'lease',
  networkDenied: 'lease',
  double: false,
  platformKey: null,
  availabilityKey: null,
  retired: [],
  unreadable: [],
  rotationTrouble: null,
  revocation: { deadlineSeconds: 11, lastSeconds: null, maxSeconds: null },
  purge: null,
  drill: null,
};

export const IMPACT: Impact = {
  set: 's1',
  scenario: 'disable',
  kids: ['https://v.vault.azure.net/keys/k/abc'],
  why: 'the next probe is denied',
  disks: [
    { disk: 'd1', state: 'online', outcome: 'goes-offline', withinSeconds: 11, clients: ['vm1'] },
  ],
};

export const PURGED: PurgeReceipt = {
  startedAt: '2026-01-01T00:00:00.000Z',
  finishedAt: '2026-01-01T00:00:01.000Z',
  kids: ['https://v.vault.azure.net/keys/k/abc'],
  availabilityKey: false,
  erased: ['d1'],
  failed: [],
};

export const CHECK: CheckResult = {
  set: 's1',
  verdict: 'DENIED',
  access: 'denied',
  alarm: false,
  keys: SET.keys,
  leaseSecondsLeft: null,
};

export const STATUS: Status = {
  version: '0.1.0',
  pid: 42,
  startedAt: '2026-01-01T00:00:00.000Z',
  uptimeSeconds: 3.5,
  shards: [{ index: 0, alive: true, restarts: 0 }],
  xtsKernel: 'evp',
  engine: { name: 'io_uring', why: 'this host permits it' },
  nbd: ['unix:/run/keyhold/nbd.sock'],
  metrics: 'http://127.0.0.1:9754/metrics',
  adminSocket: '/run/keyhold/admin.sock',
  platformKey: null,
  sets: { total: 1, unknown: 0, granted: 0, denied: 1, lapsed: 0 },
  disks: { total: 1, online: 0, offline: 1, suspended: 0, revoked: 0 },
  connections: 0,
  alarms: [],
};

export const COUNTERS: Counters = {
  bootSeconds: 100.5,
  uptimeSeconds: 3.5,
  connections: 1,
  latencyBoundsSeconds: [0.001, 0.01],
  shards: [{ index: 0, alive: true, cpuSeconds: 0.25 }],
  disks: [
    {
      name: 'd1',
      set: 's1',
      state: 'online',
      reason: null,
      revoked: false,
      leaseSecondsLeft: 12.5,
      clients: 1,
      inFlight: 2,
      parked: 0,
      counters: {
        read: { requests: 3, bytes: 12_288 },
        write: { requests: 0, bytes: 0 },
        otherRequests: 1,
        latency: [2, 1, 0],
      },
    },
  ],
};

export interface FakeServices extends AdminServices {
  /** `method(arguments as JSON)`, in order. */
  readonly calls: string[];
  readonly listeners: Set<(event: AdminEvent) => void>;
  /** When set, every call but subscribe fails with it. */
  failure: unknown;
}

/** Services that record what they are asked and answer with the constants above. */
export function createFakeServices(): FakeServices {
  const calls: string[] = [];
  const listeners = new Set<(event: AdminEvent) => void>();
  const answer = async <T>(value: T, method: string, ...given: unknown[]): Promise<T> => {
    await Promise.resolve();
    calls.push(`${method}(${given.map((one) => JSON.stringify(one)).join(',')})`);
    if (services.failure !== undefined) throw services.failure as Error;
    return value;
  };
  const services: FakeServices = {
    calls,
    listeners,
    failure: undefined,
    status: () => answer(STATUS, 'status'),
    listSets: () => answer([SET], 'listSets'),
    showSet: (name) => answer(SET, 'showSet', name),
    createSet: (request) => answer(SET, 'createSet', request),
    checkSet: (name) => answer(CHECK, 'checkSet', name),
    updateSet: (name, request) => answer(SET, 'updateSet', name, request),
    rotateSet: (name) => answer(SET, 'rotateSet', name),
    assignKey: (name, request) => answer(SET, 'assignKey', name, request),
    impactOfSet: (name, query) => answer(IMPACT, 'impactOfSet', name, query),
    beginDrill: (name, request) => answer(SET, 'beginDrill', name, request),
    endDrill: (name) => answer(SET, 'endDrill', name),
    purgeSet: (name, request) => answer(PURGED, 'purgeSet', name, request),
    deleteSet: (name) => answer(undefined, 'deleteSet', name),
    listDisks: () => answer([DISK], 'listDisks'),
    listConnections: () => answer([CONNECTION], 'listConnections'),
    counters: () => answer(COUNTERS, 'counters'),
    showDisk: (name) => answer(DISK_DETAIL, 'showDisk', name),
    changeAllow: (name, change) => answer(ALLOW_RESULT, 'changeAllow', name, change),
    createDisk: (request) => answer(DISK, 'createDisk', request),
    attachDisk: (name, caller) => answer(DISK, 'attachDisk', name, caller.uid),
    detachDisk: (name) => answer(DISK, 'detachDisk', name),
    restartDisk: (name) => answer(DISK, 'restartDisk', name),
    moveDisk: (name, request) => answer(DISK, 'moveDisk', name, request),
    eraseDisk: (name, request) => answer(DISK, 'eraseDisk', name, request),
    exportKey: (name, { file, layer = null }) =>
      answer({ disk: 'd1', file, layer }, 'exportKey', name),
    deleteDisk: (name, options) => answer(undefined, 'deleteDisk', name, options),
    serveDisk: async (name, caller, handOver) => {
      await answer(undefined, 'serveDisk', name, caller.uid);
      handOver((fd, greeting) => {
        writeSync(fd, greeting);
        writeSync(fd, 'NBDMAGIC');
      });
    },
    verifyAudit: () =>
      answer(
        { path: '/a', records: 3, ok: true, lastHash: '0'.repeat(64), firstBad: null },
        'verifyAudit',
      ),
    exportAudit: (query, caller) =>
      answer(Readable.from(['{"records":[', ']}']), 'exportAudit', query, caller.uid),
    doctor: (request, caller) => answer({ targets: [], host: [] }, 'doctor', request, caller.uid),
    reload: () => answer({ files: [{ part: 'psk', path: '/p' }], changed: [] }, 'reload'),
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  return services;
}

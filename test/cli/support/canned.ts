// SPDX-License-Identifier: Apache-2.0
import type {
  AdminEvent,
  ConnectionView,
  DiskView,
  ReloadResult,
  Status,
} from '../../../src/admin/api.js';
import type { Counters, DiskCounters } from '../../../src/admin/api-counters.js';
import type { AuditVerifyResult } from '../../../src/admin/api-audit.js';
import type { CheckResult, Impact, PurgeReceipt, SetView } from '../../../src/admin/api-sets.js';

/* What the canned daemon of the CLI's tests shows. */

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
  changed: ['vault.proxy'],
};

export const EVENTS: AdminEvent[] = [
  { seq: 7, time: '2026-01-01T12:00:00.000Z', kind: 'disk-online', disk: 'demo', clients: 0 },
  { seq: 8, time: '2026-01-01T12:00:01.000Z', kind: 'probe', set: 'demo', message: 'two words' },
];

const BUSY_DISK: DiskCounters = {
  name: 'demo',
  set: 'demo',
  state: 'online',
  reason: null,
  revoked: false,
  leaseSecondsLeft: 853.4,
  clients: 2,
  inFlight: 3,
  parked: 0,
  counters: null,
};

/** A look `seconds` after the first one: demo reads 1 MiB/s and writes 4 KiB/s, db01 is offline. */
export function countersAt(seconds: number): Counters {
  return {
    bootSeconds: 1000 + seconds,
    uptimeSeconds: 43_200 + seconds,
    connections: 2,
    latencyBoundsSeconds: [0.0001, 0.001, 0.01],
    shards: [
      { index: 0, alive: true, cpuSeconds: 50 + seconds / 2 },
      { index: 1, alive: false, cpuSeconds: 7 },
    ],
    disks: [
      {
        ...BUSY_DISK,
        counters: {
          read: { requests: 500 + 256 * seconds, bytes: 2 ** 20 * (7 + seconds) },
          write: { requests: seconds, bytes: 4096 * seconds },
          otherRequests: seconds,
          latency: [200 * seconds, 56 * seconds, seconds, 0],
        },
      },
      {
        ...BUSY_DISK,
        name: 'db01',
        state: 'offline',
        reason: 'key-disabled',
        leaseSecondsLeft: 0,
        clients: 0,
        inFlight: 0,
      },
    ],
  };
}

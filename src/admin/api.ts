// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import type { AuditServices } from './api-audit.js';
import type { CounterServices } from './api-counters.js';
import type { DoctorServices } from './api-doctor.js';
import type { ConfirmRequest, SetServices } from './api-sets.js';
import {
  count,
  DESCRIPTION_LENGTH_MAX,
  name,
  NAME_LENGTH_MAX,
  PATH_LENGTH_MAX,
  rules,
  seconds,
  sectorSizeBytes,
  time,
} from './fields.js';

/**
 * The admin API's vocabulary: one schema for each request and answer. The server validates
 * requests with it and publishes it as OpenAPI, the client validates answers with it, the types
 * come from it.
 *
 * Requests are strict: an unknown field is a mistake and is refused. Answers are open: a client
 * ignores fields that a newer daemon adds.
 */

export const DISK_STATES = ['offline', 'online', 'suspended'] as const;

/** Why a disk is offline: the closed list of DESIGN.md section 2. */
export const OFFLINE_REASONS = [
  'never-attached',
  'detached',
  'key-disabled',
  'key-deleted',
  'access-denied',
  'identity-denied',
  'key-expired',
  'lease-expired',
  'store-error',
  'integrity',
  'fenced',
  'erased',
] as const;

export const CONNECTION_PHASES = ['negotiating', 'transmission'] as const;

export const ERROR_KINDS = [
  'usage',
  'invalid',
  'not-found',
  'conflict',
  'forbidden',
  'key-inaccessible',
  'unavailable',
  'integrity',
  'no-space',
  'internal',
] as const;

export const diskViewSchema = z
  .object({
    name: z.string(),
    uuid: z.string(),
    state: z.enum(DISK_STATES),
    /** Null exactly when the disk is not offline. */
    reason: z.enum(OFFLINE_REASONS).nullable(),
    /** Restart mode: serves on, and will not come back. */
    revoked: z.boolean(),
    /** Since when state, reason and revoked are as they are. */
    since: time,
    sizeBytes: count,
    sectorSizeBytes,
    /** Path of the store. */
    store: z.string(),
    set: z.string(),
    keyVersion: z.string().nullable(),
    /** Request id of the vault's answer that brought the disk into this state. */
    vaultRequestId: z.string().nullable(),
    /** NBD sessions in transmission. */
    clients: count,
    leaseSecondsLeft: seconds.nullable(),
    readOnly: z.boolean(),
    dmCrypt: z.boolean(),
    /** Encrypted twice: also under the platform key. */
    double: z.boolean(),
    /** Clients are told that seeking is slow. */
    rotational: z.boolean(),
    /** Data goes past the page cache, or the store is refused. */
    direct: z.boolean(),
    /** Free text for people; clients are shown it too. */
    description: z.string(),
    /** Rules, any of which suffices; empty: the peers of this machine. */
    allow: z.array(z.string()).readonly(),
    /** The operator wants it attached; with access to the key it is online. */
    attached: z.boolean(),
    /** What the vault or the store said, for people. */
    message: z.string().nullable(),
  })
  .meta({ id: 'Disk', description: 'A virtual disk.' });
export type DiskView = z.infer<typeof diskViewSchema>;

const tlsViewSchema = z.object({
  /** `TLSv1.2` or `TLSv1.3`. */
  version: z.string(),
  cipher: z.string(),
  /** Of the client certificate; null when the client showed none. */
  certificate: z
    .object({
      subject: z.string(),
      subjectAltNames: z.array(z.string()).readonly(),
      fingerprintSha256: z.string(),
    })
    .nullable(),
  pskIdentity: z.string().nullable(),
});

export const connectionViewSchema = z
  .object({
    id: count,
    address: z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('unix'), pid: count, uid: count, gid: count }),
      z.object({ kind: z.literal('tcp'), address: z.string(), port: count }),
    ]),
    /** Null on a connection in clear. */
    tls: tlsViewSchema.nullable(),
    phase: z.enum(CONNECTION_PHASES),
    /** Null while negotiating. */
    disk: z.string().nullable(),
    connectedAt: time,
    ageSeconds: seconds,
    /** Requests being worked on. */
    inFlight: count,
    /** Since the connection began: bytes of the NBD protocol, and requests of any result. */
    bytesIn: count,
    bytesOut: count,
    requests: count,
  })
  .meta({ id: 'Connection', description: 'An NBD connection.' });
export type ConnectionView = z.infer<typeof connectionViewSchema>;

export const diskDetailSchema = diskViewSchema
  .extend({
    /** The connections that `clients` counts. */
    connections: z.array(connectionViewSchema),
  })
  .meta({ id: 'DiskDetail', description: 'A virtual disk with its clients.' });
export type DiskDetail = z.infer<typeof diskDetailSchema>;

export const createDiskRequestSchema = z
  .strictObject({
    name,
    set: name,
    sizeBytes: z.int().min(1),
    /** Absolute path; left out: a file in the state directory. */
    store: z.exactOptional(
      z.string().max(PATH_LENGTH_MAX).startsWith('/', 'expected an absolute path'),
    ),
    sectorSizeBytes: z.exactOptional(sectorSizeBytes),
    dmCrypt: z.exactOptional(z.boolean()),
    readOnly: z.exactOptional(z.boolean()),
    rotational: z.exactOptional(z.boolean()),
    direct: z.exactOptional(z.boolean()),
    /** One line; the disk service says how long it may be. */
    description: z.exactOptional(z.string().max(DESCRIPTION_LENGTH_MAX)),
    allow: z.exactOptional(rules),
  })
  .meta({ id: 'CreateDisk' });
export type CreateDiskRequest = z.infer<typeof createDiskRequestSchema>;

export const changeAllowRequestSchema = z
  .strictObject({
    /** Empties the list first. */
    clear: z.exactOptional(z.boolean()),
    /** Taken out next; each must be there. */
    remove: z.exactOptional(rules),
    /** Put in last; one that is there already stays. */
    add: z.exactOptional(rules),
  })
  .meta({ id: 'ChangeAllow', description: 'A change of the allow list of a disk.' });
export type ChangeAllowRequest = z.infer<typeof changeAllowRequestSchema>;

export const allowResultSchema = z
  .object({
    disk: z.string(),
    allow: z.array(z.string()).readonly(),
    /** Sessions that were closed, because the list does not admit their peers any more. */
    disconnected: count,
  })
  .meta({ id: 'AllowResult', description: 'The allow list of a disk after a change.' });
export type AllowResult = z.infer<typeof allowResultSchema>;

export const moveDiskRequestSchema = z
  .strictObject({ set: name })
  .meta({ id: 'MoveDisk', description: 'The encryption set that the disk is to belong to.' });
export type MoveDiskRequest = z.infer<typeof moveDiskRequestSchema>;

export const KEY_LAYERS = ['inner', 'outer'] as const;

export const exportKeyRequestSchema = z
  .strictObject({
    /** The name of the disk, once more. */
    confirm: z.string().max(NAME_LENGTH_MAX),
    /** Absolute path on the daemon's host, where nothing may be. */
    file: z.string().max(PATH_LENGTH_MAX).startsWith('/', 'expected an absolute path'),
    /** Of a disk that is encrypted twice, and of no other. */
    layer: z.exactOptional(z.enum(KEY_LAYERS)),
  })
  .meta({ id: 'ExportKey', description: 'Where the key of a disk is to go, confirmed.' });
export type ExportKeyRequest = z.infer<typeof exportKeyRequestSchema>;

export const exportedKeySchema = z
  .object({ disk: z.string(), layer: z.enum(KEY_LAYERS).nullable(), file: z.string() })
  .meta({ id: 'ExportedKey', description: 'A file that holds the key of a disk: 64 bytes, raw.' });
export type ExportedKey = z.infer<typeof exportedKeySchema>;

export const deleteDiskQuerySchema = z
  .strictObject({ deleteStore: z.exactOptional(z.enum(['true', 'false'])) })
  .meta({ id: 'DeleteDiskQuery' });

export const statusSchema = z
  .object({
    version: z.string(),
    pid: count,
    startedAt: time,
    uptimeSeconds: seconds,
    shards: z.array(z.object({ index: count, alive: z.boolean(), restarts: count })),
    /** Name of the XTS kernel in use. */
    xtsKernel: z.string(),
    /** What carries the shards' reads and writes: `io_uring` or `epoll`. */
    engine: z.object({ name: z.string(), why: z.string() }),
    /** NBD addresses: `unix:/path` or `host:port`. */
    nbd: z.array(z.string()),
    /** URL of the metrics; null when they are off. */
    metrics: z.string().nullable(),
    adminSocket: z.string(),
    /** Id of this host's platform key; null when it has none. */
    platformKey: z.string().nullable(),
    sets: z.object({
      total: count,
      unknown: count,
      granted: count,
      denied: count,
      lapsed: count,
    }),
    /** `revoked` counts online disks that will not come back. */
    disks: z.object({
      total: count,
      online: count,
      offline: count,
      suspended: count,
      revoked: count,
    }),
    connections: count,
    /** What needs a person: audit log not writable, shard dead, set without answers. */
    alarms: z.array(z.object({ name: z.string(), message: z.string(), since: time })),
  })
  .meta({ id: 'Status', description: 'The daemon.' });
export type Status = z.infer<typeof statusSchema>;

/** An audit record without its chain; what is specific to the kind stands beside the three. */
export const eventSchema = z
  .looseObject({ seq: count, time, kind: z.string() })
  .meta({ id: 'Event', description: 'One line of the event stream.' });
export type AdminEvent = z.infer<typeof eventSchema>;

export const reloadResultSchema = z
  .object({
    /** What was read anew; empty when the config names no TLS files. */
    files: z.array(z.object({ part: z.string(), path: z.string() })),
    /** Keys of the config whose new values are in force, such as vault.proxy. */
    changed: z.array(z.string()),
  })
  .meta({
    id: 'ReloadResult',
    description: 'What is in force since the daemon read its config and TLS files anew.',
  });
export type ReloadResult = z.infer<typeof reloadResultSchema>;

export const errorBodySchema = z
  .object({
    error: z.object({
      /** Stable; docs/ERRORS.md lists them. */
      code: z.string(),
      kind: z.enum(ERROR_KINDS),
      message: z.string(),
      fields: z.record(z.string(), z.unknown()).optional(),
    }),
  })
  .meta({ id: 'Error' });
export type ErrorBody = z.infer<typeof errorBodySchema>;

export const connectionListSchema = z
  .object({ connections: z.array(connectionViewSchema) })
  .meta({ id: 'ConnectionList' });
export const diskListSchema = z.object({ disks: z.array(diskViewSchema) }).meta({ id: 'DiskList' });
export const nameParamsSchema = z.strictObject({ name });

/** What a caller may do: `status` < `operate` < `admin`. */
export const ROLES = ['status', 'operate', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** Who is at the other end of the unix socket, as the kernel says. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly role: Role;
}

/**
 * Gives a caller's connection away: calls `adopt` with its descriptor and with what the caller must
 * receive before anything else, and lets go of the connection when that returns.
 */
export type HandOver = (adopt: (fd: number, greeting: Uint8Array) => void) => void;

/**
 * What the daemon implements and the server calls. Requests are validated and the caller's role is
 * checked before a call. Failures are KeyholdErrors; anything else is answered as internal.
 * `caller` is for the audit log; an implementation that needs none leaves the parameter out.
 */
export interface AdminServices extends SetServices, AuditServices, DoctorServices, CounterServices {
  status(): Promise<Status>;
  listConnections(): Promise<ConnectionView[]>;

  listDisks(): Promise<DiskView[]>;
  showDisk(name: string): Promise<DiskDetail>;
  createDisk(request: CreateDiskRequest, caller: Caller): Promise<DiskView>;
  attachDisk(name: string, caller: Caller): Promise<DiskView>;
  detachDisk(name: string, caller: Caller): Promise<DiskView>;
  restartDisk(name: string, caller: Caller): Promise<DiskView>;
  changeAllow(name: string, change: ChangeAllowRequest, caller: Caller): Promise<AllowResult>;
  moveDisk(name: string, request: MoveDiskRequest, caller: Caller): Promise<DiskView>;
  eraseDisk(name: string, request: ConfirmRequest, caller: Caller): Promise<DiskView>;
  exportKey(name: string, request: ExportKeyRequest, caller: Caller): Promise<ExportedKey>;
  deleteDisk(name: string, options: { deleteStore: boolean }, caller: Caller): Promise<void>;

  /** Serves one disk, and no other, to the caller over its own connection. */
  serveDisk(name: string, caller: Caller, handOver: HandOver): Promise<void>;

  /** Reads the TLS files anew; when one cannot be used, everything stays as it was. */
  reload(caller: Caller): Promise<ReloadResult>;
  /** Calls `listener` for each event from now on, never before it returned; must not block. */
  subscribe(listener: (event: AdminEvent) => void): () => void;
}

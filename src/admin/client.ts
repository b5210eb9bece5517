// SPDX-License-Identifier: Apache-2.0
import type { Socket } from 'node:net';
import type { z } from 'zod';
import {
  allowResultSchema,
  connectionListSchema,
  diskDetailSchema,
  diskListSchema,
  diskViewSchema,
  exportedKeySchema,
  reloadResultSchema,
  statusSchema,
  type AdminEvent,
  type AllowResult,
  type ChangeAllowRequest,
  type ConnectionView,
  type CreateDiskRequest,
  type DiskDetail,
  type DiskView,
  type ExportedKey,
  type ExportKeyRequest,
  type MoveDiskRequest,
  type ReloadResult,
  type Status,
} from './api.js';
import { auditVerifyResultSchema, type AuditVerifyResult } from './api-audit.js';
import {
  checkResultSchema,
  setListSchema,
  setViewSchema,
  type CheckResult,
  type CreateSetRequest,
  type SetView,
  impactSchema,
  purgeReceiptSchema,
  type AssignKeyRequest,
  type ConfirmRequest,
  type DrillRequest,
  type Impact,
  type ImpactQuery,
  type PurgeReceipt,
  type UpdateSetRequest,
} from './api-sets.js';
import type { AuditExportQuery } from './api-audit.js';
import { type Counters, countersSchema } from './api-counters.js';
import { type DoctorReport, doctorReportSchema, type DoctorRequest } from './api-doctor.js';
import {
  call,
  callWithoutAnswer,
  exchange,
  parseJson,
  type Call,
  type Link,
} from './client-link.js';
import { openEvents, openExport, openNbd } from './client-streams.js';

/** Long enough for a set creation against a slow vault with retries; milliseconds. */
const TIMEOUT_MS = 180_000;
/** The admin API as a caller sees it: AdminServices without the caller, events as an iterator. */
export interface AdminClient {
  status(): Promise<Status>;
  listConnections(): Promise<ConnectionView[]>;
  counters(signal?: AbortSignal): Promise<Counters>;
  listSets(): Promise<SetView[]>;
  showSet(name: string): Promise<SetView>;
  createSet(request: CreateSetRequest): Promise<SetView>;
  updateSet(name: string, request: UpdateSetRequest): Promise<SetView>;
  checkSet(name: string): Promise<CheckResult>;
  rotateSet(name: string): Promise<SetView>;
  assignKey(name: string, request: AssignKeyRequest): Promise<SetView>;
  impactOfSet(name: string, query: ImpactQuery): Promise<Impact>;
  beginDrill(name: string, request: DrillRequest): Promise<SetView>;
  endDrill(name: string): Promise<SetView>;
  purgeSet(name: string, request: ConfirmRequest): Promise<PurgeReceipt>;
  deleteSet(name: string): Promise<void>;
  listDisks(): Promise<DiskView[]>;
  showDisk(name: string): Promise<DiskDetail>;
  createDisk(request: CreateDiskRequest): Promise<DiskView>;
  attachDisk(name: string): Promise<DiskView>;
  detachDisk(name: string): Promise<DiskView>;
  restartDisk(name: string): Promise<DiskView>;
  changeAllow(name: string, change: ChangeAllowRequest): Promise<AllowResult>;
  moveDisk(name: string, request: MoveDiskRequest): Promise<DiskView>;
  eraseDisk(name: string, request: ConfirmRequest): Promise<DiskView>;
  exportKey(name: string, request: ExportKeyRequest): Promise<ExportedKey>;
  deleteDisk(name: string, options?: { deleteStore?: boolean }): Promise<void>;
  /** A connection that speaks NBD from its first byte on and serves this one disk. */
  serveDisk(name: string): Promise<Socket>;
  verifyAudit(): Promise<AuditVerifyResult>;
  /**
   * The bytes of an export as they come; resolves with its head. No time limit: the daemon reads
   * the whole log first. The iteration throws when the stream breaks off.
   */
  exportAudit(query: AuditExportQuery): Promise<AsyncIterable<Buffer>>;
  doctor(request: DoctorRequest): Promise<DoctorReport>;
  reload(): Promise<ReloadResult>;
  /** The OpenAPI document that the daemon serves. */
  openApi(): Promise<unknown>;
  /**
   * Resolves once the subscription stands. The iterator ends when the daemon stops or `signal`
   * aborts, and throws ERR_ADMIN_UNREACHABLE when the stream breaks off (a reader too slow, a
   * crash).
   */
  events(signal?: AbortSignal): Promise<AsyncIterable<AdminEvent>>;
}

/** A typed client of the admin API. One connection for each call; nothing to close. */
export function createAdminClient(options: {
  socketPath: string;
  timeoutMs?: number;
}): AdminClient {
  const link: Link = {
    socketPath: options.socketPath,
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
  };
  const get = <T>(path: string, schema: z.ZodType<T>): Promise<T> =>
    call(link, { method: 'GET', path }, schema);
  const post = <T>(path: string, schema: z.ZodType<T>, body?: unknown): Promise<T> =>
    call(link, { method: 'POST', path, ...(body === undefined ? {} : { body }) }, schema);
  const diskAction = (name: string, action: string): Promise<DiskView> =>
    post(`${diskPath(name)}/${action}`, diskViewSchema);
  return {
    status: () => get('/v1/status', statusSchema),
    listConnections: async () => (await get('/v1/connections', connectionListSchema)).connections,
    counters: (signal) => call(link, countersCall, countersSchema, signal),
    listSets: async () => (await get('/v1/sets', setListSchema)).sets,
    showSet: (name) => get(setPath(name), setViewSchema),
    createSet: (body) => post('/v1/sets', setViewSchema, body),
    updateSet: (name, body) =>
      call(link, { method: 'PATCH', path: setPath(name), body }, setViewSchema),
    rotateSet: (name) => post(`${setPath(name)}/rotate`, setViewSchema),
    assignKey: (name, body) => post(`${setPath(name)}/assign-key`, setViewSchema, body),
    impactOfSet: (name, query) =>
      get(`${setPath(name)}/impact?${new URLSearchParams(query).toString()}`, impactSchema),
    beginDrill: (name, body) => post(`${setPath(name)}/drill`, setViewSchema, body),
    endDrill: (name) =>
      call(link, { method: 'DELETE', path: `${setPath(name)}/drill` }, setViewSchema),
    purgeSet: (name, body) => post(`${setPath(name)}/purge`, purgeReceiptSchema, body),
    checkSet: (name) => post(`${setPath(name)}/check`, checkResultSchema),
    deleteSet: (name) => callWithoutAnswer(link, { method: 'DELETE', path: setPath(name) }),
    listDisks: async () => (await get('/v1/disks', diskListSchema)).disks,
    showDisk: (name) => get(diskPath(name), diskDetailSchema),
    createDisk: (body) => post('/v1/disks', diskViewSchema, body),
    attachDisk: (name) => diskAction(name, 'attach'),
    detachDisk: (name) => diskAction(name, 'detach'),
    restartDisk: (name) => diskAction(name, 'restart'),
    moveDisk: (name, body) => post(`${diskPath(name)}/move`, diskViewSchema, body),
    eraseDisk: (name, body) => post(`${diskPath(name)}/erase`, diskViewSchema, body),
    exportKey: (name, body) => post(`${diskPath(name)}/export-key`, exportedKeySchema, body),
    changeAllow: (name, body) =>
      call(link, { method: 'PATCH', path: `${diskPath(name)}/allow`, body }, allowResultSchema),
    deleteDisk(name, { deleteStore = false } = {}) {
      const path = `${diskPath(name)}?deleteStore=${deleteStore}`;
      return callWithoutAnswer(link, { method: 'DELETE', path });
    },
    serveDisk: (name) => openNbd(link, { method: 'GET', path: `${diskPath(name)}/nbd` }),
    verifyAudit: () => post('/v1/audit/verify', auditVerifyResultSchema),
    exportAudit: (query) => openExport(link, query),
    doctor: (request) => post('/v1/doctor', doctorReportSchema, request),
    reload: () => post('/v1/reload', reloadResultSchema),
    openApi: async () => parseJson(link, await exchange(link, openApiCall)),
    events: (signal) => openEvents(link, signal),
  };
}

const countersCall: Call = { method: 'GET', path: '/v1/counters' };
const openApiCall: Call = { method: 'GET', path: '/v1/openapi.json' };

function setPath(name: string): string {
  return `/v1/sets/${encodeURIComponent(name)}`;
}

function diskPath(name: string): string {
  return `/v1/disks/${encodeURIComponent(name)}`;
}

// SPDX-License-Identifier: Apache-2.0
import type { z } from 'zod';
import {
  allowResultSchema,
  auditVerifyResultSchema,
  changeAllowRequestSchema,
  checkResultSchema,
  connectionListSchema,
  createDiskRequestSchema,
  createSetRequestSchema,
  deleteDiskQuerySchema,
  diskDetailSchema,
  diskListSchema,
  diskViewSchema,
  nameParamsSchema,
  reloadResultSchema,
  setListSchema,
  setViewSchema,
  statusSchema,
  type AdminServices,
  type Caller,
  type Role,
} from './api.js';
import { doctorRoutes } from './routes-doctor.js';

export interface RouteInput {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly caller: Caller;
}

/** One operation of the API: what validates it, who may call it, what it calls. */
export interface AdminRoute {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly url: string;
  readonly role: Role;
  readonly operationId: string;
  readonly summary: string;
  readonly params?: z.ZodType;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  readonly status: 200 | 201 | 204;
  /** Left out exactly with status 204. */
  readonly answer?: z.ZodType;
  call(services: AdminServices, input: RouteInput): Promise<unknown>;
}

/**
 * Every operation but the event stream and the OpenAPI document.
 *
 * Who may what: `status` shows the daemon's state and nothing about disks or keys. `operate` (group
 * keyhold) sees everything and does what running a host needs: attach, detach, restart, check,
 * events, audit. Creating and deleting stays with `admin`: a set decides which key and whose
 * identity protects data, a disk's store is a path that the daemon opens with its own rights, its
 * allow list opens it to others, and a deletion cannot be taken back.
 */
export function createRoutes(): AdminRoute[] {
  return [...statusRoutes(), ...setRoutes(), ...diskRoutes(), ...doctorRoutes()];
}

function statusRoutes(): AdminRoute[] {
  return [
    {
      method: 'GET',
      url: '/v1/status',
      role: 'status',
      operationId: 'status',
      summary: 'State of the daemon',
      status: 200,
      answer: statusSchema,
      call: (services) => services.status(),
    },
    {
      method: 'GET',
      url: '/v1/connections',
      role: 'operate',
      operationId: 'listConnections',
      summary: 'All NBD connections: peer, identity, disk, counters',
      status: 200,
      answer: connectionListSchema,
      call: async (services) => ({ connections: await services.listConnections() }),
    },
    {
      method: 'POST',
      url: '/v1/audit/verify',
      role: 'operate',
      operationId: 'verifyAudit',
      summary: 'Checks the hash chain of the audit log',
      status: 200,
      answer: auditVerifyResultSchema,
      call: (services) => services.verifyAudit(),
    },
    {
      method: 'POST',
      url: '/v1/reload',
      role: 'operate',
      operationId: 'reload',
      summary: 'Reads the TLS certificate, keys and client CA anew; clients stay connected',
      status: 200,
      answer: reloadResultSchema,
      call: (services, { caller }) => services.reload(caller),
    },
  ];
}

function setRoutes(): AdminRoute[] {
  return [
    {
      method: 'GET',
      url: '/v1/sets',
      role: 'operate',
      operationId: 'listSets',
      summary: 'All encryption sets',
      status: 200,
      answer: setListSchema,
      call: async (services) => ({ sets: await services.listSets() }),
    },
    {
      method: 'POST',
      url: '/v1/sets',
      role: 'admin',
      operationId: 'createSet',
      summary: 'Creates an encryption set: a new set key, wrapped and proved by a remote unwrap',
      body: createSetRequestSchema,
      status: 201,
      answer: setViewSchema,
      call: (services, { body, caller }) =>
        services.createSet(body as z.infer<typeof createSetRequestSchema>, caller),
    },
    {
      ...one('set'),
      method: 'GET',
      url: '/v1/sets/:name',
      role: 'operate',
      summary: 'One encryption set',
      answer: setViewSchema,
      call: (services, { params }) => services.showSet(nameOf(params)),
    },
    {
      ...one('set', 'check'),
      method: 'POST',
      url: '/v1/sets/:name/check',
      role: 'operate',
      summary: 'Probes every key of the set now and acts on the verdict',
      answer: checkResultSchema,
      call: (services, { params, caller }) => services.checkSet(nameOf(params), caller),
    },
    {
      method: 'DELETE',
      url: '/v1/sets/:name',
      role: 'admin',
      operationId: 'deleteSet',
      summary: 'Deletes an encryption set without disks',
      params: nameParamsSchema,
      status: 204,
      call: (services, { params, caller }) => services.deleteSet(nameOf(params), caller),
    },
  ];
}

function diskRoutes(): AdminRoute[] {
  return [
    {
      method: 'GET',
      url: '/v1/disks',
      role: 'operate',
      operationId: 'listDisks',
      summary: 'All disks',
      status: 200,
      answer: diskListSchema,
      call: async (services) => ({ disks: await services.listDisks() }),
    },
    {
      method: 'POST',
      url: '/v1/disks',
      role: 'admin',
      operationId: 'createDisk',
      summary: 'Creates a disk and attaches it',
      body: createDiskRequestSchema,
      status: 201,
      answer: diskViewSchema,
      call: (services, { body, caller }) =>
        services.createDisk(body as z.infer<typeof createDiskRequestSchema>, caller),
    },
    {
      ...one('disk'),
      method: 'GET',
      url: '/v1/disks/:name',
      role: 'operate',
      summary: 'One disk with its clients',
      answer: diskDetailSchema,
      call: (services, { params }) => services.showDisk(nameOf(params)),
    },
    ...diskActionRoutes(),
    allowRoute(),
    {
      method: 'DELETE',
      url: '/v1/disks/:name',
      role: 'admin',
      operationId: 'deleteDisk',
      summary: 'Deletes a disk; its store only with deleteStore=true',
      params: nameParamsSchema,
      query: deleteDiskQuerySchema,
      status: 204,
      call: (services, { params, query, caller }) => {
        const { deleteStore } = query as z.infer<typeof deleteDiskQuerySchema>;
        return services.deleteDisk(nameOf(params), { deleteStore: deleteStore === 'true' }, caller);
      },
    },
  ];
}

function allowRoute(): AdminRoute {
  return {
    method: 'PATCH',
    url: '/v1/disks/:name/allow',
    role: 'admin',
    operationId: 'changeAllow',
    summary: 'Changes who may use the disk; closes sessions that lose their right',
    params: nameParamsSchema,
    body: changeAllowRequestSchema,
    status: 200,
    answer: allowResultSchema,
    call: (services, { params, body, caller }) => {
      const change = body as z.infer<typeof changeAllowRequestSchema>;
      return services.changeAllow(nameOf(params), change, caller);
    },
  };
}

function diskActionRoutes(): AdminRoute[] {
  const actions = [
    ['attach', 'attachDisk', 'Attaches a disk: online as soon as its key is accessible'],
    ['detach', 'detachDisk', 'Takes a disk offline and keeps it so'],
    ['restart', 'restartDisk', 'Takes a disk offline and attaches it again'],
  ] as const;
  return actions.map(([action, method, summary]) => ({
    ...one('disk', action),
    method: 'POST',
    url: `/v1/disks/:name/${action}`,
    role: 'operate',
    summary,
    answer: diskViewSchema,
    call: (services, { params, caller }) => services[method](nameOf(params), caller),
  }));
}

/** What the operations on one named object have in common. */
function one(
  noun: 'set' | 'disk',
  verb = 'show',
): Pick<AdminRoute, 'operationId' | 'params' | 'status'> {
  const operationId = `${verb}${noun.charAt(0).toUpperCase()}${noun.slice(1)}`;
  return { operationId, params: nameParamsSchema, status: 200 };
}

function nameOf(params: unknown): string {
  return (params as z.infer<typeof nameParamsSchema>).name;
}

// SPDX-License-Identifier: Apache-2.0
import type { z } from 'zod';
import {
  allowResultSchema,
  changeAllowRequestSchema,
  connectionListSchema,
  createDiskRequestSchema,
  deleteDiskQuerySchema,
  diskDetailSchema,
  diskListSchema,
  diskViewSchema,
  exportedKeySchema,
  exportKeyRequestSchema,
  moveDiskRequestSchema,
  nameParamsSchema,
  reloadResultSchema,
  statusSchema,
} from './api.js';
import { auditVerifyResultSchema } from './api-audit.js';
import { countersSchema } from './api-counters.js';
import { confirmRequestSchema } from './api-sets.js';
import { type AdminRoute, nameOf, one } from './route.js';
import { setRoutes } from './routes-sets.js';
import { doctorRoutes } from './routes-doctor.js';

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
      method: 'GET',
      url: '/v1/counters',
      role: 'operate',
      operationId: 'counters',
      summary: 'Counters of every disk and shard, for whoever wants rates',
      status: 200,
      answer: countersSchema,
      call: (services) => services.counters(),
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
      summary:
        'Reads the config and the TLS files that it names anew, all or nothing; clients stay connected',
      status: 200,
      answer: reloadResultSchema,
      call: (services, { caller }) => services.reload(caller),
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
    ...diskKeyRoutes(),
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

/** They need more than running a host: which key opens a disk, that none does, or who has it. */
function diskKeyRoutes(): AdminRoute[] {
  return [
    {
      ...one('disk', 'move'),
      method: 'POST',
      url: '/v1/disks/:name/move',
      role: 'admin',
      summary: "Seals the disk's key under another encryption set; data and sessions go on",
      body: moveDiskRequestSchema,
      answer: diskViewSchema,
      call: (services, { params, body, caller }) => {
        const request = body as z.infer<typeof moveDiskRequestSchema>;
        return services.moveDisk(nameOf(params), request, caller);
      },
    },
    {
      ...one('disk', 'erase'),
      method: 'POST',
      url: '/v1/disks/:name/erase',
      role: 'admin',
      summary: 'Destroys the key of an offline disk for ever; must be confirmed by its name',
      body: confirmRequestSchema,
      answer: diskViewSchema,
      call: (services, { params, body, caller }) => {
        const request = body as z.infer<typeof confirmRequestSchema>;
        return services.eraseDisk(nameOf(params), request, caller);
      },
    },
    {
      method: 'POST',
      url: '/v1/disks/:name/export-key',
      role: 'admin',
      operationId: 'exportKey',
      summary:
        "Writes the disk's key to a new file on the daemon's host; must be confirmed by its name",
      params: nameParamsSchema,
      body: exportKeyRequestSchema,
      status: 200,
      answer: exportedKeySchema,
      call: (services, { params, body, caller }) => {
        const request = body as z.infer<typeof exportKeyRequestSchema>;
        return services.exportKey(nameOf(params), request, caller);
      },
    },
  ];
}

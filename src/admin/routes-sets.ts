// SPDX-License-Identifier: Apache-2.0
import type { z } from 'zod';
import { nameParamsSchema } from './api.js';
import {
  assignKeyRequestSchema,
  checkResultSchema,
  confirmRequestSchema,
  createSetRequestSchema,
  drillRequestSchema,
  impactQuerySchema,
  impactSchema,
  purgeReceiptSchema,
  setListSchema,
  setViewSchema,
  updateSetRequestSchema,
} from './api-sets.js';
import { type AdminRoute, nameOf, one } from './route.js';

/** Operations on encryption sets. */
export function setRoutes(): AdminRoute[] {
  return [...basicRoutes(), ...policyRoutes(), ...keyRoutes()];
}

function basicRoutes(): AdminRoute[] {
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
      summary: 'One encryption set, with what every header of it depends on now',
      answer: setViewSchema,
      call: (services, { params }) => services.showSet(nameOf(params)),
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

function policyRoutes(): AdminRoute[] {
  return [
    {
      ...one('set', 'update'),
      method: 'PATCH',
      url: '/v1/sets/:name',
      role: 'admin',
      summary: 'Changes the policy of an encryption set',
      body: updateSetRequestSchema,
      answer: setViewSchema,
      call: (services, { params, body, caller }) => {
        const request = body as z.infer<typeof updateSetRequestSchema>;
        return services.updateSet(nameOf(params), request, caller);
      },
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
  ];
}

function keyRoutes(): AdminRoute[] {
  return [
    {
      ...one('set', 'rotate'),
      method: 'POST',
      url: '/v1/sets/:name/rotate',
      role: 'operate',
      summary: 'Looks for newer versions of the keys now, and rewraps the set key',
      answer: setViewSchema,
      call: (services, { params, caller }) => services.rotateSet(nameOf(params), caller),
    },
    {
      method: 'POST',
      url: '/v1/sets/:name/assign-key',
      role: 'admin',
      operationId: 'assignKey',
      summary: 'Puts the set on another customer key, or on the platform key',
      params: nameParamsSchema,
      body: assignKeyRequestSchema,
      status: 200,
      answer: setViewSchema,
      call: (services, { params, body, caller }) => {
        const request = body as z.infer<typeof assignKeyRequestSchema>;
        return services.assignKey(nameOf(params), request, caller);
      },
    },
    {
      method: 'GET',
      url: '/v1/sets/:name/impact',
      role: 'operate',
      operationId: 'impactOfSet',
      summary:
        'What would happen now if a key version were disabled or deleted, or no vault answered',
      params: nameParamsSchema,
      query: impactQuerySchema,
      status: 200,
      answer: impactSchema,
      call: (services, { params, query }) =>
        services.impactOfSet(nameOf(params), query as z.infer<typeof impactQuerySchema>),
    },
    ...drillRoutes(),
    {
      ...one('set', 'purge'),
      method: 'POST',
      url: '/v1/sets/:name/purge',
      role: 'admin',
      summary: 'Destroys every way to the set key, for ever; the customer keys must be denied',
      body: confirmRequestSchema,
      answer: purgeReceiptSchema,
      call: (services, { params, body, caller }) => {
        const request = body as z.infer<typeof confirmRequestSchema>;
        return services.purgeSet(nameOf(params), request, caller);
      },
    },
  ];
}

function drillRoutes(): AdminRoute[] {
  const common = { url: '/v1/sets/:name/drill', params: nameParamsSchema, status: 200 } as const;
  return [
    {
      ...common,
      method: 'POST',
      role: 'admin',
      operationId: 'beginDrill',
      summary: 'Simulates verdicts about the keys of the set for a time; what follows is real',
      body: drillRequestSchema,
      answer: setViewSchema,
      call: (services, { params, body, caller }) => {
        const request = body as z.infer<typeof drillRequestSchema>;
        return services.beginDrill(nameOf(params), request, caller);
      },
    },
    {
      ...common,
      method: 'DELETE',
      role: 'admin',
      operationId: 'endDrill',
      summary: 'Ends a drill, and asks the vaults again',
      answer: setViewSchema,
      call: (services, { params, caller }) => services.endDrill(nameOf(params), caller),
    },
  ];
}

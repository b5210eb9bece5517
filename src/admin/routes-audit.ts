// SPDX-License-Identifier: Apache-2.0
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import { Readable } from 'node:stream';
import type { AdminServices, Caller } from './api.js';
import { type AuditExportQuery, auditExportQuerySchema, auditExportSchema } from './api-audit.js';
import type { RouteDocument } from './openapi.js';

export const AUDIT_EXPORT_PATH = '/v1/audit/export';

const document: RouteDocument = {
  operationId: 'exportAudit',
  summary: 'Records of the audit log with what vouches for them; a broken log too, and it says so',
  query: auditExportQuerySchema,
  status: 200,
  answer: auditExportSchema,
};

/**
 * A route of its own, because its answer may be gigabytes: it is sent as it is read, and never
 * parsed. When reading fails in between, the connection breaks off.
 */
export function auditExportRoute(parts: {
  services: AdminServices;
  onRequest: NonNullable<RouteOptions['onRequest']>;
  callerOf: (request: FastifyRequest) => Caller;
}): RouteOptions {
  return {
    method: 'GET',
    url: AUDIT_EXPORT_PATH,
    config: { document },
    schema: { querystring: auditExportQuerySchema },
    onRequest: parts.onRequest,
    handler: async (request: FastifyRequest, reply: FastifyReply) => {
      const query = request.query as AuditExportQuery;
      const text = await parts.services.exportAudit(query, parts.callerOf(request));
      reply.header('content-type', 'application/json; charset=utf-8');
      reply.header('cache-control', 'no-store');
      return reply.send(Readable.from(text, { objectMode: false }));
    },
  };
}

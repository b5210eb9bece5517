// SPDX-License-Identifier: Apache-2.0
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';
import { z } from 'zod';
import {
  allowResultSchema,
  reloadResultSchema,
  changeAllowRequestSchema,
  connectionListSchema,
  connectionViewSchema,
  createDiskRequestSchema,
  diskDetailSchema,
  diskListSchema,
  diskViewSchema,
  errorBodySchema,
  exportedKeySchema,
  exportKeyRequestSchema,
  moveDiskRequestSchema,
  eventSchema,
  statusSchema,
} from './api.js';
import { auditVerifyResultSchema } from './api-audit.js';
import {
  checkResultSchema,
  createSetRequestSchema,
  setKeyViewSchema,
  setListSchema,
  setViewSchema,
  assignKeyRequestSchema,
  confirmRequestSchema,
  drillRequestSchema,
  impactSchema,
  purgeReceiptSchema,
  updateSetRequestSchema,
} from './api-sets.js';
import { countersSchema } from './api-counters.js';
import { auditExportSchema } from './api-audit.js';
import { doctorReportSchema, doctorRequestSchema } from './api-doctor.js';

/** What a route tells the document about itself, in its fastify config. */
export interface RouteDocument {
  readonly operationId: string;
  readonly summary: string;
  readonly params?: z.ZodType;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  readonly status: number;
  readonly answer?: z.ZodType;
  /** Left out: application/json. */
  readonly mediaType?: string;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    document?: RouteDocument;
  }
}

type JsonSchema = Record<string, unknown>;

/** The schemas that the document names; everything else stands where it is used. */
const NAMED_SCHEMAS = [
  assignKeyRequestSchema,
  confirmRequestSchema,
  drillRequestSchema,
  impactSchema,
  purgeReceiptSchema,
  updateSetRequestSchema,
  moveDiskRequestSchema,
  exportedKeySchema,
  exportKeyRequestSchema,
  allowResultSchema,
  auditExportSchema,
  auditVerifyResultSchema,
  reloadResultSchema,
  changeAllowRequestSchema,
  checkResultSchema,
  connectionListSchema,
  connectionViewSchema,
  countersSchema,
  createDiskRequestSchema,
  createSetRequestSchema,
  diskDetailSchema,
  diskListSchema,
  diskViewSchema,
  doctorReportSchema,
  doctorRequestSchema,
  errorBodySchema,
  eventSchema,
  setKeyViewSchema,
  setListSchema,
  setViewSchema,
  statusSchema,
];

const ERROR_DESCRIPTION =
  'Error: `code` is stable, `kind` decides the HTTP status, `message` is for people';

/** Options of @fastify/swagger: an OpenAPI 3.1 document made from the schemas that validate. */
export function openApiOptions(version: string): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Keyhold admin API',
        version,
        description:
          'HTTP on a unix socket. Callers are known by SO_PEERCRED; there are no credentials.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: 'http://localhost' }],
    },
    transform: ({ schema, url, route }) => {
      const { document } = route.config ?? {};
      return document === undefined ? { schema, url } : { schema: describeRoute(document), url };
    },
    transformObject: (documentObject) => {
      if (!('openapiObject' in documentObject)) return documentObject.swaggerObject;
      const document = documentObject.openapiObject;
      return Object.assign(document, {
        components: { ...document.components, schemas: componentSchemas() },
      });
    },
  };
}

function describeRoute(route: RouteDocument): JsonSchema {
  const content = (schema: z.ZodType): JsonSchema => ({
    content: { [route.mediaType ?? 'application/json']: { schema: reference(schema) } },
  });
  return {
    operationId: route.operationId,
    summary: route.summary,
    ...(route.params === undefined ? {} : { params: inline(route.params) }),
    ...(route.query === undefined ? {} : { querystring: inline(route.query) }),
    ...(route.body === undefined ? {} : { body: reference(route.body) }),
    response: {
      [route.status]:
        route.answer === undefined
          ? { type: 'null', description: 'Done' }
          : { description: 'Done', ...content(route.answer) },
      default: {
        description: ERROR_DESCRIPTION,
        content: { 'application/json': { schema: reference(errorBodySchema) } },
      },
    },
  };
}

function reference(schema: z.ZodType): JsonSchema {
  const id = schema.meta()?.id;
  return id === undefined ? inline(schema) : { $ref: `#/components/schemas/${id}` };
}

function inline(schema: z.ZodType): JsonSchema {
  // An empty registry: without ids every part stands in place.
  return without(z.toJSONSchema(schema, { io: 'input', metadata: z.registry() }), ['$schema']);
}

function componentSchemas(): JsonSchema {
  const registry = z.registry<{ id?: string | undefined }>();
  for (const schema of NAMED_SCHEMAS) registry.add(schema, schema.meta() ?? {});
  const { schemas } = z.toJSONSchema(registry, {
    io: 'input',
    uri: (id) => `#/components/schemas/${id}`,
  });
  const ids = Object.entries(schemas);
  return Object.fromEntries(
    ids.map(([id, schema]) => [id, without(schema, ['$schema', '$id', 'id'])]),
  );
}

function without(schema: object, names: readonly string[]): JsonSchema {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => !names.includes(name)));
}

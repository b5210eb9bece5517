// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { startFixture } from './support.js';

interface Operation {
  operationId: string;
  requestBody?: { content: Record<string, { schema: unknown }> };
  responses: Record<string, unknown>;
  parameters?: { name: string; in: string; required?: boolean }[];
}

interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, { properties?: object; additionalProperties?: unknown }> };
}

async function load(t: Parameters<typeof startFixture>[0]): Promise<Document> {
  const { client } = await startFixture(t);
  return (await client.openApi()) as Document;
}

void test('the document is OpenAPI 3.1 and names every operation', async (t) => {
  const { openapi, paths } = await load(t);
  t.equal(openapi, '3.1.0');
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]) => `${one.operationId}: ${method} ${path}`),
  );
  t.same(operations.sort(), [
    'assignKey: post /v1/sets/{name}/assign-key',
    'attachDisk: post /v1/disks/{name}/attach',
    'beginDrill: post /v1/sets/{name}/drill',
    'changeAllow: patch /v1/disks/{name}/allow',
    'checkSet: post /v1/sets/{name}/check',
    'counters: get /v1/counters',
    'createDisk: post /v1/disks',
    'createSet: post /v1/sets',
    'deleteDisk: delete /v1/disks/{name}',
    'deleteSet: delete /v1/sets/{name}',
    'detachDisk: post /v1/disks/{name}/detach',
    'doctor: post /v1/doctor',
    'endDrill: delete /v1/sets/{name}/drill',
    'eraseDisk: post /v1/disks/{name}/erase',
    'events: get /v1/events',
    'exportAudit: get /v1/audit/export',
    'exportKey: post /v1/disks/{name}/export-key',
    'impactOfSet: get /v1/sets/{name}/impact',
    'listConnections: get /v1/connections',
    'listDisks: get /v1/disks',
    'listSets: get /v1/sets',
    'moveDisk: post /v1/disks/{name}/move',
    'purgeSet: post /v1/sets/{name}/purge',
    'reload: post /v1/reload',
    'restartDisk: post /v1/disks/{name}/restart',
    'rotateSet: post /v1/sets/{name}/rotate',
    'showDisk: get /v1/disks/{name}',
    'showSet: get /v1/sets/{name}',
    'status: get /v1/status',
    'updateSet: patch /v1/sets/{name}',
    'verifyAudit: post /v1/audit/verify',
  ]);
});

void test('every reference leads somewhere', async (t) => {
  const document = await load(t);
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map((m) => m[1]);
  t.ok(references.length > 20);
  for (const reference of new Set(references)) {
    const name = /^#\/components\/schemas\/(\w+)$/.exec(reference ?? '')?.[1] ?? '';
    t.hasProp(document.components.schemas, name, { reference });
  }
});

void test('requests are closed, answers are open', async (t) => {
  const { schemas } = (await load(t)).components;
  t.equal(schemas['CreateDisk']?.additionalProperties, false);
  t.not(schemas['Disk']?.additionalProperties, false);
});

void test('a disk has the fields that scripts rely on', async (t) => {
  const { schemas } = (await load(t)).components;
  t.same(Object.keys(schemas['Disk']?.properties ?? {}).slice(0, 14), [
    'name',
    'uuid',
    'state',
    'reason',
    'revoked',
    'since',
    'sizeBytes',
    'sectorSizeBytes',
    'store',
    'set',
    'keyVersion',
    'vaultRequestId',
    'clients',
    'leaseSecondsLeft',
  ]);
});

void test('parameters, bodies and errors are described', async (t) => {
  const { paths } = await load(t);
  const remove = paths['/v1/disks/{name}']?.['delete'];
  t.match(remove?.parameters, [
    { name: 'deleteStore', in: 'query' },
    { name: 'name', in: 'path', required: true },
  ]);
  t.same(Object.keys(remove?.responses ?? {}).sort(), ['204', 'default']);
  t.match(paths['/v1/disks']?.['post'], {
    requestBody: {
      content: { 'application/json': { schema: { $ref: '#/components/schemas/CreateDisk' } } },
    },
  });
  t.match(paths['/v1/events']?.['get']?.responses['200'], {
    content: { 'application/x-ndjson': {} },
  });
});

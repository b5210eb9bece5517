// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import {
  deletedKeyBundle,
  deletedKeyItem,
  keyBundle,
  keyItem,
  kidOf,
  rotationPolicyBody,
} from './bundles.js';
import { CURVES, RSA_SIZES_BITS, type KeySpec } from './key-crypto.js';
import type { KeyRing, NamedVersion } from './key-ring.js';
import { keyOperationSchema, type Permission } from './operations.js';
import { badParameter } from './refusals.js';
import type { VaultState } from './state.js';

export interface RestAnswer {
  readonly status: number;
  readonly body?: object;
  /** Versioned key id, for the request log. */
  readonly kid?: string;
}

/** What a handler works with. `state` is what was current when the request came in. */
export interface RestContext {
  readonly keys: KeyRing;
  readonly state: VaultState;
  readonly baseUrl: string;
}

export interface RestRoute {
  readonly permission: Permission;
  readonly name: string | undefined;
  /** Empty: the newest. */
  readonly version: string;
  run(context: RestContext, request: { query: URLSearchParams; body: Buffer }): Promise<RestAnswer>;
}

interface Match {
  readonly name: string;
  readonly version: string;
}

type Handler = (
  context: RestContext,
  match: Match,
  request: { query: URLSearchParams; body: Buffer },
) => RestAnswer | Promise<RestAnswer>;

interface RouteEntry {
  readonly method: string;
  readonly pattern: RegExp;
  readonly permission: Permission;
  readonly handler: Handler;
}

/**
 * Finds what a request asks for. The first matching entry counts: `versions` and the like stand
 * before the entries with a version. Undefined: the vault has no such operation.
 */
export function routeRequest(method: string, path: string): RestRoute | undefined {
  for (const { pattern, permission, handler, ...entry } of ROUTES) {
    const match = entry.method === method ? pattern.exec(path) : null;
    if (match === null) continue;
    // Names and versions are letters, digits and hyphens: what is percent-encoded is refused below.
    const name = match.groups?.['name'];
    const named: Match = { name: name ?? '', version: match.groups?.['version'] ?? '' };
    return {
      permission,
      name,
      version: named.version,
      async run(context, request) {
        if (name !== undefined && !/^[0-9a-zA-Z-]{1,127}$/.test(name)) {
          throw badParameter(`The request URI contains an invalid name: ${name.slice(0, 200)}`);
        }
        assertApiVersion(request.query);
        return handler(context, named, request);
      },
    };
  }
  return undefined;
}

const NAME = '/(?<name>[^/]+)';
const VERSION = '/(?<version>[^/]*)';

function entry(method: string, path: string, permission: Permission, handler: Handler): RouteEntry {
  return { method, pattern: new RegExp(`^${path}/?$`), permission, handler };
}

const ROUTES: readonly RouteEntry[] = [
  entry('GET', '/keys', 'list', listKeys),
  entry('POST', `/keys${NAME}/create`, 'create', createKey),
  entry('POST', `/keys${NAME}/rotate`, 'rotate', async (context, { name }) =>
    answerKey(context, await context.keys.rotate(name)),
  ),
  entry('GET', `/keys${NAME}/versions`, 'list', listVersions),
  entry(
    'GET',
    `/keys${NAME}/rotationpolicy`,
    'getRotationPolicy',
    ({ baseUrl, keys }, { name }) => ({
      status: 200,
      body: rotationPolicyBody(baseUrl, name, keys.rotationPolicy(name)),
    }),
  ),
  entry('PUT', `/keys${NAME}/rotationpolicy`, 'setRotationPolicy', setRotationPolicy),
  entry('DELETE', `/keys${NAME}`, 'delete', async ({ keys, baseUrl, state }, { name }) => ({
    status: 200,
    body: deletedKeyBundle(baseUrl, state, name, await keys.delete(name)),
  })),
  entry('GET', `/keys${NAME}`, 'get', getKey),
  entry('GET', `/keys${NAME}${VERSION}`, 'get', getKey),
  entry('PATCH', `/keys${NAME}`, 'update', updateKey),
  entry('PATCH', `/keys${NAME}${VERSION}`, 'update', updateKey),
  entry('POST', `/keys${NAME}${VERSION}/wrapkey`, 'wrapKey', cipherHandler('wrapKey')),
  entry('POST', `/keys${NAME}${VERSION}/unwrapkey`, 'unwrapKey', cipherHandler('unwrapKey')),
  entry('POST', `/keys${NAME}${VERSION}/encrypt`, 'encrypt', cipherHandler('encrypt')),
  entry('POST', `/keys${NAME}${VERSION}/decrypt`, 'decrypt', cipherHandler('decrypt')),
  entry('GET', '/deletedkeys', 'list', listDeletedKeys),
  entry('POST', `/deletedkeys${NAME}/recover`, 'recover', async (context, { name }) =>
    answerKey(context, await context.keys.recover(name)),
  ),
  entry('GET', `/deletedkeys${NAME}`, 'get', ({ keys, baseUrl, state }, { name }) => ({
    status: 200,
    body: deletedKeyBundle(baseUrl, state, name, keys.deletedKey(name)),
  })),
  entry('DELETE', `/deletedkeys${NAME}`, 'purge', async ({ keys }, { name }) => {
    await keys.purge(name);
    return { status: 204 };
  }),
];

function getKey(context: RestContext, { name, version }: Match): RestAnswer {
  return answerKey(context, context.keys.get(name, version));
}

const attributesSchema = z.object({
  enabled: z.boolean().nullish(),
  nbf: z.int().nonnegative().nullish(),
  exp: z.int().nonnegative().nullish(),
});

const createSchema = z.object({
  kty: z.enum(['RSA', 'RSA-HSM', 'EC']),
  key_size: z.literal(RSA_SIZES_BITS).nullish(),
  crv: z.enum(CURVES).nullish(),
  key_ops: z.array(keyOperationSchema).nullish(),
  attributes: attributesSchema.nullish(),
  tags: z.record(z.string(), z.string()).nullish(),
});

async function createKey(
  context: RestContext,
  { name }: Match,
  request: { body: Buffer },
): Promise<RestAnswer> {
  const body = parseBody(createSchema, request.body);
  const spec: KeySpec =
    body.kty === 'EC'
      ? { kty: 'EC', curve: body.crv ?? 'P-256' }
      : { kty: body.kty, sizeBits: body.key_size ?? 2048 };
  const key = await context.keys.create(name, {
    spec,
    keyOps: body.key_ops ?? undefined,
    enabled: body.attributes?.enabled ?? undefined,
    nbf: body.attributes?.nbf ?? undefined,
    exp: body.attributes?.exp ?? undefined,
    tags: body.tags ?? undefined,
  });
  return answerKey(context, key);
}

const updateSchema = createSchema.pick({ key_ops: true, attributes: true, tags: true });

async function updateKey(
  context: RestContext,
  { name, version }: Match,
  request: { body: Buffer },
): Promise<RestAnswer> {
  const body = parseBody(updateSchema, request.body);
  const key = await context.keys.update(name, version, {
    keyOps: body.key_ops ?? undefined,
    enabled: body.attributes?.enabled ?? undefined,
    nbf: body.attributes?.nbf,
    exp: body.attributes?.exp,
    tags: body.tags ?? undefined,
  });
  return answerKey(context, key);
}

const base64urlSchema = z.string().regex(/^[A-Za-z0-9_-]+={0,2}$/);
const cipherSchema = z.object({ alg: z.string(), value: base64urlSchema });

function cipherHandler(operation: 'wrapKey' | 'unwrapKey' | 'encrypt' | 'decrypt'): Handler {
  return ({ keys, baseUrl }, { name, version }, request) => {
    const { alg, value } = parseBody(cipherSchema, request.body);
    const input = Buffer.from(value, 'base64url');
    const result = keys.cipher(name, version, { operation, algorithm: alg, value: input });
    const kid = kidOf(baseUrl, result);
    return { status: 200, body: { kid, value: result.value.toString('base64url') }, kid };
  };
}

const rotationPolicySchema = z.object({
  lifetimeActions: z.array(z.unknown()).max(10).default([]),
  attributes: z.object({ expiryTime: z.string().nullish() }).nullish(),
});

async function setRotationPolicy(
  { keys, baseUrl }: RestContext,
  { name }: Match,
  request: { body: Buffer },
): Promise<RestAnswer> {
  const body = parseBody(rotationPolicySchema, request.body);
  const policy = await keys.setRotationPolicy(name, {
    lifetimeActions: body.lifetimeActions,
    expiryTime: body.attributes?.expiryTime ?? null,
  });
  return { status: 200, body: rotationPolicyBody(baseUrl, name, policy) };
}

function listKeys(
  { keys, state, baseUrl }: RestContext,
  _match: Match,
  { query }: { query: URLSearchParams },
): RestAnswer {
  const items = keys
    .names()
    .map((name) => keyItem(`${baseUrl}/keys/${name}`, state, keys.get(name).version));
  return answerPage(items, `${baseUrl}/keys`, query);
}

function listVersions(
  { keys, state, baseUrl }: RestContext,
  { name }: Match,
  { query }: { query: URLSearchParams },
): RestAnswer {
  const items = keys
    .versions(name)
    .map((version) => keyItem(kidOf(baseUrl, { name, version }), state, version));
  return answerPage(items, `${baseUrl}/keys/${name}/versions`, query);
}

function listDeletedKeys(
  { keys, state, baseUrl }: RestContext,
  _match: Match,
  { query }: { query: URLSearchParams },
): RestAnswer {
  const items = keys
    .deletedNames()
    .map((name) => deletedKeyItem(baseUrl, state, name, keys.deletedKey(name)));
  return answerPage(items, `${baseUrl}/deletedkeys`, query);
}

/** The service's largest page. */
const PAGE_ITEMS_MAX = 25;

function answerPage(items: object[], url: string, query: URLSearchParams): RestAnswer {
  const size = Number(query.get('maxresults') ?? PAGE_ITEMS_MAX);
  const start = Number(query.get('$skiptoken') ?? 0);
  if (!Number.isInteger(size) || size < 1 || size > PAGE_ITEMS_MAX) {
    throw badParameter(`maxresults must be between 1 and ${PAGE_ITEMS_MAX}.`);
  }
  if (!Number.isSafeInteger(start) || start < 0) throw badParameter('$skiptoken is invalid.');
  const next = new URLSearchParams({
    'api-version': query.get('api-version') ?? '',
    $skiptoken: String(start + size),
    maxresults: String(size),
  });
  const hasMore = start + size < items.length;
  return {
    status: 200,
    body: {
      value: items.slice(start, start + size),
      nextLink: hasMore ? `${url}?${next.toString()}` : null,
    },
  };
}

function answerKey({ baseUrl, state }: RestContext, key: NamedVersion): RestAnswer {
  return { status: 200, body: keyBundle(baseUrl, state, key), kid: kidOf(baseUrl, key) };
}

function assertApiVersion(query: URLSearchParams): void {
  const version = query.get('api-version');
  if (version === null)
    throw badParameter('The request must include the query string api-version.');
  if (!/^(7\.\d+|20\d\d-\d\d-\d\d)(-preview(\.\d+)?)?$/.test(version)) {
    throw badParameter(`The specified version (${version.slice(0, 50)}) is not recognized.`);
  }
}

function parseBody<T>(schema: z.ZodType<T>, body: Buffer): T {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    throw badParameter('The request body is not JSON.');
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw badParameter(
      `Property ${issue?.path.join('.') ?? ''} has invalid value: ${issue?.message ?? ''}`,
    );
  }
  return parsed.data;
}

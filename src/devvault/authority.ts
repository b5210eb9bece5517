// SPDX-License-Identifier: Apache-2.0
import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../base/atomic-file.js';
import { codeOf, KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import type { VaultState } from './state.js';
import { issueToken } from './tokens.js';

/** An answer of the token endpoint or of OpenID discovery. */
export interface AuthorityAnswer {
  readonly status: number;
  readonly body: object;
}

export interface AuthorityRequest {
  readonly method: string;
  /** Percent-decoded path segments. */
  readonly segments: readonly string[];
  readonly body: Buffer;
}

/** `https://127.0.0.1:PORT/TENANT/`: the `iss` of tokens. */
export function issuerOf(baseUrl: string, tenantId: string): string {
  return `${baseUrl}/${tenantId}/`;
}

const DISCOVERY = ['.well-known', 'openid-configuration'] as const;

/**
 * Which endpoint of the authority a request is for: as Entra's, each stands below a tenant, with or
 * without `v2.0`. Undefined: the request is for the vault.
 */
export function routeAuthority(
  segments: readonly string[],
): 'token' | 'discovery' | 'jwks' | undefined {
  const path = segments.slice(1).join('/');
  if (path === 'oauth2/v2.0/token') return 'token';
  if (path === 'discovery/v2.0/keys') return 'jwks';
  if (path === `v2.0/${DISCOVERY.join('/')}` || path === DISCOVERY.join('/')) return 'discovery';
  return undefined;
}

export function answerAuthority(
  request: AuthorityRequest,
  about: { state: VaultState; baseUrl: string; secretHash: Buffer; nowMs: number },
): AuthorityAnswer {
  const { state, baseUrl } = about;
  const tenant = request.segments[0] ?? '';
  if (tenant !== state.tenantId) {
    return refuse(
      400,
      'invalid_request',
      90002,
      `Tenant '${tenant}' not found. Check to make sure you have the correct tenant ID.`,
    );
  }
  const endpoint = routeAuthority(request.segments);
  // The signing key is symmetric and stays here: nothing to publish.
  if (endpoint === 'jwks') return { status: 200, body: { keys: [] } };
  if (endpoint === 'discovery') return { status: 200, body: discoveryDocument(baseUrl, tenant) };
  if (request.method !== 'POST') {
    return refuse(
      405,
      'invalid_request',
      900561,
      `The endpoint only accepts POST requests. Received a ${request.method} request.`,
    );
  }
  const form = new URLSearchParams(request.body.toString('utf8'));
  return checkClient(form, state, about.secretHash) ?? grant(form, about);
}

function discoveryDocument(baseUrl: string, tenantId: string): object {
  return {
    issuer: `${baseUrl}/${tenantId}/v2.0`,
    token_endpoint: `${baseUrl}/${tenantId}/oauth2/v2.0/token`,
    authorization_endpoint: `${baseUrl}/${tenantId}/oauth2/v2.0/authorize`,
    jwks_uri: `${baseUrl}/${tenantId}/discovery/v2.0/keys`,
    token_endpoint_auth_methods_supported: ['client_secret_post'],
    response_types_supported: ['code'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['HS256'],
  };
}

/** Undefined if the application and its secret are good. */
function checkClient(
  form: URLSearchParams,
  state: VaultState,
  secretHash: Buffer,
): AuthorityAnswer | undefined {
  const clientId = form.get('client_id') ?? '';
  if (form.get('grant_type') !== 'client_credentials') {
    return refuse(
      400,
      'unsupported_grant_type',
      70003,
      `The app requested an unsupported grant type '${form.get('grant_type') ?? ''}'.`,
    );
  }
  if (clientId !== state.clientId || state.application === 'deleted') {
    return refuse(
      400,
      'unauthorized_client',
      700016,
      `Application with identifier '${clientId}' was not found in the directory ` +
        `'${state.tenantId}'.`,
    );
  }
  if (state.application === 'disabled') {
    return refuse(401, 'unauthorized_client', 7000112, `Application '${clientId}' is disabled.`);
  }
  const secret = form.get('client_secret');
  if (secret === null) {
    return refuse(
      401,
      'invalid_client',
      7000216,
      "'client_assertion' or 'client_secret' is required for the 'client_credentials' grant type.",
    );
  }
  if (!timingSafeEqual(hashSecret(secret), secretHash)) {
    return refuse(
      401,
      'invalid_client',
      7000215,
      'Invalid client secret provided. Ensure the secret being sent in the request is the client ' +
        `secret value, not the client secret ID, for a secret added to app '${clientId}'.`,
    );
  }
  if (state.application === 'secret-expired') {
    return refuse(
      401,
      'invalid_client',
      7000222,
      `The provided client secret keys for app '${clientId}' are expired.`,
    );
  }
  return undefined;
}

function grant(
  form: URLSearchParams,
  about: { state: VaultState; baseUrl: string; nowMs: number },
): AuthorityAnswer {
  const scope = form.get('scope') ?? '';
  // MSAL adds the OpenID scopes to some requests; the resource is the one that ends with /.default.
  const resource = scope.split(' ').find((part) => part.endsWith('/.default'));
  if (resource === undefined) {
    return refuse(
      400,
      'invalid_scope',
      1002012,
      `The provided value for scope ${scope} is not valid. Client credential flows must have a ` +
        'scope value with /.default suffixed to the resource identifier (application ID URI).',
    );
  }
  const { state, baseUrl, nowMs } = about;
  return {
    status: 200,
    body: {
      token_type: 'Bearer',
      expires_in: state.tokenLifetimeSeconds,
      ext_expires_in: state.tokenLifetimeSeconds,
      access_token: issueToken(state, {
        audience: resource.slice(0, -'/.default'.length),
        issuer: issuerOf(baseUrl, state.tenantId),
        nowMs,
      }),
    },
  };
}

/** Entra's error body. */
export function refuse(
  status: number,
  error: string,
  number: number,
  text: string,
): AuthorityAnswer {
  const traceId = randomUUID();
  return {
    status,
    body: {
      error,
      error_description: `AADSTS${number}: ${text} Trace ID: ${traceId}`,
      error_codes: [number],
      timestamp: new Date().toISOString(),
      trace_id: traceId,
      correlation_id: randomUUID(),
    },
  };
}

/** Equal lengths for the comparison in constant time. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** The registered application's secret, made at first start; only its hash is kept in memory. */
export async function loadClientSecret(stateDir: string): Promise<{ path: string; hash: Buffer }> {
  const path = join(stateDir, 'client-secret');
  let secret: string;
  try {
    secret = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    secret = randomBytes(30).toString('base64url');
    await writeFileAtomic(path, `${secret}\n`, { mode: 0o600 });
  }
  if (secret.length < 16) {
    throw new KeyholdError(
      codes.ERR_DEVVAULT_STATE,
      `cannot use the client secret in ${path}: it has ${secret.length} characters, needs 16`,
      { fields: { path } },
    );
  }
  return { path, hash: hashSecret(secret) };
}

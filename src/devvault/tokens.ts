// SPDX-License-Identifier: Apache-2.0
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { unauthorized, type Caller, type Refusal } from './refusals.js';
import type { VaultState } from './state.js';

const claimsSchema = z.object({
  aud: z.string(),
  iss: z.string(),
  appid: z.string(),
  oid: z.string(),
  generation: z.number(),
  exp: z.number(),
});

const HEADER = encodeJson({ typ: 'JWT', alg: 'HS256' });

function encodeJson(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function signature(secret: string, payload: string): Buffer {
  return createHmac('sha256', Buffer.from(secret, 'base64')).update(payload).digest();
}

/** A JWT-shaped bearer token; to clients it is opaque, as Entra's are. */
export function issueToken(
  state: VaultState,
  request: { audience: string; issuer: string; nowMs: number },
): string {
  const nowS = Math.floor(request.nowMs / 1000);
  const payload = `${HEADER}.${encodeJson({
    aud: request.audience,
    iss: request.issuer,
    appid: state.clientId,
    oid: state.objectId,
    tid: state.tenantId,
    iat: nowS,
    generation: state.tokenGeneration,
    nbf: nowS,
    exp: nowS + state.tokenLifetimeSeconds,
    jti: randomUUID(),
  })}`;
  return `${payload}.${signature(state.tokenSecret, payload).toString('base64url')}`;
}

/** Tells who calls, or why the token is not accepted. */
export function checkToken(
  state: VaultState,
  token: string,
  expected: { audience: string; issuer: string; nowMs: number },
): Caller | Refusal {
  const claims = readClaims(state.tokenSecret, token);
  if (claims === undefined) {
    return unauthorized('AKV10032: Invalid token: it cannot be read or its signature is wrong.');
  }
  if (claims.iss !== expected.issuer) {
    return unauthorized(
      `AKV10032: Invalid issuer. Expected one of ${expected.issuer}, found ${claims.iss}.`,
    );
  }
  if (claims.aud !== expected.audience) {
    return unauthorized(
      `AKV10022: Invalid audience. Expected ${expected.audience}, found: ${claims.aud}.`,
    );
  }
  if (claims.exp * 1000 <= expected.nowMs || claims.generation !== state.tokenGeneration) {
    return unauthorized(
      "[TokenExpired] Error validating token: 'IDX10223: Lifetime validation failed'.",
    );
  }
  return { clientId: claims.appid, objectId: claims.oid, issuer: claims.iss };
}

function readClaims(secret: string, token: string): z.infer<typeof claimsSchema> | undefined {
  const parts = token.split('.');
  if (parts.length !== 3 || parts[0] !== HEADER) return undefined;
  const given = Buffer.from(parts[2] ?? '', 'base64url');
  const wanted = signature(secret, `${parts[0]}.${parts[1] ?? ''}`);
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) return undefined;
  // Signed by this vault, so it is JSON; the schema guards against tokens of another version.
  const parsed: unknown = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString('utf8'));
  return claimsSchema.safeParse(parsed).data;
}
